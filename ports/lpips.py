"""LPIPS 0.1: how far two images look apart (Zhang et al., arXiv 1801.03924).

The features of an AlexNet or a VGG16 at five depths, each pixel's scaled to length one;
their squared differences, weighted channel by channel, averaged over pixels, summed over
depths. What torch's ``lpips`` package calls ``LPIPS(net="alex")`` and ``net="vgg"``.
"""

import functools as ft
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from ports.layers import Conv
from ports.load import Port, Rule, conv, keep, load_port, only, read_config
from ports.sites import Site, untouched


class _Conv(NamedTuple):
    index: str  # of the layer in torchvision's ``features``
    kernel: int = 3
    stride: int = 1
    padding: int = 1


class _Trunk(NamedTuple):
    pool: int  # edge of the max-pooling windows, which lie two pixels apart
    pooled: tuple[int, ...]  # the stages that begin by pooling
    stages: tuple[tuple[_Conv, ...], ...]
    channels: tuple[int, ...]  # of each stage, as published
    smallest: int  # edge of the smallest image that leaves a pixel at the end


_ALEX = (_Conv("0", 11, 4, 2), _Conv("3", 5, 1, 2), *map(_Conv, ("6", "8", "10")))
_VGG = ("0 2", "5 7", "10 12 14", "17 19 21", "24 26 28")
TRUNKS = {
    "alex": _Trunk(
        pool=3,
        pooled=(1, 2),
        stages=tuple((layer,) for layer in _ALEX),
        channels=(64, 192, 384, 256, 256),
        smallest=31,
    ),
    "vgg": _Trunk(
        pool=2,
        pooled=(1, 2, 3, 4),
        stages=tuple(tuple(map(_Conv, stage.split())) for stage in _VGG),
        channels=(64, 128, 256, 512, 512),
        smallest=16,
    ),
}

# The mean and spread of ImageNet's pixels, for images from -1 to 1.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json``, as ``scripts/convert_lpips.py`` writes it.

    ``channels`` are the five stages' own where they are not the published ones.
    """

    backbone: str = "alex"
    version: str = "0.1"
    channels: tuple[int, ...] = ()

    def __post_init__(self):
        only("backbone", (self.backbone,), tuple(TRUNKS))
        only("version", (self.version,), ("0.1",))
        only("the number of channels", (len(self.channels),), (0, 5))

    @property
    def widths(self) -> tuple[int, ...]:
        """The five stages' channels."""
        return self.channels or TRUNKS[self.backbone].channels


class Lpips(nnx.Module):
    """Two batches of images -> their distances, one a pair."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.backbone = config.backbone
        layers: dict[str, Conv] = {}
        n_in = 3
        for stage, n_out in zip(self._trunk.stages, config.widths, strict=True):
            for c in stage:
                half = (c.padding, c.padding)
                layers[c.index] = Conv(
                    n_in,
                    n_out,
                    c.kernel,
                    stride=c.stride,
                    padding=(half, half),
                    rngs=rngs,
                )
                n_in = n_out
        self.features = nnx.Dict(layers)
        self.lin = nnx.List([_Head(n) for n in config.widths])

    def __call__(
        self,
        a: Float[Array, "b h w 3"],
        b: Float[Array, "b h w 3"],
        site: Site = untouched,
    ) -> Float[Array, " b"]:
        """The distance of each image of ``a`` from its partner in ``b``, float32."""
        total = jnp.zeros(len(a))
        both = self.stages(jnp.concatenate([a, b]), site)
        for x, head in zip(both, self.lin, strict=True):
            x, y = jnp.split(_unit(x.astype(jnp.float32)), 2)
            total = total + head(jnp.square(x - y)).mean((1, 2))
        return total

    def stages(
        self, x: Float[Array, "b h w 3"], site: Site = untouched
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The trunk's features at its five depths, after the ReLU."""
        trunk = self._trunk
        if min(x.shape[1:3]) < trunk.smallest:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} pixels leave nothing to compare: "
                f"both edges must be at least {trunk.smallest}"
            )
        shift, scale = (
            jnp.asarray(v, x.dtype).reshape(1, 1, 1, 3) for v in (_SHIFT, _SCALE)
        )
        x = (x - shift) / scale
        found = []
        for i, stage in enumerate(trunk.stages):
            if i in trunk.pooled:
                x = _max_pool(x, trunk.pool)
            for c in stage:
                x = jax.nn.relu(self.features[c.index](x))
            x = site(f"stage.{i}", x)
            found.append(x)
        return tuple(found)

    @property
    def _trunk(self) -> _Trunk:
        return TRUNKS[self.backbone]


class _Head(nnx.Module):
    """A weight for each channel: torch's 1x1 convolution to one, without bias."""

    def __init__(self, n: int):
        self.weight = nnx.Param(jnp.ones(n) / n)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        return x @ self.weight[...].astype(x.dtype)


def _unit(x: Array) -> Array:
    """Each pixel's features divided by their length + 1e-10; no NaN gradient at zero."""
    square = jnp.square(x).sum(-1, keepdims=True)
    dark = square == 0
    length = jnp.where(dark, 0.0, jnp.sqrt(jnp.where(dark, 1.0, square)))
    return x / (length + 1e-10)


def _max_pool(x: Array, size: int) -> Array:
    """The largest of each size x size window, two pixels apart, without padding."""
    least = np.asarray(-np.inf, x.dtype)
    window, strides = (1, size, size, 1), (1, 2, 2, 1)
    return lax.reduce_window(x, least, lax.max, window, strides, "VALID")


def _channels(x: np.ndarray) -> np.ndarray:
    """(1, c, 1, 1) -> (c,)."""
    return x[0, :, 0, 0] if x.ndim == 4 and x.shape[::2] == (1, 1) else x


# torchvision's names, or those that the lpips package gives to the same layers.
_LAYER = r"(?:features|net\.slice\d)\.(\d+)"
RULES = (
    Rule(rf"{_LAYER}\.weight", r"features.\1.weight", conv),
    Rule(rf"{_LAYER}\.bias", r"features.\1.bias", keep),
    Rule(r"lin(\d)\.model\.1\.weight", r"lin.\1.weight", _channels),
    Rule(r"lins\.\d\.model\.1\.weight", None),  # the same heads again
    Rule(r"classifier\.\d\.(?:weight|bias)", None),
    Rule(r"scaling_layer\.(?:shift|scale)", None),
)

CLASS_NAMES = ("LPIPS",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a folder that ``scripts/convert_lpips.py`` wrote, or a hub id of one.

    ``port.apply(params, a, b)`` gives the distances (b,) of images (b, h, w, 3) from -1
    to 1; those of equal ones are 0 to rounding (1e-14). It may be a loss: its gradient
    is finite everywhere. ValueError where images are too small to compare.
    ``method="stages"`` gives the five features of one batch. Sites are ``stage.0`` to
    ``stage.4``, which see the images of ``a``, then those of ``b``.

    >>> lpips = load("path/to/lpips-alex")                         # doctest: +SKIP
    >>> lpips.apply(lpips.params, images, others)                  # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        Lpips,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
