"""Tests of normality equal scipy's in float64, for every kind of column."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from une_jax import gaussianity
from une_jax.errors import UneError

TESTS = {
    "anderson_darling": jax.jit(gaussianity.anderson_darling, static_argnames="pvalue"),
    "dagostino_pearson": jax.jit(gaussianity.dagostino_pearson),
    "shapiro_wilk": jax.jit(gaussianity.shapiro_wilk),
}
every_test = jax.jit(gaussianity.every_test)


def columns(n, seed=0):
    """Normal ones, and all that are not."""
    rng = np.random.default_rng(seed)
    outlier = rng.standard_normal((n, 2))
    outlier[n // 2] = [1e4, -1e4]  # as far out as n values allow
    kinds = (
        rng.standard_normal((n, 12)),
        rng.exponential(size=(n, 4)),
        rng.standard_t(2, size=(n, 4)),
        rng.uniform(size=(n, 4)),
        rng.choice([-1.0, 1.0], size=(n, 2)) + 0.1 * rng.standard_normal((n, 2)),
        outlier,
        100 + rng.standard_normal((n, 2)),
        1e-9 * rng.standard_normal((n, 1)),
        1e30 * rng.standard_normal((n, 1)),
        rng.standard_normal((n, 1)).round(1) * 3,  # ties
    )
    return np.concatenate(kinds, axis=1).astype(np.float32)


def scipys(test, x):
    """(statistic, p-value), in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rows, many rows
        if test == "dagostino_pearson":
            return scipy.stats.normaltest(x.astype(np.float64), axis=0)
        if test == "anderson_darling":
            found = [
                scipy.stats.anderson(c, method="interpolate")
                for c in x.T.astype(np.float64)
            ]
        else:
            found = [scipy.stats.shapiro(c) for c in x.T.astype(np.float64)]
    return np.array([(f.statistic, f.pvalue) for f in found]).T


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [8, 12, 250, 5000])
@pytest.mark.parametrize("test", TESTS)
def test_equals_scipys(test, n):
    x = columns(n)
    more = {"pvalue": "scipy"} if test == "anderson_darling" else {}
    got = TESTS[test](x, **more)
    statistic, pvalue = scipys(test, x)
    assert_close(got.statistic, statistic)
    assert_close(got.pvalue, pvalue)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_shapiro_wilk_of_a_handful(n):
    x = columns(n)
    got = TESTS["shapiro_wilk"](x)
    statistic, pvalue = scipys("shapiro_wilk", x)
    assert_close(got.statistic, statistic)
    assert_close(got.pvalue, pvalue)


@pytest.fixture(scope="module")
def normal():
    """Of 6,000 normal samples, and some that are not."""
    x = np.random.default_rng(1).standard_normal((250, 6033)).astype(np.float32)
    x[:, -33:] = columns(250, seed=3)
    return every_test(x)


def test_small_pvalues_of_anderson_darling_are_those_of_the_formula(normal):
    """D'Agostino and Stephens 1986, table 4.9, by hand, on each of its pieces."""
    a = np.asarray(normal.anderson_darling.statistic, np.float64)
    a *= 1 + 0.75 / 250 + 2.25 / 250**2
    pieces = [a > 13, a >= 0.6, a > 0.34, a > 0.2, a <= 0.2]
    logs = [
        np.full_like(a, -np.inf),
        1.2937 - 5.709 * a + 0.0186 * a**2,
        0.9177 - 4.279 * a - 1.38 * a**2,
        -8.318 + 42.796 * a - 59.938 * a**2,
        -13.436 + 101.14 * a - 223.73 * a**2,
    ]
    want = np.exp(np.select(pieces, logs))
    want = np.where(a > 0.34, want, 1 - want)
    assert all(piece.any() for piece in pieces)
    np.testing.assert_allclose(normal.anderson_darling.pvalue, want, rtol=2e-5)


def test_pvalues_are_uniform_for_normal_data(normal):
    for test in normal:
        p = np.asarray(test.pvalue)[:6000]
        for level in (0.01, 0.05, 0.2, 0.5, 0.8):
            error = 4 * np.sqrt(level * (1 - level) / 6000)
            # The formulas are approximations, too.
            assert abs(np.mean(p < level) - level) < error + 0.05 * level


