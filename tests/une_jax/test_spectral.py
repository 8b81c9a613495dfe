"""The largest eigenpairs are those of LAPACK in float64, and the residual is true."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import spectral
from une_jax.errors import UneError

top_eigh = jax.jit(
    spectral.top_eigh, static_argnums=1, static_argnames=("max_iter", "direct")
)


def matrix(spread, seed=0):
    """A covariance of these eigenvalues, in a random basis."""
    d = len(spread)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return ((basis * spread) @ basis.T).astype(np.float32)


def wishart(d, n=500):
    """Of white noise: a spectrum without gaps."""
    x = np.random.default_rng(3).standard_normal((n, d))
    return (x.T @ x / n).astype(np.float32)


SPECTRA = {
    "slow": matrix(np.arange(1, 301) ** -0.5),
    "fast": matrix(np.arange(1, 301) ** -2.0),
    "flat": wishart(300),
    "low rank": matrix(np.where(np.arange(300) < 8, 1.0, 0.0)),
    "repeated": matrix(np.repeat([5.0, 2.0, 1.0], 100)),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("direct", [False, True])
def test_values_and_span_are_lapacks(name, direct):
    a = SPECTRA[name]
    k = 20
    top = top_eigh(jnp.asarray(a), k, direct=direct)
    want = np.linalg.eigvalsh(a.astype(np.float64))[::-1][:k]
    np.testing.assert_allclose(top.values, want, atol=3e-6 * want[0])
    v = np.asarray(top.vectors, np.float64)
    np.testing.assert_allclose(v.T @ v, np.eye(k), atol=1e-5)
    assert top.residual.max() < 3e-6
    # The certificate is what it says it is.
    image = a.astype(np.float64) @ v
    residual = np.linalg.norm(image - v * np.asarray(top.values), axis=0) / want[0]
    np.testing.assert_allclose(top.residual, residual, atol=1e-6)
    # The variance that they hold together is the most that k directions can.
    np.testing.assert_allclose(np.trace(v.T @ image), want.sum(), rtol=1e-5)
    assert top.iterations == 0 or not direct


def test_too_few_filters_are_seen_in_the_residual():
    a = jnp.asarray(SPECTRA["flat"])
    few = top_eigh(a, 20, direct=False, max_iter=1)
    assert few.iterations == 1 and few.residual.max() > 1e-4


def test_the_sizes_decide_how_it_is_done():
    assert top_eigh(jnp.asarray(SPECTRA["slow"]), 20).iterations > 0
    assert top_eigh(jnp.asarray(SPECTRA["slow"]), 90).iterations == 0  # a third of d
    assert top_eigh(jnp.asarray(SPECTRA["slow"][:50, :50]), 5).iterations == 0


def test_all_of_a_matrix_of_zeros():
    top = top_eigh(jnp.zeros((300, 300)), 3, direct=False)
    np.testing.assert_array_equal(top.values, 0)
    np.testing.assert_array_equal(top.residual, 0)


def test_another_start_gives_the_same_values():
    a = jnp.asarray(SPECTRA["slow"])
    one, other = (top_eigh(a, 9, key=jax.random.key(i), direct=False) for i in (1, 2))
    assert (one.vectors != other.vectors).any()
    np.testing.assert_allclose(one.values, other.values, rtol=1e-5)


def test_works_under_vmap():
    both = jnp.stack([jnp.asarray(SPECTRA[name]) for name in ("slow", "flat")])
    of = ft.partial(spectral.top_eigh, k=9, direct=False)
    got = jax.jit(jax.vmap(of))(both)
    for i in range(2):
        want = top_eigh(both[i], 9, direct=False)
        np.testing.assert_allclose(got.values[i], want.values, rtol=1e-5)
        assert got.iterations[i] == want.iterations


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_be_within_the_matrix(k):
    with pytest.raises(UneError, match=f"k is {k}; a 3 x 3 matrix has 1 to 3"):
        spectral.top_eigh(jnp.eye(3), k)


def test_dependent_columns_still_give_a_basis():
    """Their Cholesky factor is NaN, over which XLA's maximum passes from 64 columns on."""
    x = np.random.default_rng(0).standard_normal((600, 40)).astype(np.float32)
    x = jnp.asarray(np.concatenate([x, x], axis=1))
    assert jnp.isnan(jnp.linalg.cholesky(x.T @ x)).any()
    basis = jax.jit(spectral.orthonormal)(x)
    np.testing.assert_allclose(basis.T @ basis, np.eye(80), atol=1e-5)
    np.testing.assert_allclose(basis @ (basis.T @ x), x, atol=1e-4)
