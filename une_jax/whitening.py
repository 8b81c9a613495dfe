"""Whitening of tall matrices by Cholesky factors: matrix products only, no SVD."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Float32

EPS = 1.2e-7  # of float32


class Whitened(NamedTuple):
    """``q = z @ W`` with ``q @ q.T == z @ inv(z.T @ z + ridge I) @ z.T``; :func:`back`
    multiplies with W, which is diag(scale) L1^-T L2^-T.
    """

    q: Float32[Array, "n d"]
    scale: Float32[Array, " d"]
    lowers: Float32[Array, "2 d d"]


@jax.default_matmul_precision("float32")
def whiten(z: Float[Array, "n d"], ridge: float | Float[Array, ""] = 0.0) -> Whitened:
    """The ridge projector of ``z`` as a product of a tall matrix with itself.

    Shifted Cholesky-QR, twice, of the rows of ``z`` above ``sqrt(ridge) I`` (Fukaya et
    al. 2020): the first pass makes the condition small, the second one the result right
    to float32's rounding, as a QR is, at the cost of products. With no ridge, directions
    that cannot be told from rounding fall out, so that what is left is the projector on
    the column space: the shift of each pass is below what is kept and above what is not.

    Works under jit, vmap and grad. NaN in, NaN out.

    >>> z = jax.random.normal(jax.random.key(0), (50, 3))
    >>> q = whiten(z).q
    >>> bool(jnp.allclose(q.T @ q, jnp.eye(3), atol=1e-5))
    True
    """
    z = z.astype(jnp.float32)
    ridge = jnp.asarray(ridge, jnp.float32)
    size = jnp.sum(z**2, axis=0) + ridge
    scale = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1.0)), 0.0)
    q, below = z * scale[None], jnp.diag(jnp.sqrt(ridge) * scale)

    def again(rows, _):
        q, below = rows
        gram = q.T @ q + below.T @ below
        shift = 8 * EPS * jnp.linalg.norm(gram) + 1e-30
        lower = jnp.linalg.cholesky(gram + shift * jnp.eye(len(gram)))
        # The shift shortens what is kept; after the last pass that would show.
        lower = lower * jax.lax.rsqrt(1 + shift)
        return (_divided(q, lower), _divided(below, lower)), lower

    (q, _), lowers = jax.lax.scan(again, (q, below), length=2)
    return Whitened(q, scale, lowers)


@jax.default_matmul_precision("float32")
def back(whitened: Whitened, x: Float[Array, "d k"]) -> Float32[Array, "d k"]:
    """``W @ x``: weights on the whitened columns become weights on the columns of z."""
    for lower in (whitened.lowers[1], whitened.lowers[0]):
        x = solve_triangular(lower, x, lower=True, trans=1)
    return x * whitened.scale[:, None]


def _divided(q: Array, lower: Array) -> Array:
    """``q @ inv(lower).T``."""
    return solve_triangular(lower, q.T, lower=True).T
