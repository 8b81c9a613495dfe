"""Linear maps as the product they are fitted in, never multiplied out.

Between latents of 12,288 dimensions a weight has 150 million entries, while the fit to
9,000 rows lies in the span of these rows. Fitted through their Gram matrix, the map is
three thin factors; new rows, directions and further maps pass through them one by one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from une_jax import least_squares, maps, tall_qr
from une_jax.errors import UneError
from une_jax.normalise import centred


class Gram(NamedTuple):
    """Rows to map from, as every penalty needs them.

    Where d < n - 1, the centred rows, and no Gram matrix; else the rows in a basis of
    what is orthogonal to the constant (m = n - 1), and the lower triangle of theirs.
    """

    mean: Float32[Array, " d"]
    rows: Float32[Array, "m d"]
    lower: Float32[Array, "m m"] | None


class Dual(NamedTuple):
    """How ``rows rows^T + alpha`` is solved with."""

    lower: Float32[Array, "k k"]  # its Cholesky factor
    alpha: Float32[Array, ""]
    steps: Int32[Array, ""]  # of refinement that its conditioning asks for


class Solver(NamedTuple):
    """Ridge regression of one penalty on the same rows, for any targets."""

    mean: Float32[Array, " d"]
    rows: Float32[Array, "m d"]  # orthonormal columns where ``back`` is given
    back: Float32[Array, "d d"] | None  # takes ``rows.T @ y`` to the weight
    dual: Dual | None
    alpha: Float32[Array, ""]


class Map(NamedTuple):
    """``y = S((x - mean) @ rows.T) @ core + bias``.

    S solves with ``dual``; without it, or without ``rows``, that factor is missing.
    """

    mean: Float32[Array, " d"]  # of the rows mapped from
    rows: Float32[Array, "k d"] | None
    dual: Dual | None
    core: Float32[Array, "k e"]
    bias: Float32[Array, " e"]  # what the mean is mapped to
    alpha: Float32[Array, ""]  # the penalty; 0 without, NaN where there is none to tell


@jax.default_matmul_precision("float32")
def gram(x: Float[Array, "n d"]) -> Gram:
    """What :func:`solver` needs of the rows. Works under jit, vmap and grad.

    Raises:
        UneError: for fewer than two rows.

    >>> gram(jnp.ones((5, 2))).lower is None, gram(jnp.ones((3, 4))).lower.shape
    (True, (2, 2))
    """
    if len(x) < 2:
        raise UneError(f"a map needs at least 2 rows; there are {len(x)}")
    a, mean = centred(x)
    if a.shape[1] < len(a) - 1:
        return Gram(mean, a, None)
    a = least_squares.off_constant(a)
    return Gram(mean, a, least_squares.lower_gram(a))


@jax.default_matmul_precision("float32")
def solver(of: Gram, alpha: float | Float[Array, ""]) -> Solver:
    """Factorises for one penalty, as ``maps.ridge`` has it, to serve any targets.

    With more rows than dimensions by QR of the rows, whose conditioning is the square
    root of their Gram matrix'; else by Cholesky of that, and as many steps of
    refinement as it turns out to need. Works under jit, vmap (also over ``alpha``) and
    grad.

    Args:
        alpha: 0 or more. At 0, directions of less than about 1e-6 of the largest
            eigenvalue count as absent: see :func:`least_squares_solver`.
    """
    alpha = jnp.asarray(alpha, jnp.float32)
    if of.lower is not None:
        lower = least_squares.cholesky(of.lower, alpha)
        steps = least_squares.steps_needed(of.rows, alpha, lower)
        return Solver(of.mean, of.rows, None, Dual(lower, alpha, steps), alpha)
    d = of.rows.shape[1]
    square = jnp.sum(of.rows**2)
    lifted = alpha + 8 * jnp.finfo(jnp.float32).eps ** 2 * square
    # Not 0 even for rows that are all alike.
    below = jnp.sqrt(jnp.maximum(lifted, 1e-30)) * jnp.eye(d, dtype=jnp.float32)
    q, r = tall_qr.qr(jnp.concatenate([of.rows, below]))
    return Solver(of.mean, q[: len(of.rows)], _inverse(r), None, alpha)


@jax.default_matmul_precision("float32")
def least_squares_solver(of: Gram) -> Solver:
    """The same without a penalty: of minimal norm, as ``maps.ols``.

    With more rows than dimensions by singular values, those below float32's epsilon
    times n of the largest counting as zero; else :func:`solver` at 0. Works under jit
    and vmap.
    """
    if of.lower is not None:
        return solver(of, 0.0)
    q, r = tall_qr.qr(of.rows)
    least = jnp.finfo(jnp.float32).eps * len(of.rows)

    def whole():
        return q, _inverse(r)

    def in_part():
        u, s, vt = jnp.linalg.svd(r)
        kept = s > least * s[0]
        inverse = jnp.where(kept, 1 / jnp.where(kept, s, 1.0), 0.0)
        return q @ u, vt.T * inverse[None]

    # A bound of the condition: below it, every singular value is above the threshold.
    condition = jnp.linalg.norm(r) * jnp.linalg.norm(_inverse(r))
    rows, back = jax.lax.cond(condition < 1 / least, whole, in_part)
    return Solver(of.mean, rows, back, None, jnp.float32(0))


@jax.default_matmul_precision("float32")
def ridge(of: Solver, y: Float[Array, "n e"]) -> Map:
    """The map to these targets. Works under jit, vmap and grad.

    In the dual form this is next to free: what there is to solve is left to
    :func:`predict`, for as many columns as there are new rows, not targets.

    Raises:
        UneError: for rows that are not paired.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = ridge(solver(gram(x), 1e-3), x[:, :1] * 2 + 1)
    >>> predict(m, jnp.ones((1, 3))).round(2).tolist()
    [[3.0]]
    """
    n = len(of.rows) + (of.dual is not None)
    if len(y) != n:
        raise UneError(f"x has {n} rows, y has {len(y)}: give pairs")
    b, bias = centred(y)
    if of.back is not None:
        core = of.back @ (of.rows.T @ b)
        return Map(of.mean, None, None, core, bias, of.alpha)
    core = least_squares.off_constant(b)
    return Map(of.mean, of.rows, of.dual, core, bias, of.alpha)


@jax.default_matmul_precision("float32")
def on_path(path: maps.RidgePath, alpha: float | Float[Array, ""]) -> Map:
    """The map of one penalty on a path. Works under jit, vmap and grad."""
    alpha = jnp.asarray(alpha, jnp.float32)
    core = path.inside / (path.factor.values + alpha)[:, None]
    if len(path.factor.basis) <= len(path.factor.values):
        core = path.factor.basis @ core
        return Map(path.factor.mean, None, None, core, path.mean, alpha)
    return Map(path.factor.mean, path.factor.basis.T, None, core, path.mean, alpha)


@jax.default_matmul_precision("float32")
def predict(m: Map, x: Float[Array, "n d"]) -> Float32[Array, "n e"]:
    """The map of every row; float32 inside. Works under jit, vmap and grad.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> predict(ridge(solver(gram(x), 1.0), x), x[:2]).shape
    (2, 3)
    """
    return carry(x.astype(jnp.float32) - m.mean[None], m) + m.bias[None]


@jax.default_matmul_precision("float32")
def carry(direction: Float[Array, "*m d"], m: Map) -> Float32[Array, "*m e"]:
    """Where steps in the one latent space lead in the other: ``direction @ weight``.

    Works under jit, vmap and grad.

    Args:
        direction: displacements, one or many; not the normals of a probe, which weigh
            what a step does rather than take one.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = ridge(solver(gram(x), 1e-3), 2 * x)
    >>> (carry(jnp.array([1.0, 0.0, 0.0]), m).round(2) + 0.0).tolist()
    [2.0, 0.0, 0.0]
    """
    return _inside(direction, m) @ m.core


@jax.default_matmul_precision("float32")
def inside(m: Map, x: Float[Array, "n d"]) -> Float32[Array, "n k"]:
    """What of rows the core is given: the same for every map of one solver.

    Works under jit, vmap and grad.
    """
    return _inside(x.astype(jnp.float32) - m.mean[None], m)


@jax.default_matmul_precision("float32")
def compose(first: Map, second: Map) -> Map:  # of (d, e) and (e, f), to (d, f)
    """``second`` after ``first``, in the factors of the first. Works under jit, vmap.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> double = ridge(solver(gram(x), 0.0), 2 * x)
    >>> predict(compose(double, double), jnp.ones((1, 3))).round(3).tolist()
    [[4.0, 4.0, 4.0]]
    """
    bias = predict(second, first.bias[None])[0]
    return first._replace(
        core=carry(first.core, second), bias=bias, alpha=jnp.float32(jnp.nan)
    )


@jax.default_matmul_precision("float32")
def weight(m: Map) -> Float32[Array, "d e"]:
    """The product of the factors. Works under jit, vmap and grad."""
    core = m.core if m.dual is None else _solve(m, m.core)
    return core if m.rows is None else m.rows.T @ core


@jax.default_matmul_precision("float32")
def linear(m: Map) -> maps.LinearMap:
    """As weight and bias, for ``maps.apply``. Works under jit, vmap and grad."""
    w = weight(m)
    return maps.LinearMap(w, m.bias - m.mean @ w)


@jax.default_matmul_precision("float32")
def singular_values(m: Map) -> Float32[Array, " r"]:
    """Of the weight, from the largest down; r is the rank that it can have.

    Without the weight where it is larger than the factors. Works under jit and vmap.
    """
    if m.rows is None or len(m.rows) >= min(m.rows.shape[1], m.core.shape[1]):
        return jnp.linalg.svd(weight(m), compute_uv=False)
    inner = m.core if m.dual is None else _solve(m, m.core)
    left = jnp.linalg.qr(m.rows.T, mode="r")
    right = jnp.linalg.qr(inner.T, mode="r")
    return jnp.linalg.svd(left @ right.T, compute_uv=False)


def map_rank(m: Map, *, part: float = 0.9) -> Int32[Array, ""]:
    """How many singular values of the weight make up this part of their sum.

    Badrinath et al., "All Roads Lead to Rome?": of the values, not their squares. A
    count, so one more than the index that their code prints. Works under jit and vmap
    (``part`` static).

    Raises:
        UneError: ``part`` is not within (0, 1].

    >>> x = jax.random.normal(jax.random.key(0), (50, 4))
    >>> map_rank(ridge(solver(gram(x), 0.0), x @ jnp.diag(jnp.array([9.0, 1, 1, 0])))).item()
    2
    """
    if not 0 < part <= 1:
        raise UneError(f"part is {part}; use more than 0, at most 1")
    values = singular_values(m)
    reached = jnp.cumsum(values) >= part * (1 - 1e-6) * values.sum()
    return jnp.argmax(reached).astype(jnp.int32) + 1


def _inside(steps: Float[Array, "*m d"], m: Map) -> Float32[Array, "*m k"]:
    steps = steps.astype(jnp.float32)
    if m.rows is not None:
        steps = steps @ m.rows.T
    if m.dual is None:
        return steps
    flat = steps.reshape(-1, steps.shape[-1])
    return _solve(m, flat.T).T.reshape(steps.shape)


def _inverse(r: Float32[Array, "d d"]) -> Float32[Array, "d d"]:
    """Of an upper triangle."""
    eye = jnp.eye(len(r), dtype=jnp.float32)
    return jax.scipy.linalg.solve_triangular(r, eye)


def _solve(m: Map, b: Float32[Array, "k e"]) -> Float32[Array, "k e"]:
    assert m.rows is not None and m.dual is not None
    dual = m.dual
    return least_squares.refined(m.rows, dual.alpha, dual.lower, b, dual.steps)
