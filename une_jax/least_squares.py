"""What linear fits share: paired rows, the constant set aside, normal equations."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float32

from une_jax.errors import UneError

REFINEMENTS = 4  # of a Cholesky solution, by products with the rows themselves


def check_pairs(x: Array, y: Array) -> None:
    """Raises UneError for rows that are not paired, or fewer than two."""
    if len(x) != len(y):
        raise UneError(f"x has {len(x)} rows, y has {len(y)}: give pairs")
    if len(x) < 2:
        raise UneError(f"a map needs at least 2 rows; there are {len(x)}")


def off_constant(x: Float32[Array, "n d"]) -> Float32[Array, "n-1 d"]:
    """Centred rows in an orthonormal basis of what is orthogonal to the constant.

    The Householder reflection that takes the constant to the first axis, which is then
    dropped: the Gram matrix of n - 1 rows has full rank where that of n has not.
    """
    return x[1:] - x[:1] / (1 + jnp.sqrt(jnp.float32(len(x))))


def on_constant(v: Float32[Array, "m k"]) -> Float32[Array, "m+1 k"]:
    """The transpose of :func:`off_constant`."""
    n = jnp.float32(len(v) + 1)
    total = v.sum(axis=0, keepdims=True)
    return jnp.concatenate([-total / jnp.sqrt(n), v - total / (n + jnp.sqrt(n))])


def solve(
    a: Float32[Array, "k m"], alpha: Array, b: Float32[Array, "k e"]
) -> Float32[Array, "k e"]:
    """x of (a a^T + alpha) x = b.

    By conjugate gradients on ``a``, so that rounding of the product a a^T does not show;
    its Cholesky factor preconditions, and a few steps do. What rounding could make
    negative is lifted first. Derivatives are those of the solution, not of the steps.
    """
    gram = a @ a.T
    lift = 2 * jnp.finfo(jnp.float32).eps * jnp.linalg.norm(gram)
    lifted = gram + (alpha + lift) * jnp.eye(len(a), dtype=jnp.float32)
    lower = jnp.linalg.cholesky(lifted, symmetrize_input=False)

    def gradients(matmul, b):
        x = cho_solve((lower, True), b)
        left, p, square = b - matmul(x), jnp.zeros_like(b), None
        for _ in range(REFINEMENTS):
            z = cho_solve((lower, True), left)
            before, square = square, jnp.sum(left * z, axis=0)
            p = z if before is None else z + _ratio(square, before)[None] * p
            product = matmul(p)
            rate = _ratio(square, jnp.sum(p * product, axis=0))[None]
            x, left = x + rate * p, left - rate * product
        return x

    def matmul(x):
        return a @ (a.T @ x) + alpha * x

    return jax.lax.custom_linear_solve(matmul, b, gradients, symmetric=True)


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 where a column has come to rest."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
