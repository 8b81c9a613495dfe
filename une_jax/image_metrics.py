"""How far two sets of images are apart, image by image: RMSE, PSNR and SSIM.

All take floats in [0, 1], channels last, as they are: nothing is rounded, clipped,
rescaled or written to a file in between.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Shaped

from une_jax.errors import UneError

SMALLEST_ERROR = 1e-12  # mean square: at most 120 dB
WINDOW, SIGMA = 11, 1.5  # of SSIM, in pixels
K1, K2 = 0.01, 0.03


def rmse(
    a: Shaped[Array | np.ndarray, "n h w c"], b: Shaped[Array | np.ndarray, "m i j k"]
) -> Float32[Array, " n"]:
    """Root of the mean squared difference of each pair, in [0, 1].

    Works under jit, vmap and grad (0 where two images are equal).

    Args:
        a, b: paired images (m = n), floats in [0, 1].

    Raises:
        UneError: for images that are not paired, or bytes.

    >>> rmse(jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.5)).item()
    0.5
    """
    square = _mean_square(a, b)
    # A root has no gradient at 0: replaced before, not after.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def psnr(
    a: Shaped[Array | np.ndarray, "n h w c"], b: Shaped[Array | np.ndarray, "m i j k"]
) -> Float32[Array, " n"]:
    """Peak signal-to-noise ratio of each pair in dB, at most 120; the peak is 1.

    Works under jit, vmap and grad.

    Args:
        a, b: as of :func:`rmse`; errors too.

    >>> psnr(jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.1)).round(3).item()
    20.0
    """
    return -10 * jnp.log10(jnp.maximum(_mean_square(a, b), SMALLEST_ERROR))


@jax.default_matmul_precision("float32")
def ssim(
    a: Shaped[Array | np.ndarray, "n h w c"], b: Shaped[Array | np.ndarray, "m i j k"]
) -> Float32[Array, " n"]:
    """Structural similarity of each pair, 1 for equal images and -1 at the least.

    Wang, Bovik, Sheikh and Simoncelli 2004: means, variances and covariances under an
    11 x 11 Gaussian window of standard deviation 1.5, at every place where it lies
    within the image; K1 = 0.01, K2 = 0.03, range 1. Each channel by itself, then the
    mean over places and channels, as ``skimage.metrics.structural_similarity`` with
    ``gaussian_weights``. Works under jit, vmap and grad.

    Args:
        a, b: as of :func:`rmse`, of 11 pixels or more each way.

    Raises:
        UneError: for smaller images, and as :func:`rmse`.

    >>> face = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    >>> ssim(face, face).round(4).item(), ssim(face, 1 - face).item() < 0
    (1.0, True)
    """
    a, b = _pair(a, b)
    h, w = a.shape[1:3]
    if min(h, w) < WINDOW:
        raise UneError(f"SSIM needs {WINDOW} x {WINDOW} pixels or more; images are {h} x {w}")  # fmt: skip
    down, across = _smoother(h), _smoother(w)

    def smooth(x: Array) -> Array:
        return jnp.einsum("ih,nhwc,jw->nijc", down, x, across)

    # About the middle of the range, so that squares lose less in float32.
    a, b = a - 0.5, b - 0.5
    mean_a, mean_b = smooth(a), smooth(b)
    var_a = smooth(a * a) - mean_a**2
    var_b = smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    light = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return jnp.mean(light * (2 * cov + K2**2) / (var_a + var_b + K2**2), axis=(1, 2, 3))


def _mean_square(a: Array | np.ndarray, b: Array | np.ndarray) -> Float32[Array, " n"]:
    a, b = _pair(a, b)
    return jnp.mean((a - b) ** 2, (1, 2, 3))


def _pair(a: Array | np.ndarray, b: Array | np.ndarray) -> tuple[Array, Array]:
    """In float32. Bytes would be taken for floats 255 times as large."""
    if a.shape != b.shape or a.ndim != 4:
        raise UneError(f"images are {a.shape} and {b.shape}; give two (n, h, w, c)")
    for images in (a, b):
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UneError(f"images are {images.dtype}; give floats in [0, 1]")
    return jnp.asarray(a).astype(jnp.float32), jnp.asarray(b).astype(jnp.float32)


def _smoother(size: int) -> Float32[np.ndarray, "i size"]:
    """Row i holds the window's weights at place i."""
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    matrix = np.zeros((size - WINDOW + 1, size))
    for i, row in enumerate(matrix):
        row[i : i + WINDOW] = weights / weights.sum()
    return matrix.astype(np.float32)
