"""t_edit and t_boost off curves whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import edit_interval
from une_jax.errors import UneError

T = np.arange(999, -1, -1)
# A distance that rises evenly from 0 to 0.555, and a deficiency from 0 to 2.
DISTANCE, DEFICIENCY = 0.555 * T / 999, 2 * T / 999


@pytest.mark.parametrize(("cosine", "t"), ((1.0, 594), (0.9, 535), (0.8, 476)))
def test_t_edit_of_a_straight_curve(cosine, t):
    """0.33 * cosine / 0.555 * 999, rounded up."""
    assert edit_interval.t_edit(DISTANCE, T, cosine) == t
    assert t == int(np.ceil(0.33 * cosine / 0.555 * 999))


def test_t_boost_of_a_straight_curve():
    assert edit_interval.t_boost(DEFICIENCY, T) == 600  # 1.2 / 2 * 999, rounded up
    assert edit_interval.t_boost(DEFICIENCY, T, threshold=0.334) == 167


def test_order_does_not_matter_nor_whose_arrays_they_are():
    at = np.random.default_rng(0).permutation(len(T))
    shuffled = edit_interval.t_edit(jnp.asarray(DISTANCE[at], jnp.float32), jnp.asarray(T[at]), 1.0)  # fmt: skip
    assert shuffled == 594


def test_a_curve_that_turns_has_its_smallest():
    assert edit_interval.t_edit(np.array([0.4, 0.2, 0.35, 0.1]), np.array([900, 600, 300, 0]), 1.0) == 300  # fmt: skip


def test_editing_strength_is_what_is_left():
    found = edit_interval.editing_strength(DISTANCE, T)
    assert found[0] == 0 and found[-1] == pytest.approx(0.555)
    assert (np.diff(found) > 0).all()
    backwards = edit_interval.editing_strength(DISTANCE[::-1], T[::-1])
    np.testing.assert_array_equal(backwards, found[::-1])


def test_where_no_t_qualifies_it_says_so():
    with pytest.raises(UneError, match=r"at most 0.555 and never reaches 0.9: there is no t_edit"):  # fmt: skip
        edit_interval.t_edit(DISTANCE, T, 1.0, threshold=0.9)
    with pytest.raises(UneError, match="there is no t_boost; lower its threshold"):
        edit_interval.t_boost(DISTANCE, T)
    with pytest.raises(UneError, match="cosine of -0.1"):
        edit_interval.t_edit(DISTANCE, T, -0.1)
    with pytest.raises(UneError, match=r"distance\(x, P_t\) has no timesteps"):
        edit_interval.t_edit(np.zeros(0), np.zeros(0, int), 1.0)
    bad = np.where(T == 7, np.nan, DISTANCE)
    with pytest.raises(UneError, match="is not finite at t = 7"):
        edit_interval.t_edit(bad, T, 1.0)


@pytest.mark.parametrize("scale", (0.1, 1.0, 7.0))
def test_a_relative_threshold_goes_with_the_measures_scale(scale):
    """Of a measure that is LPIPS times a number, the same timesteps come out."""
    lpips, noise = 1.1445 * T / 999, 1.3883 * T / 999
    for curve, choose, usual, at_T in (
        (lpips, lambda c, **k: edit_interval.t_edit(c, T, 0.9, **k), 0.33, 1.1445),
        (noise, lambda c, **k: edit_interval.t_boost(c, T, **k), 1.2, 1.3883),
    ):
        own = edit_interval.relative(scale * curve[::-1], T[::-1], usual, at_T)
        assert own == pytest.approx(scale * usual)
        assert choose(scale * curve, threshold=own - 1e-9) == choose(curve)
