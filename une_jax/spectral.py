"""The largest eigenvalues of a symmetric matrix, with a certificate of each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from une_jax import tall_qr
from une_jax.errors import UneError

# Growth of the largest eigenvector over the k-th in one filter. A column's rounding is
# a part eps of it, QR takes that out to eps again: eps^2 of this is what stays.
MAX_GROWTH = 1e7
MAX_DEGREE = 16


class TopEigh(NamedTuple):
    """The k largest eigenpairs: ``a @ vectors`` is near ``vectors * values``."""

    values: Float32[Array, " k"]  # descending
    vectors: Float32[Array, "d k"]  # orthonormal columns
    residual: Float32[Array, " k"]  # |a v - value v| / |largest value|
    iterations: Int32[Array, ""]  # filters applied; 0 by eigh


@jax.default_matmul_precision("float32")
def top_eigh(
    a: Float[Array, "d d"],
    k: int,
    *,
    key: PRNGKeyArray | None = None,
    tol: float | Float[Array, ""] = 2e-6,
    max_iter: int = 60,
    direct: bool | None = None,
) -> TopEigh:
    """The ``k`` largest eigenpairs of a symmetric positive semi-definite matrix.

    ``eigh`` where ``d`` is small or ``k`` a large part of it. Else Chebyshev-filtered
    subspace iteration (Zhou, Saad, Tiago and Chelikowsky 2006) of k + k / 4 columns,
    until each residual of the first k is below ``tol`` or falls no more: matrix products only, so fast
    on every device, and right for flat spectra, where powers hardly converge. An
    eigenvalue is wrong by at most its residual. A vector is wrong by about residual /
    gap, so that beside a close eigenvalue it may be turned towards that one's, which
    changes the variance that the k of them hold by next to nothing.

    Works under jit and vmap (``k``, ``max_iter`` and ``direct`` static).

    Args:
        a: the matrix; the symmetry is taken on trust.
        key: of the random start; ``jax.random.key(0)`` where left out.
        tol: residual to reach; float32 ends at 1e-6 to 1e-5.
        max_iter: filters at most. Look at ``residual``: it says whether they sufficed.
        direct: whether to call ``eigh``; left out, the sizes decide.

    Raises:
        UneError: ``k`` is not within 1 to d.

    >>> top = top_eigh(jnp.diag(jnp.array([1.0, 4.0, 9.0])), 2)
    >>> top.values.round(3).tolist()
    [9.0, 4.0]
    """
    d = len(a)
    if not 1 <= k <= d:
        raise UneError(f"k is {k}; a {d} x {d} matrix has 1 to {d} eigenvectors")
    a = a.astype(jnp.float32)
    block = min(d, k + max(16, k // 4))
    if direct is None:
        direct = d <= 256 or 3 * block > d
    if direct:
        values, vectors = jnp.linalg.eigh(a)
        values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        done = jnp.int32(0)
        return TopEigh(values, vectors, residual(a @ vectors, values, vectors), done)

    key = jax.random.key(0) if key is None else key
    start = jax.random.normal(key, (d, block), jnp.float32)

    def going(state):
        values, vectors, image, before, i = state
        worst = residual(image, values, vectors)[:k].max()
        at_rounding = (worst < 10 * tol) & (worst > before / 2)
        return (i < max_iter) & (worst > tol) & ~at_rounding

    def step(state):
        values, vectors, image, _, i = state
        before = residual(image, values, vectors)[:k].max()
        columns = _filtered(a, values, vectors, image, k)
        return *_within(a, orthonormal(columns)), before, i + 1

    # The first product takes the start half the way to the large ones.
    basis, _ = jnp.linalg.qr(a @ start)
    state = *_within(a, basis), jnp.float32(jnp.inf), jnp.int32(0)
    values, vectors, image, _, done = jax.lax.while_loop(going, step, state)
    wrong = residual(image, values, vectors)
    return TopEigh(values[:k], vectors[:, :k], wrong[:k], done)


@jax.default_matmul_precision("float32")
def rayleigh_ritz(
    basis: Float32[Array, "d b"], image: Float32[Array, "d b"]
) -> tuple[Float32[Array, " b"], Float32[Array, "d b"], Float32[Array, "d b"]]:
    """Eigenpairs of a symmetric operator within an orthonormal basis' span.

    Args:
        image: the operator's products with the basis.

    Returns:
        Values (descending), vectors, and the operator's products with the vectors.

    >>> basis, a = jnp.eye(3)[:, :2], jnp.diag(jnp.array([1.0, 4.0, 9.0]))
    >>> rayleigh_ritz(basis, a @ basis)[0].tolist()
    [4.0, 1.0]
    """
    inner = basis.T @ image
    values, turn = jnp.linalg.eigh((inner + inner.T) / 2)
    turn = turn[:, ::-1]
    return values[::-1], basis @ turn, image @ turn


def _within(a: Array, basis: Array) -> tuple[Array, Array, Array]:
    return rayleigh_ritz(basis, a @ basis)


def _filtered(a: Array, values: Array, vectors: Array, image: Array, k: int) -> Array:
    """A Chebyshev polynomial of ``a`` that is small up to the last Ritz value and grows
    fast above, divided by its value at the largest: the recurrence of Zhou et al."""
    tiny = jnp.float32(1e-30)
    half = jnp.maximum(values[-1] / 2, 1e-7 * values[0] + tiny)
    top = jnp.maximum((values[0] - half) / half, 1.0)
    kth = jnp.maximum((values[k - 1] - half) / half, 1.0)
    growth = jnp.maximum(jnp.arccosh(top) - jnp.arccosh(kth), 1e-3)
    degree = jnp.clip(jnp.log(MAX_GROWTH) / growth, 1, MAX_DEGREE).astype(jnp.int32)

    def turn(_, state):
        sigma, before, now = state
        following = 1 / (2 * top - sigma)
        after = (2 * following / half) * (a @ now - half * now)
        return following, now, after - sigma * following * before

    first = (image - half * vectors) / (half * top)
    state = (1 / top, vectors, first)
    return jax.lax.fori_loop(1, degree, turn, state)[2]


def orthonormal(columns: Float32[Array, "d b"]) -> Float32[Array, "d b"]:
    """A basis of the columns' span, quickest where they are nearly orthogonal but for
    their lengths, as products with Ritz vectors are.

    >>> orthonormal(jnp.array([[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    lengths = jnp.maximum(jnp.linalg.norm(columns, axis=0), 1e-30)
    return tall_qr.qr(columns / lengths[None])[0]


def residual(
    image: Float32[Array, "d b"],
    values: Float32[Array, " _"],
    vectors: Float32[Array, "d b"],
) -> Float32[Array, " b"]:
    """Of each eigenpair, ``|a v - value v|`` over the largest (the first) value.

    Args:
        image: the matrix' products with the vectors.
        values: of the vectors, and perhaps of more.

    >>> residual(jnp.eye(2), jnp.array([1.0, 0.5]), jnp.eye(2)).tolist()
    [0.0, 0.5]
    """
    error = jnp.linalg.norm(image - vectors * values[None, : vectors.shape[1]], axis=0)
    return error / jnp.maximum(jnp.abs(values[0]), 1e-30)
