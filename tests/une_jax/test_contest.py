"""Ways of editing side by side, of effects that are known."""

import dataclasses

import numpy as np
import pytest

from une_jax.report import contest
from une_jax.report.effects import Measured, Walk

NAMES = ("Beard", "Male", "Young")
STEPS = np.float32([1, 2, 4])
N = 30


def measured(way, gain, *, leak, far=None, seed=0):
    """Edits of Beard and Male that change their score by ``gain`` a step, and each of
    the others by ``leak`` of that, beside what differs between images."""
    rng = np.random.default_rng(seed)
    change = np.zeros((2, N, len(STEPS), 3), np.float32)
    each = 1 + 0.1 * rng.standard_normal((2, N, 1))
    for w in range(2):
        own = gain[w] * STEPS[None] * each[w]
        change[w] = leak * own[..., None]
        change[w, :, :, w] = own
    size = np.abs(change.max(-1))
    return Measured(
        walks=tuple(Walk(attribute=name, way=way) for name in NAMES[:2]),
        steps=STEPS,
        length=1.0,
        judge="known",
        names=NAMES,
        change=change,
        collateral=np.float32(leak) * size,
        identity=np.float32(1) - np.float32(0.1) * size,
        missed=np.full((2, N, 3), 0.01, np.float32),
        distance=None if far is None else np.float32(far) * size,
    )


@pytest.fixture(scope="module")
def entries():
    ways = {
        "first": measured("first", (0.5, 0.5), leak=0.2, far=0.1),
        "cleaner": measured("cleaner", (1.0, 2.0), leak=0.1, far=0.3, seed=1),
        "half": measured("half", (0.5, 0.01), leak=0.2, far=0.1),
    }
    return [contest.enter(name, m, 1.0, replicates=100) for name, m in ways.items()]


def test_ways_are_compared_at_an_equal_change_whatever_their_strengths(entries):
    first, cleaner, half = contest.rows(entries)
    assert [r["reached"] for r in (first, cleaner, half)] == ["2 of 2", "2 of 2", "1 of 2"]  # fmt: skip
    assert first["collateral"] == pytest.approx(0.2, rel=1e-3)
    assert cleaner["collateral"] == pytest.approx(0.1, rel=1e-3)
    assert cleaner["from the data"] == pytest.approx(0.3, rel=1e-3)
    assert first["identity"] == pytest.approx(0.9, rel=1e-3)
    assert first["psnr outside"] == pytest.approx(20, abs=0.01)
    assert (first["vs first"], first["low"], first["high"]) == (0, 0, 0)
    assert cleaner["vs first"] == pytest.approx(-0.5, rel=1e-2)
    assert cleaner["low"] <= cleaner["vs first"] <= cleaner["high"] < 0
    # Over Beard alone, which is all that it reaches.
    assert half["vs first"] == pytest.approx(0, abs=1e-3)
    assert half["most"] == pytest.approx((0.5 * 4 + 0.01 * 4) / 2, rel=0.1)


def test_an_attribute_that_is_not_reached_has_dashes(entries):
    rows = {(r["way"], r["attribute"]): r for r in contest.by_attribute(entries)}
    assert len(rows) == 6
    assert rows["first", "Male"]["step"] == pytest.approx(2, rel=0.1)
    assert rows["cleaner", "Male"]["step"] == pytest.approx(0.5, rel=0.1)
    assert np.isnan(rows["half", "Male"]["step"])
    assert rows["half", "Male"]["most"] == pytest.approx(0.04, rel=0.1)


def test_ways_of_other_attributes_are_compared_where_they_meet():
    m = measured("some", (1, 1), leak=0.1, far=0.1)
    keys = ("change", "collateral", "identity", "missed", "distance")
    male = dataclasses.replace(
        m, walks=m.walks[1:], **{k: getattr(m, k)[1:] for k in keys}
    )
    both = measured("first", (0.5, 0.5), leak=0.2, far=0.1)
    both.collateral[0] *= 3  # of Beard, which is not compared
    first, some = contest.rows(
        [contest.enter(x.walks[0].way, x, replicates=100) for x in (both, male)]
    )
    assert (first["reached"], some["reached"]) == ("2 of 2", "1 of 1")
    assert some["vs first"] == pytest.approx(-0.5, abs=0.02)


def test_without_a_distance_there_is_no_column_of_it(entries):
    plain = contest.enter("plain", measured("plain", (1, 1), leak=0.1), replicates=10)
    assert "from the data" not in contest.rows([plain])[0]
    assert contest.figure([plain]).png != contest.figure(entries).png
