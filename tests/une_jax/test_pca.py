"""Principal components are those of the SVD; null ones are zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import pca

fit = jax.jit(pca.fit, static_argnames="k")


@pytest.mark.parametrize("n, d", [(50, 8), (8, 50)])
def test_directions_and_variances_are_those_of_the_svd(n, d, key):
    spread = 0.5 ** jnp.arange(d, dtype=jnp.float32)
    x = jax.random.normal(key, (n, d)) * spread[None] + 5
    found = fit(x, k=3)
    c = np.asarray(x, np.float64) - np.asarray(x, np.float64).mean(0)
    _, s, vt = np.linalg.svd(c, full_matrices=False)
    along = np.abs(np.sum(vt[:3].T * np.asarray(found.basis), axis=0))
    np.testing.assert_allclose(along, 1, atol=1e-3)
    np.testing.assert_allclose(jnp.linalg.norm(found.basis, axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(found.variance, s[:3] ** 2 / (n - 1), rtol=1e-3)
    explained = (s[:3] ** 2).sum() / (s**2).sum()
    np.testing.assert_allclose(found.explained_variance, explained, rtol=1e-4)
    assert found.residual.max() < 1e-5


def test_directions_beyond_the_rank_are_zero(key):
    x = jax.random.normal(key, (30, 2)) @ jnp.ones((2, 6)).at[0, :3].set(-1.0)
    found = fit(x, k=4)
    np.testing.assert_array_equal(np.asarray(found.basis)[:, 2:], 0)
    np.testing.assert_allclose(found.explained_variance, 1, rtol=1e-5)


def test_whitened_rows_are_uncorrelated_of_unit_variance(key):
    x = jax.random.normal(key, (200, 5)) @ jnp.diag(
        jnp.array([9.0, 3.0, 1.0, 0.3, 0.1])
    )
    found = fit(x)
    rows, back = pca.whiten(x - found.mean[None], found)
    np.testing.assert_allclose(rows.T @ rows / 200, np.eye(5), atol=1e-5)
    np.testing.assert_allclose((x - found.mean[None]) @ back, rows, atol=2e-4)
