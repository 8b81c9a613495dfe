"""Shape distance: how far two views are apart once the best rotation is done.

Williams et al. (arXiv 2110.14739), as in their netrep. It is a metric: symmetric, 0 for
views that a rotation, a shift and a scale make equal, with the triangle inequality.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import cca


@jax.default_matmul_precision("float32")
def side(
    x: Float[Array, "n d"], *, alpha: float | Float[Array, ""] = 1.0
) -> Float32[Array, "n r"]:
    """One view, centred, partially whitened and of Frobenius norm 1.

    Its columns are the principal ones: a rotation of the view, so of no consequence.

    Args:
        alpha: 1 leaves the view as it is (then only a rotation is aligned away), 0
            whitens it (then any invertible map is, and the similarity is the mean
            canonical correlation); in between a mixture of both, which depends on the
            view's scale, as netrep's does.

    >>> jnp.linalg.norm(side(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]]))).round(3).item()
    1.0
    """
    p = cca.principal(x)
    scale = jnp.where(p.kept, alpha * p.scale + (1 - alpha), 0.0)
    columns = p.columns * scale[None]
    norm = jnp.sqrt(jnp.sum(scale**2))
    return columns / jnp.where(norm > 0, norm, 1.0)


def similarity(a: Float[Array, "n r"], b: Float[Array, "n s"]) -> Float32[Array, ""]:
    """Cosine of two sides after the best rotation, ``|a'b|_*``, in [0, 1].

    Sides of different dimensions are compared as if the smaller were padded with zeros.

    >>> similarity(jnp.eye(2) / 2**0.5, jnp.eye(2)[::-1] / 2**0.5).round(3).item()
    1.0
    """
    return jnp.minimum(cca.correlations(a, b).sum(), 1.0)


def angular(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    alpha: float | Float[Array, ""] = 1.0,
) -> Float32[Array, ""]:
    """Angular Procrustes distance ``arccos |x'y|_*``, within 0 and pi / 2.

    float32: distances below about 1e-3 are rounding.

    >>> x = jax.random.normal(jax.random.key(0), (50, 4))
    >>> angular(x, 2 * x[:, ::-1]).item() < 2e-3
    True
    """
    return jnp.arccos(similarity(side(x, alpha=alpha), side(y, alpha=alpha)))


def procrustes(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    alpha: float | Float[Array, ""] = 1.0,
) -> Float32[Array, ""]:
    """Squared Euclidean Procrustes distance ``2 - 2 |x'y|_*``, within 0 and 2.

    >>> x = jax.random.normal(jax.random.key(0), (50, 4))
    >>> procrustes(x, 2 * x[:, ::-1]).item() < 1e-5
    True
    """
    return 2 - 2 * similarity(side(x, alpha=alpha), side(y, alpha=alpha))


@jax.default_matmul_precision("float32")
def fast_similarity(
    a: Float[Array, "n r"], b: Float[Array, "n s"]
) -> Float32[Array, ""]:
    """:func:`similarity` by matrix products alone, for permutations.

    ``|m|_* = <polar factor of m, m>``, the factor by Newton-Schulz: steps of degree
    five that lift small singular values 3.4-fold, then of three that bring all to 1.
    Singular values below 1e-4 of the norm come short, so of themselves small, which
    takes less than 1e-3 of the sum. An SVD of 256 x 256 takes ten times as long.

    >>> fast_similarity(jnp.eye(2) / 2**0.5, jnp.eye(2)[::-1] / 2**0.5).round(3).item()
    1.0
    """
    m = a.T @ b
    if m.shape[0] < m.shape[1]:
        m = m.T
    square = jnp.sum(m**2)
    q = m / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    for _ in range(7):  # coefficients of Keller Jordan's Muon: no overshoot above 1.3
        gram = q.T @ q
        q = 3.4445 * q + q @ (2.0315 * gram @ gram - 4.7750 * gram)
    for _ in range(5):
        q = 1.5 * q - 0.5 * (q @ (q.T @ q))
    return jnp.minimum(jnp.sum(q * m), 1.0)