@pytest.mark.parametrize("n", [8, 60, 250, 5000])
@pytest.mark.parametrize("level", gaussianity.LEVELS)
def test_critical_values_are_scipys(n, level):
    x = np.random.default_rng(0).standard_normal(n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = scipy.stats.anderson(x)
        i = list(found.significance_level).index(100 * level)
        want = found.critical_values[i]
    assert gaussianity.critical_value(n, level=level) == pytest.approx(want, abs=1e-9)


def test_the_table_decides_how_many_normal_samples_pass(normal):
    """What the paper calls 96 % is the ceiling of the table that scipy had then."""
    a = np.asarray(normal.anderson_darling.statistic)[:6000]
    new = np.mean(a < gaussianity.critical_value(250))
    old = np.mean(a < gaussianity.critical_value(250, table="scipy<1.17"))
    assert gaussianity.critical_value(250, table="scipy<1.17") == 0.775
    # 20,000 other draws gave these; the errors are binomial.
    assert abs(new - 0.9495) < 4 * 0.0032
    assert abs(old - 0.957) < 4 * 0.003
    assert old > new


def test_all_three_from_one_sort_are_each():
    x = columns(30)
    for name, test in TESTS.items():
        got, want = getattr(every_test(x), name), test(x)
        np.testing.assert_allclose(got.statistic, want.statistic, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.pvalue, want.pvalue, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [30, 600])
def test_constant_and_unknown_columns_are_nan_and_leave_the_others_alone(n):
    x = np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)
    good = every_test(x)
    x[:, 0], x[3, 1], x[4, 2] = 0.1, np.nan, np.inf
    for got, want in zip(every_test(x), good, strict=True):
        for g, w in zip(got, want, strict=True):
            assert np.isnan(g).tolist() == [True, True, True, False, False]
            np.testing.assert_array_equal(g[3:], w[3:])


def test_neither_place_nor_scale_matters():
    x = np.random.default_rng(0).integers(-99, 99, (30, 4)).astype(np.float32)
    for got, want in zip(every_test(x), every_test(1024 - 4 * x), strict=True):
        np.testing.assert_allclose(got.pvalue, want.pvalue, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("test", TESTS)
def test_under_vmap(test):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 30, 2)), jnp.float32)
    got = jax.jit(jax.vmap(TESTS[test]))(x)
    for i in range(3):
        want = TESTS[test](x[i])
        np.testing.assert_allclose(got.statistic[i], want.statistic, rtol=1e-5)
        np.testing.assert_allclose(got.pvalue[i], want.pvalue, rtol=1e-4)


@pytest.mark.parametrize("test", TESTS)
def test_gradient_is_that_of_small_steps(test):
    rng = np.random.default_rng(0)
    x, step = rng.standard_normal((2, 30, 2)).astype(np.float32)
    x = np.sinh(x)

    def statistic(x):
        return TESTS[test](x).statistic.sum()

    slope = float(jnp.sum(jax.jit(jax.grad(statistic))(x) * step))
    h = 1e-4
    up, down = (scipys(test, x + s * h * step.astype(float)) for s in (1, -1))
    want = (np.sum(up[0]) - np.sum(down[0])) / (2 * h)
    assert slope == pytest.approx(want, rel=0.01)


def test_half_precision_is_widened():
    x = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float16)
    got, want = every_test(x), every_test(x.astype(np.float32))
    np.testing.assert_allclose(
        got.shapiro_wilk.pvalue, want.shapiro_wilk.pvalue, rtol=1e-5
    )


@pytest.mark.parametrize("test, least", [*zip(TESTS, (3, 8, 3), strict=True)])
def test_too_few_rows_are_named(test, least):
    with pytest.raises(UneError, match=f"{least - 1} rows; .* needs {least} or more"):
        TESTS[test](jnp.ones((least - 1, 2)))


def test_bad_levels_and_sizes_of_the_tables_are_named():
    with pytest.raises(UneError, match="level is 0.2; the tables have 0.15, 0.1,"):
        gaussianity.critical_value(250, level=0.2)
    with pytest.raises(UneError, match="no table has critical values for 7 values"):
        gaussianity.critical_value(7)
