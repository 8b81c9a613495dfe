"""Directions of h by difference of means, balanced, in strata, held apart of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import hspace_directions as directions
from une_jax.errors import UneError

N, T, SHAPE = 400, 2, (2, 2, 5)
RNG = np.random.default_rng(0)
# Glasses go with age, as in CelebA; each has a direction of its own in h.
PLANTED = RNG.standard_normal((2, T, *SHAPE))
AGE = RNG.standard_normal(N)
GLASSES = 0.7 * AGE + 0.7 * RNG.standard_normal(N)
H = np.einsum("nk,k...->n...", np.stack([GLASSES, AGE], 1), PLANTED)
H = jnp.asarray(H + 0.1 * RNG.standard_normal(H.shape) + 4, jnp.float32)
OLD = jnp.asarray(AGE > 0, jnp.int32)
SCORE = jnp.asarray(GLASSES, jnp.float32)


def coefficients(v):
    """Of a direction in the two planted ones."""
    a = PLANTED.reshape(2, -1).T
    return np.linalg.lstsq(a, np.asarray(v, np.float64).ravel(), rcond=None)[0]


def test_a_difference_is_that_of_the_highest_and_the_lowest_scores():
    weights = jax.jit(directions.contrast, static_argnames="count")(SCORE, count=50)
    order = np.argsort(SCORE)
    want = H[order[-50:]].mean(0) - H[order[:50]].mean(0)
    got = jax.jit(directions.difference)(H, weights)
    assert got.shape == (T, *SHAPE)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_planted_direction_is_recovered():
    h = jnp.asarray(np.multiply.outer(GLASSES, PLANTED[0]) + 1, jnp.float32)
    got = np.asarray(directions.difference(h, directions.contrast(SCORE, 20)))
    cosine = (got * PLANTED[0]).sum() / np.linalg.norm(got) / np.linalg.norm(PLANTED[0])
    assert cosine > 0.9999


def test_directions_of_batches_add_up():
    weights = directions.contrast(SCORE, 100)
    whole = directions.difference(H, weights)
    parts = zip(jnp.split(H, 4), jnp.split(weights, 4), strict=True)
    added = sum(directions.difference(h, w) for h, w in parts)
    np.testing.assert_allclose(added, whole, atol=1e-4)


def test_balance_takes_the_second_attribute_out():
    plain = coefficients(directions.difference(H, directions.contrast(SCORE, 100)))
    weights = jax.jit(directions.balanced, static_argnames=("count", "levels"))(
        SCORE, OLD, count=100, levels=2
    )
    for level in (0, 1):  # as many old ones with glasses as without
        mine = np.asarray(weights)[np.asarray(OLD) == level]
        np.testing.assert_allclose([mine[mine > 0].sum(), mine.sum()], [0.5, 0], atol=1e-6)  # fmt: skip
    fair = coefficients(directions.difference(H, weights))
    assert plain[1] / plain[0] > 0.6  # entangled
    assert fair[1] / fair[0] < 0.6 * plain[1] / plain[0]


def test_finer_strata_leave_less_of_it():
    fine = np.digitize(AGE, np.quantile(AGE, np.linspace(0, 1, 11)[1:-1])).astype(np.int32)  # fmt: skip
    weights = directions.balanced(SCORE, jnp.asarray(fine), 100, levels=10)
    fair = coefficients(directions.difference(H, weights))
    assert abs(fair[1] / fair[0]) < 0.2


def test_the_undecided_and_strata_of_one_do_not_count():
    score, strata = jnp.arange(7.0), jnp.array([0, 0, -1, 0, 1, 2, 2])
    weights = directions.balanced(score, strata, 3, levels=3)
    want = [-0.5, 0, 0, 0.5, 0, -0.5, 0.5]
    np.testing.assert_allclose(weights, want)


def test_a_stratum_has_its_own_direction():
    """h of the old: glasses turn into another direction there."""
    turned = PLANTED[np.asarray(OLD)]
    h = jnp.asarray(GLASSES[:, None, None, None, None] * turned, jnp.float32)
    masks = jnp.stack([OLD == 0, OLD == 1])

    def within(mask):
        return directions.difference(h, directions.contrast(SCORE, 30, within=mask))

    young, old = jax.vmap(within)(masks)
    assert abs(coefficients(young)[1]) < 1e-4 < coefficients(young)[0]
    assert abs(coefficients(old)[0]) < 1e-4 < coefficients(old)[1]


def test_small_strata_split_in_half_and_nan_is_never_taken():
    score = jnp.array([jnp.nan, 1.0, 2.0, 3.0, 9.0, -jnp.inf])
    all_but_9 = jnp.array([True, True, True, True, False, False])
    got = directions.contrast(score, 3, within=all_but_9)
    assert got.tolist() == [0, -1, 0, 1, 0, 0]
    none = directions.contrast(score, 3, within=jnp.zeros(6, bool))
    assert none.tolist() == [0] * 6
    ends = directions.contrast(score, 1)
    assert ends.tolist() == [0, 0, 0, 0, 1, -1]


def test_equal_scores_are_taken_in_the_order_of_the_samples():
    got = directions.contrast(jnp.zeros(6), 2)
    assert got.tolist() == [-0.5, -0.5, 0, 0, 0.5, 0.5]


def test_projection_is_orthogonal_to_each_over_all_steps():
    v = jnp.asarray(PLANTED[0], jnp.float32)
    others = jnp.asarray(RNG.standard_normal((3, T, *SHAPE)), jnp.float32)
    got = jax.jit(directions.project)(v, others)
    inner = np.asarray(others).reshape(3, -1) @ np.asarray(got).ravel()
    assert np.abs(inner).max() < 1e-4
    a = np.asarray(others, np.float64).reshape(3, -1).T
    rest = PLANTED[0].ravel() - a @ np.linalg.lstsq(a, PLANTED[0].ravel(), rcond=None)[0]  # fmt: skip
    np.testing.assert_allclose(np.asarray(got).ravel(), rest, atol=1e-5)
    # Not at each step alone, which would take more away.
    assert np.abs(np.einsum("thwc,thwc->t", got, others[0])).max() > 0.1


def test_one_against_one_is_the_formula_and_against_itself_nothing():
    v, w = jnp.asarray(PLANTED, jnp.float32)
    got = directions.project(v, w)
    want = PLANTED[0] - PLANTED[1] * (PLANTED[0] * PLANTED[1]).sum() / (PLANTED[1] ** 2).sum()  # fmt: skip
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_array_equal(directions.project(v, jnp.stack([v, w])), 0)


def test_projection_works_under_vmap_and_grad():
    vs = jnp.asarray(PLANTED, jnp.float32)
    w = jnp.asarray(RNG.standard_normal((T, *SHAPE)), jnp.float32)
    many = jax.vmap(directions.project, (0, None))(vs, w)
    np.testing.assert_allclose(many[1], directions.project(vs[1], w), atol=1e-5)
    grad = jax.grad(lambda w: directions.project(vs[0], w).sum())(w)
    assert jnp.isfinite(grad).all() and jnp.abs(grad).max() > 0


def test_the_spread_is_along_the_unit_direction_over_all_steps():
    vs = jnp.asarray(PLANTED, jnp.float32)
    got = jax.vmap(directions.spread, (None, 0))(H, vs)
    unit = PLANTED.reshape(2, -1) / np.linalg.norm(PLANTED.reshape(2, -1), axis=1)[:, None]  # fmt: skip
    want = (np.asarray(H, np.float64).reshape(N, -1) @ unit.T).std(0)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_what_cannot_be_is_refused():
    score = jnp.arange(4.0)
    with pytest.raises(UneError, match="count is 3; of 4 samples use 1 to 2"):
        directions.contrast(score, 3)
    with pytest.raises(UneError, match="count is 1 for 2 strata"):
        directions.balanced(score, jnp.zeros(4, jnp.int32), 1, levels=2)
    with pytest.raises(UneError, match="cannot be held apart"):
        directions.project(jnp.ones((2, 3)), jnp.ones((2, 2, 2)))
