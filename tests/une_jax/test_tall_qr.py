"""QR by products is QR, also of columns that are hardly independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import tall_qr

qr = jax.jit(tall_qr.qr)


def tall(condition, n=60, d=7):
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((k, d)))[0] for k in (n, d))
    return jnp.asarray(u * np.geomspace(1, 1 / condition, d) @ v.T, jnp.float32)


@pytest.mark.parametrize("condition", [1, 100, 1e4, 1e6, 1e12])
def test_is_a_basis_and_a_triangle_whose_product_is_the_matrix(condition):
    """Products alone lose the basis beyond a condition of some thousands."""
    a = tall(condition)
    q, r = qr(a)
    np.testing.assert_allclose(q.T @ q, np.eye(7), atol=2e-4)
    np.testing.assert_allclose(q @ r, a, atol=1e-6)
    np.testing.assert_array_equal(jnp.tril(r, -1), 0)


def test_of_zeros_and_of_nan():
    q, r = qr(jnp.zeros((5, 2)))
    assert jnp.isfinite(q).all() and not r.any()
    assert jnp.isnan(qr(jnp.full((5, 2), jnp.nan))[1]).any()


def test_under_vmap_and_grad():
    a = jnp.stack([tall(10), tall(1e6)])
    many = jax.vmap(tall_qr.qr)(a)
    for i in range(2):
        np.testing.assert_allclose(many[0][i], qr(a[i])[0], atol=1e-4)
    way = jax.random.normal(jax.random.key(0), a[0].shape)

    def along(t, qr=tall_qr.qr, np=jnp):
        return np.sum(np.abs(qr(tall(2) + t * way)[0]) ** 3)

    def exact(t):  # signs do not matter
        return along(t, lambda x: np.linalg.qr(np.asarray(x, np.float64)), np)

    slope = (exact(0.002) - exact(-0.002)) / 0.004
    np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=2e-2)
