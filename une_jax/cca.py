"""Canonical correlations of two views, and the scores made of them: SVCCA, PWCCA.

Each view becomes columns in the space of its rows: orthonormal ones that span it, the
weak ones shortened or left out. Canonical correlations are then the singular values of
one small product, and to pair the rows anew means to reorder the columns' rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from une_jax.errors import UneError
from une_jax.normalise import centred
from une_jax.pca import RANK_TOL


class Principal(NamedTuple):
    """Centred rows by components, the largest first: ``columns * scale @ directions``.

    Components that rounding would make up are zero columns of scale 0.
    """

    columns: Float32[Array, "n r"]  # orthonormal, of sum 0
    scale: Float32[Array, " r"]  # their singular values
    kept: Bool[Array, " r"]


@jax.default_matmul_precision("float32")
def principal(x: Float[Array, "n d"], components: int | None = None) -> Principal:
    """The rows' principal components as columns, min(n - 1, d) of them at most.

    ``components`` of those where given (static under jit).

    >>> principal(jnp.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 0.0]])).kept.tolist()
    [True, False]
    """
    n, d = x.shape
    r = min(n - 1, d) if components is None else min(components, n - 1, d)
    if r < 1:
        raise UneError(f"{r} components of {n} rows in {d} dimensions; 1 are needed")
    x, _ = centred(x)
    if d < n:
        variance, directions = jnp.linalg.eigh(x.T @ x)
        columns = x @ directions[:, ::-1][:, :r]
    else:
        variance, columns = jnp.linalg.eigh(x @ x.T)
        columns = columns[:, ::-1][:, :r]
    variance = variance[::-1][:r]
    kept = variance > RANK_TOL * jnp.maximum(variance[0], 0.0)
    # From the largest down, QR takes out of each what rounding mixed in of larger ones.
    # What is not kept must not steer it: any columns do, they are zeroed again.
    columns, r_factor = jnp.linalg.qr(jnp.where(kept[None], columns, 0.0))
    columns = jnp.where(kept[None], columns, 0.0)
    scale = jnp.abs(jnp.diag(r_factor)) if d < n else jnp.sqrt(jnp.abs(variance))
    return Principal(columns, jnp.where(kept, scale, 0.0), kept)


def leading(p: Principal, variance: float | Float[Array, ""]) -> Principal:
    """The fewest components that hold this part of the variance; the others zeroed.

    >>> leading(Principal(jnp.eye(2), jnp.array([3.0, 1.0]), jnp.ones(2, bool)), 0.8).kept.tolist()
    [True, False]
    """
    power = p.scale**2
    before = jnp.cumsum(power) - power
    # All of it is all of them: a rounded sum must not leave out the last.
    enough = (before >= variance * power.sum()) & (variance < 1)
    kept = p.kept & ~enough
    return Principal(
        jnp.where(kept[None], p.columns, 0.0), jnp.where(kept, p.scale, 0.0), kept
    )


def regularised(p: Principal, ridge: float | Float[Array, ""]) -> Float32[Array, "n r"]:
    """``x (x'x + ridge * mean eigenvalue * I)^(-1/2)``: weak components shortened.

    The mean is over the components of the view that are kept, so that a ridge means the
    same in views of any scale; with 0 the columns are orthonormal.
    """
    power = p.scale**2
    rank = jnp.maximum(p.kept.sum(dtype=jnp.int32).astype(jnp.float32), 1.0)
    penalty = ridge * power.sum() / rank
    square = jnp.where(p.kept, power + penalty, 1.0)
    return p.columns * (p.scale / jnp.sqrt(square))[None]


@jax.default_matmul_precision("float32")
def correlations(
    a: Float[Array, "n r"], b: Float[Array, "n s"]
) -> Float32[Array, " m"]:
    """Singular values of ``a.T @ b``, descending: canonical correlations where the
    columns are :func:`regularised`.

    >>> correlations(jnp.eye(3)[:, :1], jnp.eye(3)).round(3).tolist()
    [1.0]
    """
    return jnp.linalg.svd(a.T @ b, compute_uv=False)


def canonical(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    ridge: float | Float[Array, ""] = 0.0,
) -> Float32[Array, " m"]:
    """Canonical correlations, descending, of regularised CCA (Vinod 1976).

    Singular values of ``(x'x + k I)^(-1/2) x'y (y'y + l I)^(-1/2)`` of centred views,
    with ``k`` and ``l`` ``ridge`` times the mean eigenvalue of each.

    Without a ridge, and with as many dimensions as rows, all are 1 and mean nothing.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> canonical(x, x @ jnp.array([[1.0], [2.0], [0.0]])).round(3).tolist()
    [1.0]
    """
    return correlations(
        regularised(principal(x), ridge), regularised(principal(y), ridge)
    )


def svcca(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    components: int = 10,
    standardise: bool = True,
) -> Float32[Array, ""]:
    """Mean canonical correlation of the views' first principal components.

    Raghu et al. (arXiv 1706.05806), with the 10 components, of columns divided by their
    standard deviations, of Huh et al. (arXiv 2405.07987), here by an exact
    decomposition. A view of fewer dimensions has that many correlations.

    >>> x = jax.random.normal(jax.random.key(0), (50, 20))
    >>> svcca(x, 2 * x).round(3).item()
    1.0
    """
    a, b = (svcca_columns(v, components, standardise=standardise) for v in (x, y))
    return svcca_score(a, b)


def svcca_columns(
    x: Float[Array, "n d"], components: int, *, standardise: bool = True
) -> Float32[Array, "n r"]:
    """One view's side of :func:`svcca`."""
    return principal(standardised(x) if standardise else x, components).columns


def svcca_score(a: Float[Array, "n r"], b: Float[Array, "n s"]) -> Float32[Array, ""]:
    """:func:`svcca` of two sides."""
    return jnp.minimum(correlations(a, b), 1.0).mean()


def standardised(x: Float[Array, "n d"]) -> Float32[Array, "n d"]:
    """Columns of mean 0 and deviation 1; constant ones become 0.

    >>> standardised(jnp.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    x, _ = centred(x)
    std = jnp.sqrt(jnp.mean(x**2, axis=0))
    return x / jnp.where(std > 0, std, 1.0)[None]


def pwcca(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    variance: float | Float[Array, ""] = 0.99,
) -> Float32[Array, ""]:
    """Canonical correlations weighted by how much of ``x`` their variates explain.

    Morcos, Raghu and Bengio (arXiv 1806.05759), Eqs. (4) and (5): the weight of variate
    h_i is the sum over the columns of ``x`` of |<h_i, x_j>|. Components beyond
    ``variance`` are left out first, of both views. Not symmetric: the weights are x's.

    >>> x = jax.random.normal(jax.random.key(0), (50, 20))
    >>> pwcca(x, 2 * x).round(3).item()
    1.0
    """
    a, b = (pwcca_side(v, variance) for v in (x, y))
    return pwcca_score(a, b)


class PwccaSide(NamedTuple):
    """One view's side of :func:`pwcca`."""

    columns: Float32[Array, "n r"]  # orthonormal
    inside: Float32[Array, "r d"]  # the view's columns in them


@jax.default_matmul_precision("float32")
def pwcca_side(
    x: Float[Array, "n d"],
    variance: float | Float[Array, ""],
    *,
    components: int | None = None,
) -> PwccaSide:
    """One view's side of :func:`pwcca`; of ``components`` at most where given."""
    columns = leading(principal(x, components), variance).columns
    return PwccaSide(columns, columns.T @ centred(x)[0])


@jax.default_matmul_precision("float32")
def pwcca_score(a: PwccaSide, b: PwccaSide) -> Float32[Array, ""]:
    """:func:`pwcca` of two sides, weighted by ``a``."""
    left, rho, _ = jnp.linalg.svd(a.columns.T @ b.columns, full_matrices=False)
    weight = jnp.abs(left.T @ a.inside).sum(axis=1)
    # No variates are those beyond the smaller view's components.
    ranks = [jnp.any(v.columns != 0, axis=0).sum(dtype=jnp.int32) for v in (a, b)]
    weight = jnp.where(jnp.arange(len(rho)) < jnp.minimum(*ranks), weight, 0.0)
    return jnp.sum(weight * jnp.minimum(rho, 1.0)) / jnp.maximum(weight.sum(), 1e-30)
