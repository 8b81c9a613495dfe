"""Columns come out as NumPy sorts them, whichever way they are sorted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import sorting


@pytest.mark.parametrize("n", [1, 2, 7, 32, 100, sorting.NETWORK_ROWS + 1])
def test_equals_numpys(n):
    x = np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)
    x[n // 2] = x[0]  # ties
    x[n // 3, 0], x[n // 4, 0], x[0, 1] = np.inf, -np.inf, -0.0
    got = jax.jit(sorting.sort_columns)(x)
    np.testing.assert_array_equal(got, np.sort(x, axis=0))


@pytest.mark.parametrize(
    "way", [sorting._network, sorting._as_integers, sorting._native]
)
def test_every_way_is_the_same(way):
    x = np.random.default_rng(1).standard_normal((21, 4)).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(way)(x), np.sort(x, axis=0))


@pytest.mark.parametrize("n", [9, sorting.NETWORK_ROWS + 1])
def test_under_vmap_and_grad(n):
    x = np.random.default_rng(2).standard_normal((2, n, 3)).astype(np.float32)
    got = jax.vmap(sorting.sort_columns)(x)
    np.testing.assert_array_equal(got, np.sort(x, axis=1))
    weights = np.arange(n, dtype=np.float32)[:, None]
    slope = jax.jit(jax.grad(lambda x: jnp.sum(sorting.sort_columns(x) * weights)))(
        x[0]
    )
    ranks = np.argsort(np.argsort(x[0], axis=0), axis=0)
    np.testing.assert_array_equal(slope, ranks)


@pytest.mark.parametrize("n", [9, sorting.NETWORK_ROWS + 1])
def test_nan_does_not_get_lost(n):
    x = jnp.ones((n, 2)).at[n // 2, 1].set(jnp.nan)
    lost = jnp.isnan(jax.jit(sorting.sort_columns)(x)).any(axis=0)
    assert lost.tolist() == [False, True]
