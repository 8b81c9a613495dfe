"""The InceptionV3 of the Fréchet inception distance: images to 2,048 features.

TensorFlow's network of December 2015, as Heusel et al. (arXiv 1706.08500) use it and
pytorch-fid ported it. Torchvision's differs: here the average pools leave the border
out of their counts, and the last block has a max pool in the place of one.
"""

import functools as ft
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.convolution import conv2d
from ports.load import Port, Rule, conv, keep, load_port, read_config
from ports.sites import Site, untouched

EDGE = 299  # the size that images are brought to
EPS = 1e-3


class _Conv(NamedTuple):
    name: str
    n_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1  # two: without padding


_Chain = tuple[tuple[_Conv, ...], ...]  # what stands side by side sees the same


class _Mixed(NamedTuple):
    """Chains of convolutions side by side, and a pool."""

    chains: tuple[_Chain, ...]
    pool: Literal["mean", "max", "halve"]
    pool_out: int = 0  # channels of the convolution after the pool, where there is one


def _chain(name: str, *layers: tuple[Any, ...]) -> _Chain:
    """With torchvision's names: branch_1, branch_2, ..."""
    return tuple((_Conv(f"{name}_{i}", *layer),) for i, layer in enumerate(layers, 1))


def _one(n: int) -> _Chain:
    return ((_Conv("branch1x1", n),),)


_WIDE, _TALL, _THREE = (1, 7), (7, 1), (3, 3)


def _a(pool_out: int) -> _Mixed:
    five = _chain("branch5x5", (48,), (64, (5, 5)))
    twice = _chain("branch3x3dbl", (64,), (96, _THREE), (96, _THREE))
    return _Mixed((_one(64), five, twice), "mean", pool_out)


def _b() -> _Mixed:
    three = ((_Conv("branch3x3", 384, _THREE, 2),),)
    twice = _chain("branch3x3dbl", (64,), (96, _THREE), (96, _THREE, 2))
    return _Mixed((three, twice), "halve")


def _c(n: int) -> _Mixed:
    seven = _chain("branch7x7", (n,), (n, _WIDE), (192, _TALL))
    layers = ((n,), (n, _TALL), (n, _WIDE), (n, _TALL), (192, _WIDE))
    return _Mixed((_one(192), seven, _chain("branch7x7dbl", *layers)), "mean", 192)


def _d() -> _Mixed:
    three = _chain("branch3x3", (192,), (320, _THREE, 2))
    layers = ((192,), (192, _WIDE), (192, _TALL), (192, _THREE, 2))
    return _Mixed((three, _chain("branch7x7x3", *layers)), "halve")


def _e(pool: Literal["mean", "max"]) -> _Mixed:
    def fork(name: str) -> tuple[_Conv, ...]:
        return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))

    three = (*_chain("branch3x3", (384,)), fork("branch3x3_2"))
    twice = _chain("branch3x3dbl", (448,), (384, _THREE))
    return _Mixed((_one(320), three, (*twice, fork("branch3x3dbl_3"))), pool, 192)


