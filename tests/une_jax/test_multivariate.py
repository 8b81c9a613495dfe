"""Joint normality: formulas written out, level under normality, power elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from une_jax import multivariate
from une_jax.errors import UneError

mardia = jax.jit(multivariate.mardia)
norms = jax.jit(multivariate.norms)


def skewed(n, k, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.gamma(9.0, size=(n, k)) @ rng.standard_normal((k, k)) + 50
    return x.astype(np.float32)


@pytest.mark.parametrize("n, k", [(40, 3), (300, 6)])
def test_mardia_is_its_definition(n, k):
    x = skewed(n, k)
    c = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    products = c @ np.linalg.inv(c.T @ c / n) @ c.T
    skewness, kurtosis = np.mean(products**3), np.mean(np.diag(products) ** 2)
    small = (k + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (k + 1) - 6))
    z = (kurtosis - k * (k + 2)) / np.sqrt(8 * k * (k + 2) / n)
    got = mardia(x)
    np.testing.assert_allclose(got.skewness, skewness, rtol=1e-4)
    np.testing.assert_allclose(got.kurtosis, kurtosis, rtol=1e-5)
    np.testing.assert_allclose(got.kurtosis_z, z, rtol=1e-3, atol=1e-4)
    chi2 = scipy.stats.chi2(k * (k + 1) * (k + 2) / 6)
    want = chi2.sf(n * small * skewness / 6)
    np.testing.assert_allclose(got.skewness_pvalue, want, rtol=1e-3)
    want = 2 * scipy.stats.norm.sf(abs(z))
    np.testing.assert_allclose(got.kurtosis_pvalue, want, rtol=1e-3)


def test_mardia_keeps_its_level_under_normality(key):
    got = jax.jit(jax.vmap(multivariate.mardia))(jax.random.normal(key, (400, 200, 4)))
    for p in (got.skewness_pvalue, got.kurtosis_pvalue):
        assert 0.02 < float((p < 0.05).mean()) < 0.085


def test_mardia_sees_mixed_lengths_that_no_coordinate_shows(key):
    direction, length = jax.random.split(key)
    x = jax.random.normal(direction, (2000, 10))
    x = x * jnp.exp(0.15 * jax.random.normal(length, (2000, 1)))
    got = mardia(x)
    assert got.kurtosis_pvalue < 1e-6 and got.kurtosis_z > 5


@pytest.mark.parametrize("n, d", [(300, 20), (60, 200)])
def test_norms_are_their_definition(n, d):
    x = skewed(n, d)
    c = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    gram = c @ c.T
    trace = (np.sum(gram**2) - np.sum(np.diag(gram) ** 2)) / (n * (n - 1))
    lengths = np.sqrt(np.diag(gram))
    got = norms(x)
    np.testing.assert_allclose(got.mean, lengths.mean(), rtol=1e-4)
    np.testing.assert_allclose(got.std, lengths.std(), rtol=1e-3)
    np.testing.assert_allclose(
        got.gaussian_std, np.sqrt(trace / np.mean(lengths**2) / 2), rtol=1e-3
    )
    np.testing.assert_allclose(
        got.dispersion, np.var(lengths**2) / (2 * trace), rtol=1e-3
    )


@pytest.mark.parametrize("d", [30, 3000])
def test_dispersion_of_a_gaussian_is_one_whatever_its_covariance(d, key):
    spread = jnp.arange(1.0, d + 1) ** -0.5
    x = jax.random.normal(key, (1000, d)) * spread[None]
    assert abs(norms(x).dispersion - 1) < 0.3
    wide = jnp.exp(0.3 * jax.random.normal(key, (1000, 1)))
    assert norms(x * wide).dispersion > 2
    shell = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    assert norms(shell).dispersion < 0.05


def test_the_gaussian_norm_is_chis(key):
    got = norms(jax.random.normal(key, (2000, 64)))
    chi = scipy.stats.chi(64)
    assert got.mean == pytest.approx(chi.mean(), rel=0.01)
    assert got.gaussian_std == pytest.approx(chi.std(), rel=0.03)
    assert got.std == pytest.approx(chi.std(), rel=0.06)


@pytest.mark.parametrize("test", [multivariate.mardia, multivariate.norms])
def test_under_vmap_and_grad(test):
    x = jnp.stack([jnp.asarray(skewed(40, 3, seed)) for seed in range(2)])
    got = jax.jit(jax.vmap(test))(x)
    for i in range(2):
        for g, w in zip(got, jax.jit(test)(x[i]), strict=True):
            np.testing.assert_allclose(g[i], w, rtol=1e-3, atol=1e-5)
    slope = jax.jit(jax.grad(lambda x: sum(test(x)[:3:2])))(x[0])
    assert jnp.isfinite(slope).all() and (slope != 0).any()


def test_too_few_rows_are_named():
    with pytest.raises(UneError, match="5 rows of 5 numbers; Mardia's test needs more"):
        multivariate.mardia(jnp.ones((5, 5)))
    with pytest.raises(UneError, match="2 rows; the spread of their lengths needs 3"):
        multivariate.norms(jnp.ones((2, 5)))
