"""How far two sets of images are apart as distributions of features: FID and KID.

Of any feature function. A number means something only beside the others of the same
features and as many rows: FID falls as rows are added, KID does not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from une_jax.errors import UneError
from une_jax.normalise import centred


class Moments(NamedTuple):
    """Of a set of features: what FID needs of it.

    ``root`` is of the covariance, ``cov = root.T @ root`` with divisor n - 1, and
    square: distances are computed from it without squaring, which float32 needs.
    """

    mean: Float32[Array, " d"]
    root: Float32[Array, "d d"]
    count: Float32[Array, ""]

    @property
    def cov(self) -> Float32[Array, "d d"]:
        """The covariance."""
        with jax.default_matmul_precision("float32"):
            return self.root.T @ self.root


class Kid(NamedTuple):
    """Kernel distance over subsets; around 0 (and below) for equal distributions."""

    mean: Float32[Array, ""]
    std: Float32[Array, ""]  # over the subsets, divisor their number


@jax.default_matmul_precision("float32")
def moments(features: Float[Array, "n d"]) -> Moments:
    """Mean and covariance of rows of features. Works under jit, vmap.

    Raises:
        UneError: for fewer than two rows.

    >>> moments(jnp.array([[0.0, 1.0], [2.0, 1.0]])).cov.round(3).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    n, d = features.shape
    if n < 2:
        raise UneError(f"a distance needs at least 2 rows of features; there are {n}")
    rows, mean = centred(features)
    root = jnp.linalg.qr(rows, mode="r") / jnp.sqrt(jnp.float32(n - 1))
    root = jnp.pad(root, ((0, d - len(root)), (0, 0)))  # fewer rows than dimensions
    return Moments(mean, root, jnp.float32(n))


@jax.default_matmul_precision("float32")
def of_covariance(
    mean: Float[Array, " d"], cov: Float[Array, "d d"], count: int
) -> Moments:
    """Moments from statistics that were kept or published; divisor n - 1.

    Works under jit and vmap.

    >>> of_covariance(jnp.zeros(2), 4 * jnp.eye(2), 10).cov.round(3).tolist()
    [[4.0, 0.0], [0.0, 4.0]]
    """
    values, vectors = jnp.linalg.eigh(cov.astype(jnp.float32))
    root = jnp.sqrt(jnp.maximum(values, 0.0))[:, None] * vectors.T
    return Moments(mean.astype(jnp.float32), root, jnp.float32(count))


@jax.default_matmul_precision("float32")
def frechet(a: Moments, b: Moments) -> Float32[Array, ""]:
    """Fréchet distance of two Gaussians; FID where the features are InceptionV3's.

    Heusel et al. 2017: ``|m_a - m_b|² + tr A + tr B - 2 tr (A B)^½``. With A = R'R and
    B = S'S the last trace is the sum of the singular values of R S', so there is no
    root of a product to be taken, nor anything complex or infinite. Works under jit
    and vmap; below about 1e-6 of tr A + tr B it is rounding.

    Raises:
        UneError: for different numbers of dimensions.

    >>> x = jax.random.normal(jax.random.key(0), (100, 4))
    >>> frechet(moments(x), moments(x + 1)).round(3).item()
    4.0
    """
    if a.mean.shape != b.mean.shape:
        raise UneError(f"features have {a.mean.size} and {b.mean.size} dimensions")
    cross = jnp.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    total = jnp.sum(a.root**2) + jnp.sum(b.root**2)
    return jnp.sum((a.mean - b.mean) ** 2) + jnp.maximum(total - 2 * cross, 0.0)


@jax.default_matmul_precision("float32")
def kid(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    subsets: int = 100,
    size: int = 1000,
) -> Kid:
    """Kernel Inception distance: squared MMD under ``(x'y / d + 1)³``, unbiased.

    Binkowski et al. 2018: mean and standard deviation over subsets of ``size`` rows of
    each, drawn without replacement. Works under jit and vmap (``subsets``, ``size``
    static).

    Args:
        size: at most n and m; at least 2.

    Raises:
        UneError: for a size that the rows do not allow, or no subsets.

    >>> x = jax.random.normal(jax.random.key(0), (50, 4))
    >>> kid(jax.random.key(1), x, x + 1, subsets=5, size=40).mean.item() > 1
    True
    """
    n, m = len(x), len(y)
    if not 2 <= size <= min(n, m):
        raise UneError(f"size is {size}; sets of {n} and {m} allow 2 to {min(n, m)}")
    if subsets < 1:
        raise UneError(f"subsets is {subsets}; use 1 or more")
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)

    def one(key: Array) -> Array:
        of_x, of_y = jax.random.split(key)
        a = x[jax.random.permutation(of_x, n)[:size]]
        b = y[jax.random.permutation(of_y, m)[:size]]
        return _mmd(a, b)

    drawn = jax.lax.map(one, jax.random.split(key, subsets))
    return Kid(drawn.mean(), drawn.std())


def _mmd(a: Float32[Array, "s d"], b: Float32[Array, "s d"]) -> Float32[Array, ""]:
    """Of equally many rows. Differences are taken pair by pair, before the average:
    what the kernels have in common would drown them in float32."""
    s, d = a.shape
    same = 1.0 / (s * (s - 1))
    aa, bb, ab = ((p @ q.T / d + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
    off = ~jnp.eye(s, dtype=bool)
    within = jnp.sum(jnp.where(off, aa + bb - ab - ab.T, 0.0)) * same
    # Between the sets, pairs of equal number count too: the mean of all s² differs by
    return (
        within + 2 * (jnp.sum(jnp.where(off, ab, 0.0)) * same - jnp.trace(ab) / s) / s
    )
