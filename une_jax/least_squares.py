"""What linear fits share: paired rows, the constant set aside, normal equations."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float32, Int32

from une_jax.errors import UneError

REFINEMENTS = 4  # of a Cholesky solution, by products with the rows themselves
PRECISION = 1e-5  # of a solution's error that needs no refinement
STRIP = 1024  # rows of a Gram matrix at a time
PROBES = 8  # columns that tell how many it needs


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


def lower_gram(
    a: Float32[Array, "k m"], *, strip: int = STRIP
) -> Float32[Array, "k k"]:
    """The lower triangle of a a^T, and zeros: in strips, half of the product's work."""
    k = len(a)
    rows = []
    for start in range(0, k, strip):
        stop = min(start + strip, k)
        product = a[start:stop] @ a[:stop].T
        rows.append(jnp.pad(product, ((0, 0), (0, k - stop))))
    return jnp.tril(jnp.concatenate(rows))


def cholesky(gram: Float32[Array, "k k"], alpha: Array) -> Float32[Array, "k k"]:
    """The lower Cholesky factor of gram + alpha; of the Gram matrix only the lower
    triangle is read. What rounding could make negative is lifted first."""
    square = jnp.tril(gram) ** 2
    frobenius = jnp.sqrt(2 * square.sum() - jnp.trace(square))
    lift = jnp.maximum(2 * jnp.finfo(jnp.float32).eps * frobenius, 1e-30)
    lifted = gram + (alpha + lift) * jnp.eye(len(gram), dtype=jnp.float32)
    return jnp.linalg.cholesky(lifted, symmetrize_input=False)


def solve(
    a: Float32[Array, "k m"], alpha: Array, b: Float32[Array, "k e"]
) -> Float32[Array, "k e"]:
    """x of (a a^T + alpha) x = b.

    By conjugate gradients on ``a``, so that rounding of the product a a^T does not show;
    its Cholesky factor preconditions, and a few steps do. Derivatives are those of the
    solution, not of the steps.
    """
    return refined(a, alpha, cholesky(a @ a.T, alpha), b, REFINEMENTS)


def refined(
    a: Float32[Array, "k m"],
    alpha: Array,
    lower: Float32[Array, "k k"],
    b: Float32[Array, "k e"],
    steps: int | Array,
) -> Float32[Array, "k e"]:
    """:func:`solve` with the factor at hand, and so many steps of refinement."""

    def gradients(matmul, b):
        x = cho_solve((lower, True), b)

        def step(_, state):
            x, left, p, before = state
            z = cho_solve((lower, True), left)
            square = jnp.sum(left * z, axis=0)
            p = z + _ratio(square, before)[None] * p
            product = matmul(p)
            rate = _ratio(square, jnp.sum(p * product, axis=0))[None]
            return x + rate * p, left - rate * product, p, square

        def improve(x):
            endless = jnp.full(b.shape[1], jnp.inf, jnp.float32)
            start = (x, b - matmul(x), jnp.zeros_like(b), endless)
            return jax.lax.fori_loop(0, steps, step, start)[0]

        return jax.lax.cond(jnp.asarray(steps) > 0, improve, lambda x: x, x)

    def matmul(x):
        return a @ (a.T @ x) + alpha * x

    return jax.lax.custom_linear_solve(matmul, b, gradients, symmetric=True)


def steps_needed(
    a: Float32[Array, "k m"], alpha: Array, lower: Float32[Array, "k k"]
) -> Int32[Array, ""]:
    """How many steps :func:`refined` takes to float32's own precision: 0 to REFINEMENTS.

    Each takes off about the same part of the error; a few random columns tell which.
    """
    b = jax.random.normal(jax.random.key(0), (len(a), PROBES), jnp.float32)
    x = cho_solve((lower, True), b)
    error = cho_solve((lower, True), b - a @ (a.T @ x) - alpha * x)
    part = jnp.linalg.norm(error) / jnp.maximum(jnp.linalg.norm(x), 1e-30)
    part = jnp.clip(part, 1e-9, 0.999)
    needed = jnp.ceil(jnp.log(PRECISION) / jnp.log(part)) - 1
    return jnp.clip(needed, 0, REFINEMENTS).astype(jnp.int32)


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 where a column has come to rest."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
