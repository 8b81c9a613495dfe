"""Directions of h with others left alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import hspace_directions
from une_jax.errors import UneError
from une_jax.hspace_files import pack, unpack
from une_jax.hspace_keeping import held
from une_jax.zoo import View

VIEW = View(
    name="sd",
    kind="generator",
    model_id="some/sd",
    weights_sha256="0" * 64,
    config={},
    shape=(4, 8, 8),
    dtype="float32",
    settings={},
)
NAMES = ("Hat", "Male", "Young", "Both")
MOVES = np.random.default_rng(0).standard_normal((3, 2, 2, 1, 5)).astype(np.float32)
MOVES = np.concatenate([MOVES, MOVES[1:2] + 2 * MOVES[2:]])


@pytest.fixture
def every():
    spread = np.arange(1, 5, dtype=np.float32)
    return pack(NAMES, MOVES, VIEW, [500, 0], spread=spread, method={"name": "h means"})


def test_it_is_the_linear_projection_at_the_length_that_is_left(every):
    found = held(every, ["Hat"], ["Male", "Young"])
    wanted = np.asarray(
        hspace_directions.project(*map(jnp.asarray, (MOVES[0], MOVES[1:3])))
    )
    np.testing.assert_allclose(unpack(found)[0], wanted, atol=1e-5)
    left = np.linalg.norm(wanted) / np.linalg.norm(MOVES[0])
    assert found.method["keep"] == ["Male", "Young"]
    assert found.method["left"]["Hat"] == pytest.approx(left, rel=1e-5)
    assert found.spread[0] == pytest.approx(every.spread[0] * left, rel=1e-5)


def test_with_nothing_to_keep_it_is_what_was_there(every):
    found = held(every, ["Young", "Hat"])
    assert found.names == ("Young", "Hat") and "left" not in found.method
    np.testing.assert_array_equal(found.moves, every.moves[[2, 0]])
    np.testing.assert_array_equal(found.spread, every.spread[[2, 0]])


@pytest.mark.parametrize("names, keep, says", [
    (["Hat"], ["Hat"], "Hat is to be changed and kept"),
    (["Hat"], ["Hats"], "did you mean Hat"),
    (["Both"], ["Male", "Young"], "Both has no direction of its own in sd.h beside Male, Young"),
])  # fmt: skip
def test_what_cannot_be_is_refused(every, names, keep, says):
    with pytest.raises(UneError, match=says):
        held(every, names, keep)
