"""Linear maps from one view to another: ridge, least squares, Procrustes.

All are fitted on paired rows, about the columns' means, with a free intercept.
``ridge_path`` gives a whole path of penalties from one factorisation, with the
leave-one-out error of each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float, Float32

from une_jax.errors import UneError

REFINEMENTS = 4  # of a Cholesky solution, by products with the rows themselves


class LinearMap(NamedTuple):
    """``y = x @ weight + bias``."""

    weight: Float32[Array, "d e"]
    bias: Float32[Array, " e"]


class Factor(NamedTuple):
    """What all ridge maps from the same rows share: their Gram matrix, decomposed.

    k is d where d < n - 1 (``rows`` are then the principal scores), else n - 1
    (``rows`` are orthonormal columns, and orthogonal to the constant).
    """

    mean: Float32[Array, " d"]
    values: Float32[Array, " k"]  # of the centred Gram matrix, ascending
    basis: Float32[Array, "d k"]
    rows: Float32[Array, "n k"]


class RidgePath(NamedTuple):
    """Ridge maps to one set of targets under every penalty."""

    factor: Factor
    inside: Float32[Array, "k e"]  # the targets in the factor's coordinates
    mean: Float32[Array, " e"]  # of the targets
    alphas: Float32[Array, " l"]
    loo: Float32[Array, "l e"]  # mean squared leave-one-out error
    gcv: Float32[Array, "l e"]  # its approximation by one leverage for all rows
    best: Float32[Array, ""]  # alpha of the least loo, summed over targets


@jax.default_matmul_precision("float32")
def apply(m: LinearMap, x: Float[Array, "n d"]) -> Float32[Array, "n e"]:
    """The map of every row; float32 inside. Works under jit, vmap and grad.

    >>> apply(LinearMap(jnp.full((2, 1), 2.0), jnp.ones(1)), jnp.ones((3, 2))).shape
    (3, 1)
    """
    return x.astype(jnp.float32) @ m.weight + m.bias[None]


@jax.default_matmul_precision("float32")
def compose(
    first: LinearMap, second: LinearMap
) -> LinearMap:  # shapes (d, e), (e, f) -> (d, f)
    """``second`` after ``first``, as one map.

    >>> double = LinearMap(2 * jnp.eye(2), jnp.ones(2))
    >>> apply(compose(double, double), jnp.ones((1, 2))).tolist()
    [[7.0, 7.0]]
    """
    return LinearMap(first.weight @ second.weight, first.bias @ second.weight + second.bias)  # fmt: skip


@jax.default_matmul_precision("float32")
def ridge(
    x: Float[Array, "n d"], y: Float[Array, "m e"], alpha: float | Float[Array, ""]
) -> LinearMap:
    """Ridge regression: sklearn's ``Ridge(alpha)``.

    Minimises the *summed* squared error plus ``alpha * |weight|^2``; columns are centred
    and the bias is not penalised. Solved by Cholesky in the smaller of the primal (d, d)
    and the dual (n - 1, n - 1) form (Saunders et al. 1998). What float32 loses in the
    Gram matrix is made good by a few conjugate gradient steps on the rows themselves,
    which the factor preconditions. Works under jit, vmap (also over ``alpha``) and grad.

    Args:
        x, y: paired rows (m = n), in any units; alpha is in those of ``x`` squared.
        alpha: 0 or more. At 0, directions of less than about 1e-6 of the largest
            eigenvalue count as absent: see :func:`ols`.

    Raises:
        UneError: for fewer than two rows, or rows that are not paired.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = ridge(x, x[:, :1] * 2 + 1, alpha=1e-3)
    >>> m.weight.round(2).T.tolist(), m.bias.round(2).tolist()
    ([[2.0, 0.0, 0.0]], [1.0])
    """
    _check_pairs(x, y)
    (a, x_mean), (b, y_mean) = _centre(x), _centre(y)
    alpha = jnp.asarray(alpha, jnp.float32)
    if a.shape[1] < len(a) - 1:
        solve = _solver(a.T @ a, alpha)
        weight = solve(a.T @ b)
        left = a.T @ (b - a @ weight) - alpha * weight
        weight += _refine(solve, lambda v: a.T @ (a @ v) + alpha * v, left)
    else:
        a, b = _off_constant(a), _off_constant(b)
        solve = _solver(a @ a.T, alpha)
        dual = solve(b)
        left = b - a @ (a.T @ dual) - alpha * dual
        weight = a.T @ (
            dual + _refine(solve, lambda v: a @ (a.T @ v) + alpha * v, left)
        )
    return LinearMap(weight, y_mean - x_mean @ weight)


@jax.default_matmul_precision("float32")
def ols(x: Float[Array, "n d"], y: Float[Array, "m e"]) -> LinearMap:
    """Least squares of minimal norm: sklearn's ``LinearRegression``.

    By singular values of the rows, not of their Gram matrix; those below float32's
    epsilon times max(n, d) of the largest count as zero. Works under jit and vmap.

    Raises:
        UneError: for fewer than two rows, or rows that are not paired.

    >>> x = jnp.arange(8.0).reshape(4, 2) ** 2
    >>> apply(ols(x, x[:, :1]), x).round(3).ravel().tolist()
    [0.0, 4.0, 16.0, 36.0]
    """
    _check_pairs(x, y)
    (a, x_mean), (b, y_mean) = _centre(x), _centre(y)
    weight = jnp.linalg.lstsq(a, b)[0]
    return LinearMap(weight, y_mean - x_mean @ weight)


@jax.default_matmul_precision("float32")
def procrustes(
    x: Float[Array, "n d"], y: Float[Array, "m e"], *, scale: bool = False
) -> LinearMap:
    """The rotation (or reflection) of centred ``x`` that comes closest to centred ``y``.

    Schoenemann 1966: U V^T of the singular vectors of X^T Y. Where d and e differ, the
    smaller view is thought padded with zeros, and the weight is a partial isometry; with
    fewer rows than dimensions, directions in which no row varies are mapped to zero.
    Works under jit and vmap.

    Args:
        scale: times the factor that then fits best: tr S / |X W|^2.

    Raises:
        UneError: for fewer than two rows, or rows that are not paired.

    >>> x = jax.random.normal(jax.random.key(0), (20, 2))
    >>> turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> procrustes(x, 3 * x @ turn, scale=True).weight.round(3).tolist()
    [[0.0, 3.0], [-3.0, 0.0]]
    """
    _check_pairs(x, y)
    (a, x_mean), (b, y_mean) = _centre(x), _centre(y)
    n, d = a.shape
    if n - 1 < min(d, b.shape[1]):  # svd in the rows' span: n - 1, not d, wide
        q_x, r_x = jnp.linalg.qr(_off_constant(a).T)
        q_y, r_y = jnp.linalg.qr(_off_constant(b).T)
        u, s, vt = jnp.linalg.svd(r_x @ r_y.T)
        weight = (q_x @ (u @ vt)) @ q_y.T
    else:
        u, s, vt = jnp.linalg.svd(a.T @ b, full_matrices=False)
        weight = u @ vt
    if scale:
        weight = weight * (s.sum() / jnp.sum((a @ weight) ** 2))
    return LinearMap(weight, y_mean - x_mean @ weight)


@jax.default_matmul_precision("float32")
def factor(x: Float[Array, "n d"]) -> Factor:
    """Decomposes the rows once, for :func:`path` to any targets.

    By eigh of the smaller of (d, d) and (n - 1, n - 1). Works under jit and vmap.

    Raises:
        UneError: for fewer than two rows.

    >>> factor(jnp.arange(12.0).reshape(6, 2) ** 2).values.shape
    (2,)
    """
    if len(x) < 2:
        raise UneError(f"a map needs at least 2 rows; there are {len(x)}")
    a, mean = _centre(x)
    n, d = a.shape
    if d < n - 1:
        values, basis = jnp.linalg.eigh(a.T @ a)
        return Factor(mean, jnp.maximum(values, 0), basis, a @ basis)
    reduced = _off_constant(a)
    values, v = jnp.linalg.eigh(reduced @ reduced.T)
    return Factor(mean, jnp.maximum(values, 0), reduced.T @ v, _on_constant(v))


@jax.default_matmul_precision("float32")
def path(
    factor: Factor, y: Float[Array, "m e"], alphas: Float[Array, " l"]
) -> RidgePath:
    """Ridge maps to ``y`` for all penalties, with their leave-one-out errors.

    These are exact, without refitting (Allen 1974, PRESS): the residual over one minus
    the row's leverage. With more dimensions than rows both go to zero with alpha; they
    are formed as multiples of alpha, and it cancels. Generalised cross-validation is
    Golub, Heath and Wahba 1979. Works under jit and vmap.

    Args:
        alphas: above 0, as in :func:`ridge`. Below about 1e-6 of ``factor.values[-1]``
            the eigenvalues' rounding shows: fit :func:`ridge` there.

    Raises:
        UneError: for rows that are not paired.
    """
    n, k = factor.rows.shape
    if len(y) != n:
        raise UneError(f"x has {n} rows, y has {len(y)}: give pairs")
    b, mean = _centre(y)
    inside = factor.rows.T @ b
    squares = factor.rows**2

    def errors(alpha):
        inverse = 1 / (factor.values + alpha)
        if k == n - 1:
            residual = factor.rows @ (inverse[:, None] * inside)
            left = squares @ inverse
        else:
            residual = b - factor.rows @ (inverse[:, None] * inside)
            left = 1 - 1 / n - squares @ inverse
        loo = jnp.mean((residual / left[:, None]) ** 2, axis=0)
        return loo, jnp.mean(residual**2, axis=0) / left.mean() ** 2

    alphas = alphas.astype(jnp.float32)
    loo, gcv = jax.lax.map(errors, alphas)
    best = alphas[jnp.argmin(loo.sum(axis=1))]
    return RidgePath(factor, inside, mean, alphas, loo, gcv, best)


def ridge_path(
    x: Float[Array, "n d"], y: Float[Array, "m e"], alphas: Float[Array, " l"]
) -> RidgePath:
    """:func:`path` of the :func:`factor` of ``x``.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> found = ridge_path(x, x[:, :1] * 2, jnp.array([1e-3, 1.0, 1e3]))
    >>> found.best.item() == found.alphas[0].item()
    True
    >>> at(found, found.best).weight.round(2).T.tolist()
    [[2.0, 0.0, 0.0]]
    """
    return path(factor(x), y, alphas)


@jax.default_matmul_precision("float32")
def at(path: RidgePath, alpha: Float[Array, ""] | Float[Array, " e"]) -> LinearMap:
    """The map for one penalty, or for one of each target. Works under jit and vmap."""
    weight = path.factor.basis @ (path.inside / _shrink(path, alpha))
    return LinearMap(weight, path.mean - path.factor.mean @ weight)


@jax.default_matmul_precision("float32")
def predict(
    path: RidgePath,
    alpha: Float[Array, ""] | Float[Array, " e"],
    x: Float[Array, "m d"],
) -> Float32[Array, "m e"]:
    """``apply(at(path, alpha), x)`` without making the (d, e) weight."""
    inside = (x.astype(jnp.float32) - path.factor.mean[None]) @ path.factor.basis
    return inside @ (path.inside / _shrink(path, alpha)) + path.mean[None]


def k_fold(
    key: Array,
    x: Float[Array, "n d"],
    y: Float[Array, "m e"],
    alphas: Float[Array, " l"],
    *,
    folds: int = 5,
) -> Float32[Array, "l e"]:
    """Mean squared error of every penalty on held-out folds, drawn by ``key``.

    Folds differ in size by a row at most. Works under jit (``folds`` static) and vmap.

    Raises:
        UneError: for fewer than 2 folds, or less than 2 rows left in one's complement.
    """
    _check_pairs(x, y)
    n = len(x)
    if not 2 <= folds <= n or n - -(-n // folds) < 2:
        raise UneError(f"{folds} folds of {n} rows: use 2 or more, and fewer than rows")
    order = jax.random.permutation(key, n)
    total = jnp.zeros((len(alphas), y.shape[1]), jnp.float32)
    for i in range(folds):
        held = order[i::folds]
        fold = [order[j::folds] for j in range(folds) if j != i]
        rest = jnp.concatenate(fold)
        found = ridge_path(x[rest], y[rest], alphas)
        wanted = y[held].astype(jnp.float32)

        def error(alpha, found=found, held=held, wanted=wanted):
            return jnp.sum((predict(found, alpha, x[held]) - wanted) ** 2, axis=0)

        total += jax.lax.map(error, found.alphas)
    return total / n


def _shrink(path: RidgePath, alpha: Array) -> Float32[Array, "k e"]:
    each = jnp.broadcast_to(alpha.astype(jnp.float32), path.mean.shape)
    return path.factor.values[:, None] + each[None]


def _check_pairs(x: Array, y: Array) -> None:
    if len(x) != len(y):
        raise UneError(f"x has {len(x)} rows, y has {len(y)}: give pairs")
    if len(x) < 2:
        raise UneError(f"a map needs at least 2 rows; there are {len(x)}")


def _centre(x: Array) -> tuple[Float32[Array, "n d"], Float32[Array, " d"]]:
    """Rows about their mean, and the mean; twice, for what float32 left the first time."""
    x = x.astype(jnp.float32)
    mean = x.mean(axis=0)
    x = x - mean[None]
    left = x.mean(axis=0)
    return x - left[None], mean + left


def _off_constant(x: Float32[Array, "n d"]) -> Float32[Array, "n-1 d"]:
    """Centred rows in an orthonormal basis of what is orthogonal to the constant.

    The Householder reflection that takes the constant to the first axis, which is then
    dropped: the Gram matrix of n - 1 rows has full rank where that of n has not.
    """
    return x[1:] - x[:1] / (1 + jnp.sqrt(jnp.float32(len(x))))


def _on_constant(v: Float32[Array, "m k"]) -> Float32[Array, "m+1 k"]:
    """The transpose of :func:`_off_constant`."""
    n = jnp.float32(len(v) + 1)
    total = v.sum(axis=0, keepdims=True)
    return jnp.concatenate([-total / jnp.sqrt(n), v - total / (n + jnp.sqrt(n))])


def _solver(gram: Float32[Array, "k k"], alpha: Array):
    """Solves (gram + alpha) w = b; what rounding could make negative is lifted."""
    k = len(gram)
    lift = 2 * jnp.finfo(jnp.float32).eps * jnp.linalg.norm(gram)
    whole = gram + (alpha + lift) * jnp.eye(k, dtype=jnp.float32)
    lower = jnp.linalg.cholesky(whole, symmetrize_input=False)
    return lambda b: cho_solve((lower, True), b)


def _refine(solve, matmul, left: Array) -> Array:
    """Solves for what is left of each column: conjugate gradients, preconditioned by the
    factorised matrix, so that few steps do. Of a fixed number: they can be derived."""
    x, p = jnp.zeros_like(left), jnp.zeros_like(left)
    square = jnp.ones(left.shape[1:], left.dtype)
    for i in range(REFINEMENTS):
        z = solve(left)
        new_square = jnp.sum(left * z, axis=0)
        turn = jnp.where(square > 0, new_square / jnp.where(square > 0, square, 1.0), 0)
        p = z + turn[None] * p if i else z
        product = matmul(p)
        curvature = jnp.sum(p * product, axis=0)
        rate = jnp.where(curvature > 0, new_square / jnp.where(curvature > 0, curvature, 1.0), 0)  # fmt: skip
        x, left, square = x + rate[None] * p, left - rate[None] * product, new_square
    return x
