"""Tests of joint normality, which see what one-dimensional projections cannot.

In high dimensions almost every projection of almost every distribution is nearly normal
(Diaconis and Freedman 1984), so that a high acceptance of random projections says
little. Third and fourth moments of all directions together, and the lengths of the
rows, do not average out.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc
from jaxtyping import Array, Float, Float32

from une_jax.errors import UneError
from une_jax.normalise import centred


class Mardia(NamedTuple):
    """Mardia's measures; small p-values speak against normality."""

    skewness: Float32[Array, ""]  # b_1,k; 0 for a normal distribution
    skewness_pvalue: Float32[Array, ""]  # n b_1,k / 6 is chi-squared
    kurtosis: Float32[Array, ""]  # b_2,k; k (k + 2) for a normal distribution
    kurtosis_z: Float32[Array, ""]
    kurtosis_pvalue: Float32[Array, ""]


class Norms(NamedTuple):
    """Lengths of centred rows, and what a Gaussian of their covariance would give."""

    mean: Float32[Array, ""]
    std: Float32[Array, ""]
    gaussian_std: Float32[Array, ""]  # of the norm, to first order
    dispersion: Float32[Array, ""]  # variance of the squared norm over a Gaussian's


@jax.default_matmul_precision("float32")
def mardia(x: Float[Array, "n k"]) -> Mardia:
    """Skewness and kurtosis of all directions at once (Mardia 1970), for k well below n.

    Whitened by QR, with the maximum-likelihood covariance. The skewness is summed as
    squares of the k^3 mixed third moments, which needs no n x n matrix. The skewness'
    p-value has Mardia's (1974) correction for small n. Works under jit, vmap and grad.

    Raises:
        UneError: there are not more rows than columns.

    >>> x = jax.random.normal(jax.random.key(0), (2000, 5))
    >>> bool(mardia(x).skewness_pvalue > 0.05), bool(mardia(x**3).kurtosis_pvalue < 1e-9)
    (True, True)
    """
    n, k = x.shape
    if n <= k:
        raise UneError(
            f"{n} rows of {k} numbers; Mardia's test needs more rows than that"
        )
    x, _ = centred(x)
    white = jnp.linalg.qr(x)[0] * math.sqrt(n)
    pairs = (white[:, :, None] * white[:, None, :]).reshape(n, k * k)
    skewness = jnp.sum((pairs.T @ white / n) ** 2)
    degrees = k * (k + 1) * (k + 2) / 6
    small = (k + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (k + 1) - 6))
    # Of the differences, so that k (k + 2) does not drown them.
    over = jnp.mean(jnp.sum(white**2, axis=1) ** 2 - k * (k + 2))
    z = over / math.sqrt(8 * k * (k + 2) / n)
    return Mardia(
        skewness=skewness,
        skewness_pvalue=gammaincc(
            jnp.float32(degrees / 2), skewness * (n * small / 12)
        ),
        kurtosis=over + k * (k + 2),
        kurtosis_z=z,
        kurtosis_pvalue=jax.lax.erfc(jnp.abs(z) / math.sqrt(2)),
    )


@jax.default_matmul_precision("float32")
def norms(x: Float[Array, "n d"]) -> Norms:
    """How much the rows' lengths vary, beside a Gaussian of the same covariance.

    There the squared norm has variance 2 tr(C^2), whatever C; its square trace is
    estimated from products of different rows. A ``dispersion`` of 1 is a Gaussian's
    (standard error about sqrt(8 / n) for many dimensions); above, the rows are a mixture
    of scales; below, they lie on a shell. An isotropic Gaussian's norm is chi
    distributed, its standard deviation 0.71 of each coordinate's. Works under jit, vmap
    and grad.

    Raises:
        UneError: for fewer than 3 rows.

    >>> x = jax.random.normal(jax.random.key(0), (1000, 50))
    >>> round(norms(x).gaussian_std.item(), 1)
    0.7
    """
    n, d = x.shape
    if n < 3:
        raise UneError(f"{n} rows; the spread of their lengths needs 3 or more")
    x, _ = centred(x)
    # In units of the mean square, lest fourth powers leave float32.
    scale = jnp.sqrt(jnp.mean(x**2))
    x = x / scale
    square = jnp.sum(x**2, axis=1)
    gram = x.T @ x if d < n else jnp.where(jnp.eye(n, dtype=bool), 0.0, x @ x.T)
    itself = jnp.sum(square**2) if d < n else 0.0
    trace = (jnp.sum(gram**2) - itself) / (n * (n - 1))
    length = jnp.sqrt(square)
    return Norms(
        mean=scale * length.mean(),
        std=scale * length.std(),
        gaussian_std=scale * jnp.sqrt(trace / (2 * square.mean())),
        dispersion=jnp.var(square - square.mean()) / (2 * trace),
    )
