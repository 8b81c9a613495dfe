"""Singular vectors of a decoder's Jacobian, beside those of the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import jacobian
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("compiling_fast")

RNG = np.random.default_rng(0)
SHAPE, HIDDEN, OUT = (2, 2, 6), 30, (4, 4, 2)
D = int(np.prod(SHAPE))
FIRST = jnp.asarray(RNG.standard_normal((D, HIDDEN)) / 5, jnp.float32)
LAST = jnp.asarray(RNG.standard_normal((HIDDEN, *OUT)), jnp.float32)
HS = jnp.asarray(RNG.standard_normal((3, *SHAPE)), jnp.float32)
MASK = jnp.zeros((4, 4, 1)).at[:2, :2].set(1.0)


def decoder(h):
    """A tiny nonlinear one, (2, 2, 6) to (4, 4, 2)."""
    return jnp.tensordot(jnp.tanh(h.ravel() @ FIRST), LAST, 1)


def whole(h, mask=None):
    """Singular values and right vectors of the matrix."""
    full = jax.jacobian(lambda h: decoder(h) * (1.0 if mask is None else mask))(h)
    _, s, vt = jnp.linalg.svd(full.reshape(-1, D), full_matrices=False)
    return np.asarray(s), np.asarray(vt)


def same(found, s, vt, k, atol=1e-3):
    np.testing.assert_allclose(found.values, s[:k], rtol=1e-4)
    along = np.abs(np.sum(np.asarray(found.directions).reshape(k, -1) * vt[:k], axis=1))
    np.testing.assert_allclose(along, 1, atol=atol)


@pytest.mark.parametrize("at_once", [None, 2])
def test_it_finds_the_svd_of_the_jacobian(at_once):
    find = jax.jit(lambda h: jacobian.singular(decoder, h, 3, tol=1e-7, max_iter=300, at_once=at_once))  # fmt: skip
    found = find(HS[0])
    assert found.directions.shape == (3, *SHAPE)
    same(found, *whole(HS[0]), 3)
    flat = found.directions.reshape(3, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=1e-5)
    assert found.residual.max() < 2e-3 and 1 < found.iterations < 300
    largest = jnp.take_along_axis(flat, jnp.abs(flat).argmax(1)[:, None], axis=1)
    assert (largest > 0).all()


def test_the_residual_is_that_of_the_eigenvectors():
    found = jacobian.singular(decoder, HS[0], 3, max_iter=4)
    full = np.asarray(jax.jacobian(decoder)(HS[0]), np.float64).reshape(-1, D)
    v = np.asarray(found.directions, np.float64).reshape(3, -1).T
    square = np.asarray(found.values, np.float64) ** 2
    want = np.linalg.norm(full.T @ (full @ v) - v * square, axis=0) / square[0]
    np.testing.assert_allclose(found.residual, want, rtol=1e-2)
    assert found.iterations == 4


def test_a_smaller_tolerance_takes_longer_and_comes_closer():
    rough, fine = (
        jacobian.singular(decoder, HS[1], 2, tol=tol, max_iter=200)
        for tol in (1e-2, 1e-6)
    )
    assert rough.iterations < fine.iterations
    assert fine.residual.max() < rough.residual.max()


def test_a_mask_asks_for_what_changes_within_it():
    find = jax.jit(lambda h, m: jacobian.singular(decoder, h, 2, mask=m, tol=1e-7, max_iter=300))  # fmt: skip
    same(find(HS[0], MASK), *whole(HS[0], MASK), 2)
    same(find(HS[0], jnp.ones((1, 1, 1))), *whole(HS[0]), 2)
    with pytest.raises(UneError, match="a mask"):
        jacobian.singular(decoder, HS[0], mask=jnp.ones((1, 4, 4, 2)))
    with pytest.raises(ValueError):
        jacobian.singular(decoder, HS[0], mask=jnp.ones((3, 4, 2)))


def test_images_are_found_together_as_each_alone():
    masks = jnp.stack([MASK, jnp.ones_like(MASK), jnp.ones_like(MASK)])
    how = {"k": 2, "tol": 1e-7, "max_iter": 300}
    many = jax.jit(jax.vmap(lambda h, m: jacobian.singular(decoder, h, mask=m, **how)))
    found = many(HS, masks)
    for i in range(3):
        each = jax.tree.map(lambda x, i=i: x[i], found)
        same(each, *whole(HS[i], masks[i]), 2)


def test_all_directions_of_a_jacobian_of_low_rank():
    """More columns than the rank, and as many as h has numbers."""
    h = jnp.array([1.0, 2.0, 3.0])
    found = jacobian.singular(lambda h: 2 * h[:1] + 0 * h[1:2], h, 3)
    np.testing.assert_allclose(found.values, [2, 0, 0], atol=1e-5)
    flat = jacobian.singular(lambda h: 0 * h, h, 2)
    np.testing.assert_array_equal(flat.values, 0)
    assert jnp.isfinite(flat.directions).all()


def test_a_decoder_may_compute_in_short_floats():
    found = jacobian.singular(lambda h: decoder(h).astype(jnp.bfloat16), HS[0], 1)
    np.testing.assert_allclose(found.values, whole(HS[0])[0][:1], rtol=1e-2)


def test_the_jacobian_is_never_whole_in_memory():
    n = 2048

    def mix(h):
        for _ in range(3):
            h = jnp.tanh(h + jnp.roll(h, 1) * 0.5)
        return h

    def temporary(at_once):
        find = jax.jit(lambda h: jacobian.singular(mix, h, 6, at_once=at_once))
        compiled = find.lower(jnp.ones(n)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one, all_ = temporary(1), temporary(None)
    assert one < all_ < 4 * n * n / 8  # some tens of vectors, not n


def test_what_cannot_be_is_refused():
    for k in (0, D + 1):
        with pytest.raises(UneError, match=f"k is {k}; an h of {D} numbers"):
            jacobian.singular(decoder, HS[0], k)
    with pytest.raises(UneError, match="max_iter is 0"):
        jacobian.singular(decoder, HS[0], max_iter=0)
