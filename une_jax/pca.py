"""Principal components: the largest directions of centred rows, and whitening."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Float32

from une_jax import spectral
from une_jax.errors import UneError
from une_jax.normalise import centred

# Components whose variance is a smaller part of the largest one's than this cannot be
# told from the rounding of a float32 Gram matrix, and are dropped.
RANK_TOL = 3e-6


class PCA(NamedTuple):
    """The k directions of largest variance; those beyond the rank are zero."""

    mean: Float32[Array, " d"]
    basis: Float32[Array, "d k"]  # orthonormal columns, the largest first
    variance: Float32[Array, " k"]  # of the rows along each, divisor n - 1
    explained_variance: Float32[Array, ""]  # the part of all variance that they hold
    residual: Float32[Array, " k"]  # of each eigenvector, see spectral.TopEigh


class Whitened(NamedTuple):
    """``rows = (x - mean) @ back``: uncorrelated, of unit variance (divisor n)."""

    rows: Float32[Array, "n k"]
    back: Float32[Array, "d k"]  # takes weights of whitened columns to latent space


@jax.default_matmul_precision("float32")
def fit(x: Float[Array, "n d"], k: int | None = None) -> PCA:
    """The ``k`` principal components of the rows, as sklearn's ``PCA(k)``.

    By the smaller of the two Gram matrices, through :func:`spectral.top_eigh`: exactly
    where k is a large part of it, else by iteration. On nearly white rows (inverted
    noise) the spectrum has no gap at k; then which directions just make it in is partly
    chance, in every method, but the variance held is right to ``residual``.
    Works under jit and vmap (``k`` static).

    Args:
        x: latents, one row each.
        k: how many; at most min(n - 1, d), which is also the default.

    Raises:
        UneError: for fewer than two rows, or ``k`` below 1.

    >>> x = jnp.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> found = fit(x, 1)
    >>> jnp.abs(found.basis[:, 0]).round(3).tolist(), round(found.variance.item(), 3)
    ([1.0, 0.0], 6.0)
    """
    return fit_centred(*centred(x), components(x.shape, k))


def components(shape: tuple[int, ...], k: int | None) -> int:
    """``k`` clipped to the rank that centred rows can have.

    Raises:
        UneError: for fewer than two rows, or ``k`` below 1.
    """
    n, d = shape
    if n < 2:
        raise UneError(f"a probe needs at least 2 rows; there are {n}")
    most = min(n - 1, d)
    k = most if k is None else min(k, most)
    if k < 1:
        raise UneError(f"components is {k}; use 1 or more")
    return k


@jax.default_matmul_precision("float32")
def fit_centred(x: Float32[Array, "n d"], mean: Float32[Array, " d"], k: int) -> PCA:
    """:func:`fit` of rows that :func:`une_jax.normalise.centred` gave."""
    n, d = x.shape
    top = spectral.top_eigh(x.T @ x if d <= n else x @ x.T, k)
    kept = (top.values > RANK_TOL * top.values[0])[None]
    basis = jnp.where(kept, top.vectors, 0.0)
    if d > n:
        # From the largest down, QR takes out what rounding mixed in of the larger.
        basis, _ = jnp.linalg.qr(x.T @ basis)
        basis = jnp.where(kept, basis, 0.0)
    variance = jnp.sum((x @ basis) ** 2, axis=0)
    explained = variance.sum() / jnp.maximum(jnp.sum(x**2), 1e-30)
    return PCA(mean, basis, variance / (n - 1), explained, top.residual)


@jax.default_matmul_precision("float32")
def whiten(x: Float32[Array, "n d"], found: PCA) -> Whitened:
    """The centred rows' components, uncorrelated and of unit variance.

    By QR, which is exact without dividing by square roots of float32 eigenvalues. It
    differs from standardised components by a rotation, which neither an L2 penalty nor
    a linear classifier sees.
    """
    kept = jnp.any(found.basis != 0, axis=0)
    q, r = jnp.linalg.qr(x @ found.basis)
    root_n = jnp.sqrt(jnp.float32(len(x)))
    r = r + jnp.diag(jnp.where(kept, 0.0, 1.0))
    back = solve_triangular(r, found.basis.T, trans="T").T * root_n
    return Whitened(jnp.where(kept[None], q, 0.0) * root_n, back)