STEM = (  # name, channels, kernel, stride, whether padded
    ("Conv2d_1a_3x3", 32, _THREE, 2, False),
    ("Conv2d_2a_3x3", 32, _THREE, 1, False),
    ("Conv2d_2b_3x3", 64, _THREE, 1, True),
    ("Conv2d_3b_1x1", 80, (1, 1), 1, False),
    ("Conv2d_4a_3x3", 192, _THREE, 1, False),
)
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # those that a max pool follows
MIXED = {
    "5b": _a(32),
    "5c": _a(64),
    "5d": _a(64),
    "6a": _b(),
    "6b": _c(128),
    "6c": _c(160),
    "6d": _c(160),
    "6e": _c(192),
    "7a": _d(),
    "7b": _e("mean"),
    "7c": _e("max"),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json``, as ``scripts/convert_inception.py`` writes it.

    ``divisor`` divides all numbers of channels: 1 as published, more in tests.
    """

    divisor: int = 1

    def __post_init__(self):
        if self.divisor not in (1, 2, 4, 8, 16):
            raise CheckpointError(
                f"config.json: divisor = {self.divisor!r} is not 1, 2, 4, 8 or 16"
            )


class BatchNorm(nnx.Module):
    """torch's BatchNorm2d at inference."""

    def __init__(self, n: int):
        self.weight, self.running_var = nnx.Param(jnp.ones(n)), nnx.Param(jnp.ones(n))
        self.bias, self.running_mean = nnx.Param(jnp.zeros(n)), nnx.Param(jnp.zeros(n))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        weight, var, bias, mean = (
            p[...].astype(jnp.float32)
            for p in (self.weight, self.running_var, self.bias, self.running_mean)
        )
        scale = weight * lax.rsqrt(var + EPS)
        shift = bias - mean * scale
        scale, shift = (v.astype(x.dtype).reshape(1, 1, 1, -1) for v in (scale, shift))
        return x * scale + shift


class Kernel(nnx.Module):
    """A convolution without bias, of any shape."""

    def __init__(
        self, n_in: int, n_out: int, kernel: tuple[int, int], *, rngs: nnx.Rngs
    ):
        shape = (*kernel, n_in, n_out)
        self.weight = nnx.Param(
            jax.random.normal(rngs.params(), shape) * sqrt(2 / prod(shape[:3]))
        )


class BasicConv(nnx.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padded: bool = True,
        rngs: nnx.Rngs,
    ):
        self.conv = Kernel(n_in, n_out, kernel, rngs=rngs)
        self.bn = BatchNorm(n_out)
        up_down, sides = (k // 2 if padded else 0 for k in kernel)
        self.padding = ((up_down, up_down), (sides, sides))
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        weight = self.conv.weight[...].astype(x.dtype)
        y = conv2d(x, weight, stride=self.stride, padding=self.padding)
        return jax.nn.relu(self.bn(y))


class Mixed(nnx.Module):
    """One inception block."""

    def __init__(self, plan: _Mixed, n_in: int, divisor: int, *, rngs: nnx.Rngs):
        self.plan = plan
        self.n_out = 0
        for chain in plan.chains:
            n = n_in
            for side_by_side in chain:
                for name, n_conv, kernel, stride in side_by_side:
                    layer = BasicConv(
                        n,
                        n_conv // divisor,
                        kernel,
                        stride=stride,
                        padded=stride == 1,
                        rngs=rngs,
                    )
                    setattr(self, name, layer)
                n = sum(c.n_out // divisor for c in side_by_side)
            self.n_out += n
        if n_pool := plan.pool_out // divisor:
            self.branch_pool = BasicConv(n_in, n_pool, (1, 1), rngs=rngs)
        self.n_out += n_pool or n_in

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        found = []
        for chain in self.plan.chains:
            y = x
            for side_by_side in chain:
                y = jnp.concatenate(
                    [getattr(self, conv.name)(y) for conv in side_by_side], -1
                )
            found.append(y)
        pooled = _POOLS[self.plan.pool](x)
        found.append(self.branch_pool(pooled) if self.plan.pool_out else pooled)
        return jnp.concatenate(found, -1)


class Inception(nnx.Module):
    """Images (b, h, w, 3) from -1 to 1 -> features (b, 2048), float32."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n = 3
        for name, n_out, kernel, stride, padded in STEM:
            n_out //= config.divisor
            layer = BasicConv(n, n_out, kernel, stride=stride, padded=padded, rngs=rngs)
            setattr(self, name, layer)
            n = n_out
        for name, plan in MIXED.items():
            block = Mixed(plan, n, config.divisor, rngs=rngs)
            setattr(self, f"Mixed_{name}", block)
            n = block.n_out

    def __call__(
        self, images: Float[Array, "b h w 3"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        x = resized(images)
        for name, *_ in STEM:
            x = getattr(self, name)(x)
            if name in POOLED:
                x = site(f"pool.{POOLED.index(name)}", _POOLS["halve"](x))
        for name in MIXED:
            x = site(f"mixed.{name}", getattr(self, f"Mixed_{name}")(x))
        return x.astype(jnp.float32).mean((1, 2))


def resized(images: Float[Array, "b h w c"]) -> Float[Array, "b 299 299 c"]:
    """torch's bilinear ``interpolate`` to the network's size, without antialiasing."""
    if images.shape[1:3] == (EDGE, EDGE):
        return images
    rows, columns = (jnp.asarray(_linear(n, EDGE)) for n in images.shape[1:3])
    highest = lax.Precision.HIGHEST
    x = images.astype(jnp.float32)
    x = jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision=highest)
    return x.astype(images.dtype)


@ft.lru_cache(maxsize=64)
def _linear(n: int, m: int) -> Float[np.ndarray, "m n"]:
    """The weights of n samples in each of m: the two beside it, or one at an edge.

    In float32, as torch: its rounding of a place is the largest error there is here.
    """
    step = np.float32(n / m)
    at = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    apart = np.abs(at.clip(0, n - 1)[:, None] - np.arange(n, dtype=np.float32)[None])
    return np.maximum(0, 1 - apart)


def _max_pool(x: Array, stride: int) -> Array:
    least = np.asarray(-np.inf, x.dtype)
    half = 1 if stride == 1 else 0
    padding = ((0, 0), (half, half), (half, half), (0, 0))
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, least, lax.max, window, strides, padding)


def _mean_pool(x: Array) -> Array:
    """Of 3x3 windows, of as many pixels as lie inside the image."""
    window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
    zero = np.asarray(0, x.dtype)
    total = lax.reduce_window(x, zero, lax.add, window, strides, "SAME")
    rows, columns = (_inside(n) for n in x.shape[1:3])
    counts = rows[None, :, None, None] * columns[None, None, :, None]
    return total / jnp.asarray(counts, x.dtype)


def _inside(n: int) -> np.ndarray:
    return np.convolve(np.ones(n), np.ones(3), "same")


_POOLS = {
    "mean": _mean_pool,
    "max": ft.partial(_max_pool, stride=1),
    "halve": ft.partial(_max_pool, stride=2),
}

_BN = r"(?:weight|bias|running_mean|running_var)"
RULES = (
    Rule(r"(.*\.conv)\.weight", r"\1.weight", conv),
    Rule(rf"(.*\.bn\.{_BN})", r"\1", keep),
    Rule(r".*\.bn\.num_batches_tracked", None),
    Rule(r"(?:fc|AuxLogits)\..*", None),
)

CLASS_NAMES = ("FIDInceptionV3",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a folder that ``scripts/convert_inception.py`` wrote, or a hub id of one.

    ``port.apply(port.params, images)`` gives the features (b, 2048) of images
    (b, h, w, 3) from -1 to 1 and of any size: they are brought to 299x299 inside, as
    pytorch-fid does it. Sites are ``pool.0`` and ``pool.1`` (its features of 64 and
    192 numbers) and ``mixed.5b`` to ``mixed.7c``, of which ``mixed.6e`` has those of
    768.

    >>> inception = load("path/to/inception-fid")                  # doctest: +SKIP
    >>> features = inception.apply(inception.params, images)       # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        Inception,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
