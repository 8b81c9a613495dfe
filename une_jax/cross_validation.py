"""Held-out folds, to choose a penalty on."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import least_squares, maps
from une_jax.errors import UneError


def ridge_errors(
    key: Array,
    x: Float[Array, "n d"],
    y: Float[Array, "m e"],
    alphas: Float[Array, " l"],
    *,
    folds: int = 5,
) -> Float32[Array, "l e"]:
    """Mean squared error of ridge maps of every penalty on held-out folds.

    The folds are drawn by ``key``, and each complement is decomposed once for all.
    Folds differ in size by a row at most. Works under jit (``folds`` static) and vmap.

    Raises:
        UneError: for fewer than 2 folds, or less than 2 rows left in one's complement.

    >>> x = jax.random.normal(jax.random.key(0), (40, 3))
    >>> errors = ridge_errors(jax.random.key(1), x, 2 * x, jnp.array([1e-3, 1e3]))
    >>> errors.shape, bool((errors[0] < errors[1]).all())
    ((2, 3), True)
    """
    least_squares.check_pairs(x, y)
    n = len(x)
    if not 2 <= folds <= n or n - -(-n // folds) < 2:
        raise UneError(f"{folds} folds of {n} rows: use 2 or more, and fewer than rows")
    order = jax.random.permutation(key, n)
    total = jnp.zeros((len(alphas), y.shape[1]), jnp.float32)
    for i in range(folds):
        held = order[i::folds]
        fold = [order[j::folds] for j in range(folds) if j != i]
        rest = jnp.concatenate(fold)
        found = maps.ridge_path(x[rest], y[rest], alphas)
        wanted = y[held].astype(jnp.float32)

        def error(alpha, found=found, held=held, wanted=wanted):
            return jnp.sum((maps.predict(found, alpha, x[held]) - wanted) ** 2, axis=0)

        total += jax.lax.map(error, found.alphas)
    return total / n
