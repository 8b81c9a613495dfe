"""Subspaces: the angles between two of them, and how much one holds of the other.

A subspace is the span of a matrix's columns, whatever their lengths and however many
repeat. Taken of centred data matrices with the rows in common, the cosines of the
angles are the canonical correlations (Björck and Golub 1973).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.normalise import centred

# Columns whose singular value is below this part of the largest are rounding.
RANK_TOL = 1e-5


@jax.default_matmul_precision("float32")
def basis(a: Float[Array, "d p"]) -> Float32[Array, "d p"]:
    """Orthonormal columns that span what the columns of ``a`` span; p at most d.

    Where ``a`` has rank r below p, the last p - r columns are zero, so that shapes do
    not depend on values. Columns are scaled to length 1 first: a short one counts as
    much as a long one. Works under jit and vmap.

    Raises:
        ValueError: for more columns than rows.

    >>> basis(jnp.array([[3.0, 6.0], [0.0, 0.0]])).round(3).T.tolist()[1]
    [0.0, 0.0]
    """
    d, p = a.shape
    if p > d:
        raise ValueError(f"{p} columns in {d} dimensions: give the rows' transpose")
    a = a.astype(jnp.float32)
    largest = jnp.abs(a).max(axis=0)  # squares of tiny numbers would underflow
    a = a / jnp.where(largest > 0, largest, 1.0)[None]
    length = jnp.linalg.norm(a, axis=0)
    u, s, _ = jnp.linalg.svd(
        a / jnp.where(length > 0, length, 1.0)[None], full_matrices=False
    )
    # Written so that NaN is kept, not taken for a lack of rank.
    return jnp.where((s <= RANK_TOL * s[0])[None], 0.0, u)


@jax.default_matmul_precision("float32")
def principal_angles(
    a: Float[Array, "d p"], b: Float[Array, "d q"]
) -> Float32[Array, " m"]:
    """The m = min(p, q) angles between two spans, in radians, from the smallest up.

    Small angles come from sines, large ones from cosines: an arc cosine alone cannot
    tell angles below 3e-4 from 0 in float32 (Knyazev and Argentati 2002, Algorithm 2.1).
    A dimension that a matrix lacks to its full rank is at pi / 2 to everything. Works
    under jit and vmap; gradients where no two angles are equal. NaN gives NaN.

    Raises:
        ValueError: for more columns than rows.

    >>> a, b = jnp.eye(3)[:, :2], jnp.array([[1.0, 0], [0, 1], [0, 1]])
    >>> jnp.rad2deg(principal_angles(a, b)).round(2).tolist()
    [0.0, 45.0]
    """
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    a, b = basis(a), basis(b)
    cross = a.T @ b
    cosines = jnp.linalg.svd(cross, compute_uv=False)
    lacking = jnp.diag(1.0 - jnp.sum(b**2, axis=0).round())
    rest = b - a @ cross
    rest = rest - a @ (a.T @ rest)  # twice is enough
    sines = jnp.linalg.svd(jnp.concatenate([rest, lacking]), compute_uv=False)[::-1]
    by_sine = jnp.arcsin(jnp.clip(sines, 0.0, 1.0))
    by_cosine = jnp.arccos(jnp.clip(cosines, 0.0, 1.0))
    return jnp.where(cosines**2 > 0.5, by_sine, by_cosine)


def overlap(a: Float[Array, "d p"], b: Float[Array, "d q"]) -> Float32[Array, ""]:
    """The part of the span of ``b`` that lies in that of ``a``: 0 apart, 1 within.

    ``|A^T B|_F^2 / rank(b)`` of orthonormal bases: the mean squared cosine. For a span
    in a random place it is rank(a) / d. Not symmetric where the ranks differ. Works
    under jit, vmap; NaN for a ``b`` of zeros. Errors as in :func:`principal_angles`.

    >>> a, b = jnp.eye(3)[:, :1], jnp.eye(3)[:, :2]
    >>> overlap(a, b).item(), overlap(b, a).item()
    (0.5, 1.0)
    """
    with jax.default_matmul_precision("float32"):
        a, b = basis(a), basis(b)
        return jnp.sum((a.T @ b) ** 2) / jnp.sum(b**2).round()


@jax.default_matmul_precision("float32")
def explained(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float32[Array, " q"]:
    """R² of each column of ``y`` on the columns of ``x`` and a constant.

    Of these rows themselves: with p columns of chance it is (p / (n - 1)) on average,
    so p far below n is asked for; held-out rows need a map (``maps.ridge``). A column
    that does not vary has NaN. Works under jit and vmap.

    Raises:
        ValueError: for more columns than rows.

    >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    >>> explained(x, 5 - 2 * x).round(4).tolist()
    [1.0]
    """
    (x, _), (y, _) = centred(x), centred(y)
    inside = basis(x).T @ y
    return jnp.sum(inside**2, axis=0) / jnp.sum(y**2, axis=0)


def canonical_correlations(
    x: Float[Array, "n p"], y: Float[Array, "n q"]
) -> Float32[Array, " m"]:
    """Correlations of the m = min(p, q) canonical pairs, from the largest down.

    Cosines of the principal angles between the centred columns. Of these rows
    themselves, as in :func:`explained`: chance alone reaches about
    ``sqrt(p / n) + sqrt(q / n)``. Works under jit and vmap.

    >>> x = jnp.array([[0.0, 1.0], [1.0, -1.0], [2.0, 1.0], [3.0, -1.0]])
    >>> canonical_correlations(x, x[:, :1] ** 2).shape
    (1,)
    """
    return jnp.cos(principal_angles(centred(x)[0], centred(y)[0]))
