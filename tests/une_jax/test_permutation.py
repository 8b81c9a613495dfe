"""Permutation nulls: exact p-values by hand, scipy's, and the level that they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from une_jax import permutation
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("quick_compiles")

FIELDS = permutation.Null._fields

# Compiled once a shape.
compare = jax.jit(permutation.compare, static_argnames=("level", "best"))
familywise = jax.jit(permutation.familywise)


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_every_number_by_its_definition():
    samples = np.random.default_rng(0).normal(size=99).astype(np.float32)
    for observed in (-3.0, 0.3, 1.9, 5.0):
        null = compare(jnp.float32(observed), jnp.asarray(samples), best=8.0)
        threshold = np.sort(samples)[99 - 5]
        np.testing.assert_allclose(null.mean, samples.mean(), atol=1e-6)
        np.testing.assert_allclose(null.std, samples.std(ddof=1), rtol=1e-6)
        z = (observed - samples.mean()) / samples.std(ddof=1)
        np.testing.assert_allclose(null.z, z, rtol=1e-5)
        p = (1 + (samples >= observed).sum()) / 100
        np.testing.assert_allclose(null.pvalue, p, rtol=1e-6)
        np.testing.assert_allclose(null.threshold, threshold, rtol=1e-6)
        excess = (observed - threshold) / (8 - threshold)
        np.testing.assert_allclose(null.excess, excess, rtol=1e-5)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("count", [99, 199, 200])
def test_the_excess_is_positive_exactly_where_p_is_within_the_level(level, count):
    samples = normal(count)
    observed = jnp.linspace(-2, 3, 301)
    null = compare(
        observed,
        jnp.broadcast_to(samples[:, None], (count, 301)),
        level=level,
        best=9.0,
    )
    significant = np.asarray(null.pvalue) <= level + 1e-7
    assert 0 < significant.sum() < 301
    np.testing.assert_array_equal(np.asarray(null.excess) > 0, significant)


def test_ties_count_against_the_observed_one():
    samples = jnp.array([1.0, 1.0 - 2e-7, 0.5, 0.0])
    assert compare(jnp.float32(1), samples).pvalue == pytest.approx(3 / 5)


def test_too_few_permutations_for_the_level_have_no_threshold():
    few = compare(jnp.float32(1), jnp.zeros(18))
    assert jnp.isinf(few.threshold) and jnp.isnan(few.excess)
    assert few.pvalue == pytest.approx(1 / 19)
    enough = compare(jnp.float32(1), jnp.zeros(19))
    assert enough.threshold == 0 and enough.excess == 1


@pytest.mark.parametrize("where", ["observed", "samples"])
def test_nan_is_not_significant(where):
    """A comparison with NaN is false, which must not become the smallest p."""
    observed, samples = jnp.ones(2), jnp.zeros((99, 2))
    if where == "observed":
        observed = observed.at[0].set(jnp.nan)
    else:
        samples = samples.at[7, 0].set(jnp.nan)
    null = compare(observed, samples)
    for field in ("threshold", "z", "pvalue", "excess"):
        assert jnp.isnan(getattr(null, field)[0])
    assert null.pvalue[1] == pytest.approx(0.01)
    adjusted = familywise(normal(2), normal(99, 2).at[7, 0].set(jnp.nan))
    assert jnp.isnan(adjusted).tolist() == [True, False]


def test_p_equals_scipys_on_the_same_statistic():
    """Of all 720 pairings of six rows, each once."""
    x, y = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.5, 1, 2.5, 5, 3, 4])

    def statistic(y):
        return float((x * y).sum())

    want = scipy.stats.permutation_test(
        (y,), statistic, permutation_type="pairings", alternative="greater",
        n_resamples=10_000,
    )  # fmt: skip
    assert len(want.null_distribution) == 720
    null = compare(
        jnp.float32(statistic(y)), jnp.asarray(want.null_distribution, jnp.float32)
    )
    # scipy's counts the identity among the 720; ours is for random ones, and adds one.
    np.testing.assert_allclose(null.pvalue, (1 + want.pvalue * 720) / 721, rtol=1e-5)


def test_the_test_keeps_its_level_and_finds_what_is_there(key):
    """p of unrelated views is uniform on multiples of 1 / (B + 1)."""
    n, repeats = 20, 400

    def pvalue(key, strength):
        a, b, c = jax.random.split(key, 3)
        x = jax.random.normal(a, (n,))
        y = strength * x + jax.random.normal(b, (n,))
        return permutation.test(lambda o: x @ y[o], c, n, permutations=39).pvalue

    many = jax.jit(jax.vmap(pvalue, in_axes=(0, None)))
    keys = jax.random.split(key, repeats)
    p = many(keys, jnp.float32(0))
    places = np.round(np.asarray(p) * 40).astype(int)
    np.testing.assert_allclose(places / 40, p, atol=1e-6)
    assert scipy.stats.chisquare(np.bincount(places, minlength=41)[1:]).pvalue > 0.01
    assert (many(keys, jnp.float32(2)) <= 0.05).mean() > 0.9


# Several at once


def test_the_largest_is_compared_with_the_largest_of_each_permutation():
    observed, samples = normal(3, 4), normal(99, 3, 4, seed=1)
    got = permutation.compare_largest(observed, samples)
    largest = np.array([sample.max() for sample in np.asarray(samples)])
    want = compare(observed.max(), jnp.asarray(largest))
    for field in FIELDS:
        np.testing.assert_allclose(getattr(got, field), getattr(want, field), rtol=1e-5)


def test_selection_without_its_null_would_be_wrong_nine_times_in_ten(key):
    """The best of 50 unrelated statistics, tested 300 times at 5 %."""
    draws = jax.random.normal(key, (300, 40, 50))
    observed, samples = draws[:, 0], draws[:, 1:]

    @jax.jit
    @jax.vmap
    def pvalues(observed, samples):
        naive = compare(observed, samples).pvalue.min()
        honest = permutation.compare_largest(observed, samples).pvalue
        return naive, honest, familywise(observed, samples).min()

    naive, honest, adjusted = pvalues(observed, samples)
    assert (naive <= 0.05).mean() > 0.85
    for p in (honest, adjusted):  # binomial: 0.05 +- 4 s.e.
        assert abs(float((p <= 0.05).mean()) - 0.05) < 4 * (0.05 * 0.95 / 300) ** 0.5


def test_familywise_does_not_see_scales_and_shifts():
    observed, samples = normal(6) + 1, normal(99, 6, seed=1)
    scale, shift = jnp.logspace(-3, 3, 6), jnp.arange(6.0)
    got = familywise(observed * scale + shift, samples * scale[None] + shift[None])
    np.testing.assert_allclose(got, familywise(observed, samples))
    raw = compare(observed, samples).pvalue
    assert (got >= raw - 1e-6).all() and (got > raw).any()


def test_familywise_by_its_definition():
    observed, samples = normal(2, 3), normal(49, 2, 3, seed=1)
    every = np.concatenate([observed[None], samples]).reshape(50, -1)
    z = (every - every.mean(0)) / every.std(0)
    want = [(1 + (z[1:].max(1) >= one).sum()) / 50 for one in z[0]]
    got = familywise(observed, samples).ravel()
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_statistic_that_never_varies_does_not_count_for_the_others():
    observed, samples = normal(3), normal(99, 3, seed=1)
    with_constant = familywise(
        jnp.append(observed, 1.0), jnp.append(samples, jnp.ones((99, 1)), axis=1)
    )
    assert jnp.isnan(with_constant[3])
    np.testing.assert_array_equal(with_constant[:3], familywise(observed, samples))


@pytest.mark.parametrize(
    "pvalues, count",
    [([0.01, 0.05, 0.06, 0.01], 2), ([0.5, 0.01], 0), ([0.01] * 3, 3),
     ([0.01, float("nan"), 0.01], 1)],
)  # fmt: skip
def test_leading_stops_at_the_first_that_is_not_significant(pvalues, count):
    assert permutation.leading(jnp.array(pvalues)) == count


# Pairings


def test_orders_are_permutations_each_another_and_uniform(key):
    orders = permutation.orders(key, 4, 4800)
    assert (np.sort(orders, axis=1) == np.arange(4)).all()
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_inverse_undoes_an_order(key):
    order, x = permutation.orders(key, 9, 1)[0], normal(9, 2)
    np.testing.assert_array_equal(x[order][permutation.inverse(order)], x)


@pytest.mark.parametrize("batch", [None, 4])
def test_test_is_the_statistic_of_the_orders_of_its_key(key, batch):
    x, y = normal(12, 2), normal(12, 2, seed=1)

    def statistic(order):
        return jnp.abs(x.T @ y[order]).max()

    got = permutation.test(statistic, key, 12, permutations=30, batch=batch)
    samples = jnp.stack([statistic(o) for o in permutation.orders(key, 12, 30)])
    want = compare(statistic(jnp.arange(12)), samples)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(got, field), getattr(want, field), rtol=1e-5)


def test_all_work_under_jit_and_vmap():
    observed, samples = normal(2, 3), normal(2, 49, 3, seed=1)
    together = jax.jit(jax.vmap(permutation.compare))(observed, samples)
    adjusted = jax.jit(jax.vmap(permutation.familywise))(observed, samples)
    for i in range(2):
        alone = compare(observed[i], samples[i])
        for field in FIELDS:
            got, want = getattr(together, field)[i], getattr(alone, field)
            np.testing.assert_allclose(got, want, rtol=1e-5)
        alone = familywise(observed[i], samples[i])
        np.testing.assert_allclose(adjusted[i], alone, rtol=1e-6)
    leading = jax.jit(jax.vmap(permutation.leading))(together.pvalue)
    assert leading.shape == (2,)


def test_bad_input_is_named(key):
    with pytest.raises(UneError, match="0 permutations; use 1 or more"):
        permutation.orders(key, 5, 0)
    with pytest.raises(UneError, match="level is 1.5; use a number between 0 and 1"):
        compare(jnp.float32(0), jnp.zeros(9), level=1.5)
