"""Learned positions on a map of another size: torch's bicubic ``interpolate``."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def resize(
    x: Float[Array, "b h w d"], size: tuple[int, int], *, antialias: bool
) -> Float[Array, "b h2 w2 d"]:
    """torch's bicubic ``interpolate`` without ``align_corners``, in float32."""
    if x.shape[1:3] == size:
        return x
    rows, columns = (
        jnp.asarray(cubic(n, m, antialias))
        for n, m in zip(x.shape[1:3], size, strict=True)
    )
    highest = jax.lax.Precision.HIGHEST  # TF32 would move every position
    x = x.astype(jnp.float32)
    return jnp.einsum("ih,jw,bhwd->bijd", rows, columns, x, precision=highest)


@ft.lru_cache(maxsize=64)
def cubic(n: int, m: int, antialias: bool) -> Float[np.ndarray, "m n"]:
    """The weights of n samples in each of m resampled ones, as torch has them.

    Plain: Keys' kernel with a = -0.75 over four samples, the outer ones repeated
    beyond the edge. With ``antialias`` as in Pillow: a = -0.5, the kernel as wide as a
    step where that is longer, cut off at the edge and scaled to sum to one.
    """
    step = n / m
    at = (np.arange(m)[:, None] + 0.5) * step - 0.5
    if antialias:
        weights = _keys((np.arange(n)[None] - at) / max(step, 1.0), -0.5)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    taps = np.floor(at).astype(int) + np.arange(-1, 3)[None]
    weights = np.zeros((m, n))
    row = np.broadcast_to(np.arange(m)[:, None], taps.shape)
    np.add.at(weights, (row, taps.clip(0, n - 1)), _keys(taps - at, -0.75))
    return weights.astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981): zero from two samples on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
