"""What is claimed of h-space, told of effects that are made up: as it should be."""

import numpy as np
import pytest

from une_jax.report import hspace_properties as report
from une_jax.report.hspace_properties import Effect

N, K = 30, 8
RNG = np.random.default_rng(0)


def effect(scores):
    return Effect(np.asarray(scores, np.float32), np.abs(scores).mean(1))


@pytest.fixture(scope="module")
def ideal():
    """All images alike, everything linear, the random move a tenth."""
    one = np.tile(RNG.normal(size=K), (N, 1))
    noise = RNG.normal(size=(N, K))
    return {
        "full": effect(one),
        "half": effect(one / 2),
        "minus": effect(-one),
        "random": effect(0.1 * noise),
        "steady": effect(one),
        "backwards": effect(noise),
        "other": effect(one),
    }


def by_name(numbers):
    return {f"{n.claim}: {n.what}": n for n in numbers}


def control(number):
    assert number.control is not None
    return number.control.middle


def test_where_all_claims_hold_the_numbers_are_what_is_claimed(ideal):
    found = by_name(report.claims("made up", ideal))
    for name, n in found.items():
        if "random" not in name:
            assert n.here.middle == pytest.approx(n.claimed, abs=1e-4), name
    ratio = found["robust: random move, scores"].here
    assert ratio.low < ratio.middle < ratio.high < 0.2
    assert control(found["homogeneous: cosine with the others' change"]) < 0.3
    assert control(found["steady: the mean over time, R²"]) < 0.4


def test_where_images_differ_it_is_said(ideal):
    own = RNG.normal(size=(N, K))
    changed = ideal | {"full": effect(own), "half": effect(0.5 * own + 1)}
    found = by_name(report.claims("made up", changed))
    assert found["homogeneous: cosine with the others' change"].here.middle < 0.3
    assert found["linear: 1 against 0.5, R²"].here.middle < 0.9
    # Of images that differ, another one's change explains nothing.
    assert control(found["linear: 1 against 0.5, R²"]) < 0.3
    assert "homogeneous: the mean move, R²" not in found


def test_sums_are_of_both(ideal):
    a, b = effect(RNG.normal(size=(N, K))), effect(RNG.normal(size=(N, K)))
    slope, r2 = report.sums("a + b", a, b, effect(0.8 * (a.scores + b.scores)))
    assert slope.here.middle == pytest.approx(0.8, abs=1e-4)
    assert r2.here.middle == pytest.approx(1, abs=1e-4) and control(r2) < 0.5


def test_table_and_figure(ideal):
    numbers = report.claims("Wearing_Hat", ideal)
    table = report.rows(numbers)
    assert len(table) == len(numbers) and {row["of"] for row in table} == {
        "Wearing_Hat"
    }
    robust = next(row for row in table if row["claim"] == "robust")
    assert robust["control"] != robust["control"]  # none
    svg = report.draw(numbers).svg
    assert b"Wearing Hat" in svg and b"linear: -1 against 1, slope" in svg
    assert b"R\xc2\xb2" not in svg
