"""What the report says of edits in h beside those in the noise."""

import numpy as np
import pytest

from une_jax.cli.sections import spaces
from une_jax.report import effects

NAN = float("nan")


def row(change, low=NAN, high=NAN, reached="3 of 6"):
    return {"vs first": change, "low": low, "high": high, "reached": reached}


@pytest.mark.parametrize(
    "h, verdict",
    [
        (row(-0.2, -0.3, -0.1), "Yes: others change 20 % less."),
        (row(0.2, 0.1, 0.3), "No: others change 20 % more."),
        (row(0.16, -0.02, 0.35), "Not shown: +16 % (-2 to +35) is within chance."),
        (row(0.16), "Not shown: +16 % is within chance."),
    ],
)
def test_the_verdict_follows_from_the_interval(h, verdict):
    found = spaces.beside_noise(row(0.0, reached="5 of 6"), h)
    assert found is not None and found.verdict == verdict
    assert "3 of 6" in found.of and "5 of 6" in found.beside_of
    assert found.value == pytest.approx(h["vs first"])


def test_where_no_attribute_gets_there_nothing_is_found():
    assert spaces.beside_noise(row(0.0), row(NAN)) is None
    assert spaces.against(row(NAN)) == "–"


def test_a_way_that_keeps_nothing_of_an_attribute_is_its_plain_one():
    walks = [("Hat", "plain"), ("Hat", "conditional"), ("Male", "plain")]
    each = np.arange(3, dtype=np.float32)[:, None, None] * np.ones(
        (3, 2, 1), np.float32
    )
    measured = effects.Measured(
        walks=tuple(effects.Walk(attribute=a, way=w) for a, w in walks),
        steps=np.ones(1, np.float32),
        length=1.0,
        judge="eyes",
        names=("Hat", "Male"),
        change=np.stack([each, each], axis=-1),
        collateral=each,
        identity=each,
        missed=each,
    )
    kept = spaces.part(measured, ["Male", "Hat"], "conditional")
    assert [(w.attribute, w.way) for w in kept.walks] == [walks[2], walks[1]]
    for field in ("change", "collateral", "identity", "missed"):
        assert getattr(kept, field).reshape(2, -1)[:, 0].tolist() == [2, 1]
