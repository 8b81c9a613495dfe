"""StyleGAN2's layers: convolutions whose kernel a style scales, and resampling.

Weights are stored at unit variance and scaled where they are used (Karras et al., arXiv
1710.10196 and 1912.04958).
"""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ports.convolution import SAME, conv2d

SLOPE, GAIN = 0.2, sqrt(2.0)  # of the leaky ReLU, and what keeps its variance
EPS = 1e-8


class Dense(nnx.Module):
    """A linear layer whose weights are stored at unit scale over ``lr_multiplier``."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        lr_multiplier: float = 1.0,
        bias: float = 0.0,
        rngs: nnx.Rngs,
    ):
        noise = jax.random.normal(rngs.params(), (n_in, n_out))
        self.weight = nnx.Param(noise / lr_multiplier)
        self.bias = nnx.Param(jnp.full(n_out, bias, jnp.float32))
        self.gain, self.bias_gain = lr_multiplier / sqrt(n_in), lr_multiplier
        self.n_out = n_out

    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b o"]:
        weight, bias = (p[...].astype(x.dtype) for p in (self.weight, self.bias))
        return x @ (weight * self.gain) + (bias * self.bias_gain)[None]


class Layer(nnx.Module):
    """A 3x3 convolution whose kernel is scaled by a style, and normalised.

    ``up`` doubles the size: zeros between the pixels, the convolution, then the
    low-pass filter, all in one kernel for each of the four positions of a new pixel.
    ``noise``: the edge of the layer's constant noise, where it has one, which ``noisy``
    adds.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        w_dim: int,
        *,
        up: bool,
        noise: int | None,
        noisy: bool,
        clamp: float | None,
        rngs: nnx.Rngs,
    ):
        self.affine = Dense(w_dim, n_in, bias=1.0, rngs=rngs)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (3, 3, n_in, n_out)))
        self.bias = nnx.Param(jnp.zeros(n_out))
        if noise is not None:
            shape = (noise, noise)
            self.noise_const = nnx.Param(jax.random.normal(rngs.params(), shape))
            self.noise_strength = nnx.Param(jnp.zeros(()))
        self.up, self.noisy, self.clamp = up, noisy, clamp

    def __call__(
        self, x: Float[Array, "b h w i"], style: Float[Array, "b i"]
    ) -> Float[Array, "b h2 w2 o"]:
        # In float32: the kernel's norm sums over thousands of squares.
        weight = self.weight[...].astype(jnp.float32)
        norms = jnp.square(style) @ jnp.square(weight).sum((0, 1))
        x = x * _per_image(style, x)
        kernel = _up_kernel(weight) if self.up else weight
        y = conv2d(x, kernel.astype(x.dtype), stride=1, padding=SAME)
        y = _interleaved(y) if self.up else y
        y = y * _per_image(jax.lax.rsqrt(norms + EPS), y)
        if self.noisy:
            noise = self.noise_const[...] * self.noise_strength[...]
            y = y + noise.astype(y.dtype)[None, :, :, None]
        y = lrelu(y + self.bias[...].astype(y.dtype)[None, None, None])
        return _clamped(y, self.clamp)


class ToRGB(nnx.Module):
    """A 1x1 convolution to colours, scaled by a style."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        w_dim: int,
        *,
        clamp: float | None,
        rngs: nnx.Rngs,
    ):
        self.affine = Dense(w_dim, n_in, bias=1.0, rngs=rngs)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (1, 1, n_in, n_out)))
        self.bias = nnx.Param(jnp.zeros(n_out))
        self.gain, self.clamp = 1 / sqrt(n_in), clamp

    def __call__(
        self, x: Float[Array, "b h w i"], style: Float[Array, "b i"]
    ) -> Float[Array, "b h w c"]:
        x = x * _per_image(style * self.gain, x)
        y = x @ self.weight[...][0, 0].astype(x.dtype)
        y = y + self.bias[...].astype(x.dtype)[None, None, None]
        return _clamped(y, self.clamp)


def lrelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The leaky ReLU, with a gain."""
    return jax.nn.leaky_relu(x, SLOPE) * GAIN


def _clamped(x: Array, clamp: float | None) -> Array:
    return x if clamp is None else jnp.clip(x, -clamp, clamp)


def _per_image(scale: Float[Array, "b c"], like: Array) -> Float[Array, "b 1 1 c"]:
    return scale[:, None, None].astype(like.dtype)


def _up_taps() -> np.ndarray:
    """(3, 2, 3): [d, phase, k] is how far tap k of a kernel of three counts for the
    pixel at d - 1 in a new pixel of that phase, along one axis."""
    low_pass = np.asarray([1, 3, 3, 1]) / 4
    taps = np.zeros((3, 2, 3), np.float32)
    for d, phase, k in np.ndindex(taps.shape):
        if 0 <= (j := k + 2 * (d - 1) + 1 - phase) < 4:
            taps[d, phase, k] = low_pass[j]
    return taps


def _up_kernel(weight: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 i 4*o"]:
    taps = _up_taps()
    both = jnp.einsum("dpk,eql,klio->deipqo", taps, taps, weight)
    return both.reshape(*both.shape[:3], -1)


def _interleaved(x: Float[Array, "b h w n"]) -> Float[Array, "b 2*h 2*w n//4"]:
    b, h, w, n = x.shape
    x = x.reshape(b, h, w, 2, 2, n // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, n // 4)


def doubled(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Zeros between the pixels, then the low-pass filter, axis by axis."""
    for axis in (1, 2):
        n = x.shape[axis]
        pad = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        wide = jnp.pad(x, pad)
        before, after = (
            jax.lax.slice_in_dim(wide, i, i + n, axis=axis) for i in (0, 2)
        )
        both = jnp.stack([before + 3 * x, 3 * x + after], axis=axis + 1) / 4
        shape = list(x.shape)
        shape[axis] *= 2
        x = both.reshape(shape)
    return x
