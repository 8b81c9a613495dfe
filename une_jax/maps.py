"""Linear maps from one view to another: ridge, least squares, Procrustes.

All are fitted on paired rows, about the columns' means, with a free intercept.
``ridge_path`` gives a whole path of penalties from one factorisation, with the
leave-one-out error of each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import least_squares, spectral
from une_jax.errors import UneError
from une_jax.normalise import centred


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
    >>> m.weight.T.round(2) + 0.0, m.bias.round(2)
    (Array([[2., 0., 0.]], dtype=float32), Array([1.], dtype=float32))
    """
    least_squares.check_pairs(x, y)
    (a, x_mean), (b, y_mean) = centred(x), centred(y)
    alpha = jnp.asarray(alpha, jnp.float32)
    if a.shape[1] < len(a) - 1:
        weight = least_squares.solve(a.T, alpha, a.T @ b)
    else:
        a, b = least_squares.off_constant(a), least_squares.off_constant(b)
        weight = a.T @ least_squares.solve(a, alpha, b)
    return LinearMap(weight, y_mean - x_mean @ weight)


@jax.default_matmul_precision("float32")
def ols(x: Float[Array, "n d"], y: Float[Array, "m e"]) -> LinearMap:
    """Least squares of minimal norm: sklearn's ``LinearRegression``.

    By singular values of the rows, not of their Gram matrix; those below float32's
    epsilon times max(n, d) of the largest count as zero. Works under jit and vmap.

    Raises:
        UneError: for fewer than two rows, or rows that are not paired.

    >>> x = jnp.arange(8.0).reshape(4, 2) ** 2
    >>> bool(jnp.allclose(apply(ols(x, x[:, :1]), x), x[:, :1], atol=1e-3))
    True
    """
    least_squares.check_pairs(x, y)
    (a, x_mean), (b, y_mean) = centred(x), centred(y)
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
    >>> m = procrustes(x, 3 * x @ turn, scale=True)
    >>> bool(jnp.allclose(m.weight, 3 * turn, atol=1e-5))
    True
    """
    left, right, x_mean, y_mean = rotation(x, y, scale=scale)
    weight = right if left is None else left @ right
    return LinearMap(weight, y_mean - x_mean @ weight)


@jax.default_matmul_precision("float32")
def rotation(
    x: Float[Array, "n d"], y: Float[Array, "m e"], *, scale: bool = False
) -> tuple[Array | None, Float32[Array, "k e"], Array, Array]:
    """:func:`procrustes` as two factors of the weight, and the means (d,) and (e,).

    The first, (d, k), is None for the identity: it is there for fewer rows than
    dimensions on both sides, with k = n - 1.
    """
    least_squares.check_pairs(x, y)
    (a, x_mean), (b, y_mean) = centred(x), centred(y)
    n, d = a.shape
    left = None
    if n - 1 < min(d, b.shape[1]):  # svd in the rows' span: n - 1, not d, wide
        a = least_squares.off_constant(a)
        q_x, r_x = jnp.linalg.qr(a.T)
        q_y, r_y = jnp.linalg.qr(least_squares.off_constant(b).T)
        u, s, vt = jnp.linalg.svd(r_x @ r_y.T)
        left, right = q_x @ (u @ vt), q_y.T
        image = a @ left  # as long as its rotation by the other factor
    else:
        u, s, vt = jnp.linalg.svd(a.T @ b, full_matrices=False)
        right = u @ vt
        image = a @ right
    if scale:
        right = right * (s.sum() / jnp.sum(image**2))
    return left, right, x_mean, y_mean


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
    a, mean = centred(x)
    n, d = a.shape
    if d < n - 1:
        values, basis = jnp.linalg.eigh(a.T @ a)
        return Factor(mean, jnp.maximum(values, 0), basis, a @ basis)
    reduced = least_squares.off_constant(a)
    values, v = jnp.linalg.eigh(reduced @ reduced.T)
    return Factor(
        mean, jnp.maximum(values, 0), reduced.T @ v, least_squares.on_constant(v)
    )


@jax.default_matmul_precision("float32")
def path(
    factor: Factor, y: Float[Array, "m e"], alphas: Float[Array, " l"]
) -> RidgePath:
    """Ridge maps to ``y`` for all penalties, with their leave-one-out errors.

    These are exact, without refitting (Allen 1974, PRESS). Generalised cross-validation is
    Golub, Heath and Wahba 1979. Works under jit and vmap.

    Args:
        alphas: above 0, as in :func:`ridge`. Below about 1e-6 of ``factor.values[-1]``
            the eigenvalues' rounding shows: fit :func:`ridge` there.

    Raises:
        UneError: for rows that are not paired.
    """
    if len(y) != len(factor.rows):
        raise UneError(f"x has {len(factor.rows)} rows, y has {len(y)}: give pairs")
    b, mean = centred(y)
    inside = factor.rows.T @ b

    def errors(alpha):
        residual, left = _residual(factor, inside, b, alpha)
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
    >>> at(found, found.best).weight.T.round(2) + 0.0
    Array([[2., 0., 0.]], dtype=float32)
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


@jax.default_matmul_precision("float32")
def low_rank(
    path: RidgePath, alpha: float | Float[Array, ""], rank: int
) -> tuple[Float32[Array, "d rank"], Float32[Array, "rank e"]]:
    """Two factors of the best weight of so small a rank under one penalty.

    Reduced rank regression (Izenman 1975), ridged (Mukherjee and Zhu 2011): the ridge
    weight, projected onto the top right singular vectors of what it makes of the rows
    and the penalty's own; no other weight of that rank has a smaller penalised error.
    Works under jit and vmap (``rank`` static).

    Raises:
        UneError: ``rank`` is not within 1 and what rows and targets allow.
    """
    values, inside = path.factor.values, path.inside
    most = min(inside.shape)
    if not 1 <= rank <= most:
        raise UneError(f"rank is {rank}; maps from these rows have 1 to {most}")
    alpha = jnp.asarray(alpha, jnp.float32)
    shrunk = jnp.maximum(values + alpha, jnp.finfo(jnp.float32).tiny)
    # Orthonormal in place of principal coordinates, where the factor has these.
    n, k = path.factor.rows.shape
    root = jnp.sqrt(1 / shrunk if k < n - 1 else values / shrunk)
    image = root[:, None] * inside
    if image.shape[0] <= image.shape[1]:
        top = spectral.top_eigh(image @ image.T, rank).vectors
        right = jnp.linalg.qr(image.T @ top)[0].T
    else:
        right = spectral.top_eigh(image.T @ image, rank).vectors.T
    left = path.factor.basis @ ((inside @ right.T) / shrunk[:, None])
    return left, right


@jax.default_matmul_precision("float32")
def reduced_rank(
    x: Float[Array, "n d"],
    y: Float[Array, "m e"],
    rank: int,
    alpha: float | Float[Array, ""],
) -> LinearMap:
    """The best map of at most so small a rank: see :func:`low_rank`.

    Works under jit and vmap (``rank`` static; also over ``alpha``).

    Args:
        alpha: as in :func:`path`.

    Raises:
        UneError: as :func:`path` and :func:`low_rank`.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = reduced_rank(x, x @ jnp.diag(jnp.array([3.0, 2.0, 0.1])), 1, alpha=1e-3)
    >>> jnp.abs(m.weight).max(axis=0).round(0).tolist()
    [3.0, 0.0, 0.0]
    """
    least_squares.check_pairs(x, y)
    found = path(factor(x), y, jnp.ones(1))
    left, right = low_rank(found, alpha, rank)
    weight = left @ right
    return LinearMap(weight, found.mean - found.factor.mean @ weight)


@jax.default_matmul_precision("float32")
def leave_one_out(
    path: RidgePath, alpha: Float[Array, ""], y: Float[Array, "m e"]
) -> Float32[Array, "m e"]:
    """What the fit to all rows but one misses of that one's target, for each row of the
    path's own. Works under jit and vmap."""
    centred_y = y.astype(jnp.float32) - path.mean[None]
    residual, left = _residual(path.factor, path.inside, centred_y, alpha)
    return residual / left[:, None]


def _residual(
    factor: Factor, inside: Array, b: Array, alpha: Array
) -> tuple[Float32[Array, "n e"], Float32[Array, " n"]]:
    """Of each row the residual, and one minus its leverage: their ratio is the
    leave-one-out residual. With n - 1 coordinates both go to zero with alpha; they are
    formed as multiples of alpha, and it cancels."""
    n, k = factor.rows.shape
    inverse = 1 / (factor.values + alpha)
    fitted, taken = factor.rows @ (inverse[:, None] * inside), factor.rows**2 @ inverse
    return (fitted, taken) if k == n - 1 else (b - fitted, 1 - 1 / n - taken)


def _shrink(path: RidgePath, alpha: Array) -> Float32[Array, "k e"]:
    each = jnp.broadcast_to(alpha.astype(jnp.float32), path.mean.shape)
    return path.factor.values[:, None] + each[None]
