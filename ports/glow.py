"""Glow, an invertible generator (Kingma & Dhariwal, arXiv 1807.03039).

Images (b, h, w, 3) in [-1, 1] <-> one flat latent (b, h * w * 3), without loss. Names
and layout are those of the rosinality/glow-pytorch repository, whose network sees
[-0.5, 0.5]; a latent's order is that of its list of z, each flattened as torch's NCHW.

A latent has two forms. Raw, ``z``, is what the flow gives. Each level's part of it has
a Gaussian prior whose mean and spread the network reads off the deeper levels; whitened
with that, ``eps``, it is what is drawn from N(0, I) to sample.
"""

import functools as ft
from dataclasses import dataclass
from math import log, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.glow_layers import Flow, ZeroConv
from ports.load import Port, Rule, conv, keep, load_port, read_config
from ports.sites import Site, untouched


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json``, as ``scripts/convert_glow.py`` writes it.

    ``affine`` and ``conv_lu`` are the reference's; without ``conv_lu`` its last block
    has LU factors all the same, and so it is here. ``hidden`` are the channels inside a
    coupling, ``size`` an edge of the images, ``n_bits`` what they were quantised to.
    """

    in_channels: int = 3
    n_flow: int = 32
    n_block: int = 4
    affine: bool = False
    conv_lu: bool = True
    hidden: int = 512
    size: int = 64
    n_bits: int = 5

    def __post_init__(self):
        for key in ("in_channels", "n_flow", "n_block", "hidden", "size"):
            if getattr(self, key) < 1:
                raise CheckpointError(
                    f"config.json: {key} = {getattr(self, key)} is not positive"
                )
        if not 1 <= self.n_bits <= 8:
            raise CheckpointError(
                f"config.json: n_bits = {self.n_bits} is not from 1 to 8"
            )
        if self.size % 2**self.n_block:
            raise CheckpointError(
                f"config.json: images of {self.size} pixels cannot be halved "
                f"{self.n_block} times (n_block)"
            )

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Each level's (h, w, c) of z, in the latent's order."""
        last = self.n_block - 1
        return tuple(
            (
                self.size // 2 ** (i + 1),
                self.size // 2 ** (i + 1),
                self.in_channels * 2 ** (i + 1) * (2 if i == last else 1),
            )
            for i in range(self.n_block)
        )

    @property
    def latent_dim(self) -> int:
        """Numbers in a latent: as many as in an image."""
        return self.in_channels * self.size**2


class Block(nnx.Module):
    """A level: squeeze, flows, and half of the channels leave (the last: all)."""

    def __init__(self, i: int, config: Config, *, rngs: nnx.Rngs):
        self.split = i < config.n_block - 1
        n = 4 * config.in_channels * 2**i
        conv_lu = config.conv_lu or not self.split
        self.flows = nnx.List(
            [
                Flow(n, config.hidden, affine=config.affine, conv_lu=conv_lu, rngs=rngs)
                for _ in range(config.n_flow)
            ]
        )
        kept = n // 2 if self.split else n
        self.prior = ZeroConv(kept, 2 * kept, rngs=rngs)

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """All flows; the log-determinant of each image."""
        x = squeezed(x)
        logdet = jnp.zeros(len(x), x.dtype)
        for flow in self.flows:
            x, more = flow.forward(x)
            logdet = logdet + more
        return x, logdet

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        for flow in reversed(self.flows):
            y = flow.reverse(y)
        return _unsqueezed(y)

    def gaussian(self, like: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """Mean and log spread of what left, from what went on, ``like``."""
        mean, log_sd = jnp.split(self.prior(like), 2, axis=-1)
        return mean, log_sd


class Glow(nnx.Module):
    """Levels, each halving the edge. Computes in float32: an inverse needs digits."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.shapes = config.shapes
        self.size, self.in_channels = config.size, config.in_channels
        self.blocks = nnx.List(
            [Block(i, config, rngs=rngs) for i in range(config.n_block)]
        )

    def encode(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """Images to raw z."""
        return _flat([z for z, _, _ in self._levels(images, site)])

    def log_prob(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, " b"]:
        """The log density of each image in nats, as one of values [-0.5, 0.5].

        The constant of quantisation is left out: images of n_bits with noise within a
        bin (``dequantised``) have (d n_bits log 2 - log_prob) / (d log 2) bits a number.
        """
        total = jnp.zeros(len(images), jnp.float32)
        for block, (z, kept, logdet) in zip(
            self.blocks, self._levels(images, site), strict=True
        ):
            mean, log_sd = block.gaussian(kept)
            eps = (z - mean) * jnp.exp(-log_sd)
            density = -0.5 * (log(2 * pi) + jnp.square(eps)) - log_sd
            total = total + logdet + density.sum((1, 2, 3))
        return total

    def decode(
        self, z: Float[Array, "b d"], site: Site = untouched
    ) -> Float[Array, "b h w c"]:
        """Raw z to images, the inverse of ``encode``; not clipped to [-1, 1]."""
        x = None
        for i, level in self._upwards(z):
            x = self._above(i, level, x, site)
        assert x is not None
        return 2 * x

    def whiten(
        self, z: Float[Array, "b d"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """Raw z to eps, which the model takes to be drawn from N(0, I)."""
        out, x = [], None
        for i, level in self._upwards(z):
            mean, log_sd = self._gaussian(i, level, x)
            out.append((level - mean) * jnp.exp(-log_sd))
            x = self._above(i, level, x, site) if i else None
        return _flat(out[::-1])

    def unwhiten(
        self, eps: Float[Array, "b d"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """eps to raw z, the inverse of ``whiten``; ``decode`` makes images of it."""
        out, x = [], None
        for i, level in self._upwards(eps):
            mean, log_sd = self._gaussian(i, level, x)
            out.append(mean + jnp.exp(log_sd) * level)
            x = self._above(i, out[-1], x, site) if i else None
        return _flat(out[::-1])

    def __call__(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h w c"]:
        """decode(encode(images)): the images, to rounding."""
        return self.decode(self.encode(images, site), site)

    def _levels(self, images: Array, site: Site) -> list[tuple[Array, Array, Array]]:
        """From the first level: what leaves, what goes on, the log-determinants."""
        wanted = (self.size, self.size, self.in_channels)
        if images.shape[1:] != wanted:
            raise ValueError(
                f"images are {images.shape[1:]}, and this network's are {wanted}"
            )
        x, found = images.astype(jnp.float32) / 2, []
        for i, block in enumerate(self.blocks):
            x, logdet = block.forward(x)
            x = site(f"block.{i}", x)
            if not block.split:
                found.append((x, jnp.zeros_like(x), logdet))
            else:
                x, z = jnp.split(x, 2, axis=-1)
                found.append((z, x, logdet))
        return found

    def _upwards(self, flat: Array) -> list[tuple[int, Array]]:
        """The levels' parts of a latent as (b, h, w, c), the deepest first."""
        sizes = [h * w * c for h, w, c in self.shapes]
        if flat.shape[1] != sum(sizes):
            raise ValueError(
                f"latents have {flat.shape[1]} numbers, and this network's {sum(sizes)}"
            )
        parts = jnp.split(flat.astype(jnp.float32), np.cumsum(sizes)[:-1], axis=1)
        levels = [
            part.reshape(-1, c, h, w).transpose(0, 2, 3, 1)
            for part, (h, w, c) in zip(parts, self.shapes, strict=True)
        ]
        return list(enumerate(levels))[::-1]

    def _above(self, i: int, z: Array, x: Array | None, site: Site) -> Array:
        """What the level above keeps (in the end, the image), from what left here."""
        y = z if x is None else jnp.concatenate([x, z], -1)
        return site(f"reverse.{i}", self.blocks[i].reverse(y))

    def _gaussian(self, i: int, like: Array, x: Array | None) -> tuple[Array, Array]:
        return self.blocks[i].gaussian(jnp.zeros_like(like) if x is None else x)


def dequantised(
    config: Config, images: Float[Array, "*s"], key: Array | None = None
) -> Float[Array, "*s"]:
    """Images of [-1, 1] as the network saw them: n_bits, and noise within their bins.

    As glow-pytorch has it: of 256 values the lower bits are dropped, and a bin's noise
    starts at its lower edge. Without a key every value lies amid its bin.
    """
    bins = 2**config.n_bits
    levels = jnp.floor(jnp.round((images + 1) * 127.5) / (256 // bins))
    noise = 0.5 if key is None else jax.random.uniform(key, images.shape)
    return 2 * (levels + noise) / bins - 1


def _flat(levels: list[Array]) -> Array:
    """Each level as torch flattens it, (b, c, h, w), side by side."""
    rows = [z.transpose(0, 3, 1, 2).reshape(len(z), -1) for z in levels]
    return jnp.concatenate(rows, axis=1)


def squeezed(x: Array) -> Array:
    """(b, h, w, c) -> (b, h/2, w/2, 4c), in torch's order: c, then row, then column."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(b, h // 2, w // 2, 4 * c)


def _unsqueezed(x: Array) -> Array:
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def _channels(x: np.ndarray) -> np.ndarray:
    """(1, c, 1, 1) -> (c,)."""
    return x[0, :, 0, 0] if x.ndim == 4 and x.shape[::2] == (1, 1) else x


def _matrix(x: np.ndarray) -> np.ndarray:
    """(out, in, 1, 1) -> (out, in)."""
    return x[..., 0, 0] if x.ndim == 4 and x.shape[2:] == (1, 1) else x


_FLOW = r"(blocks\.\d+\.flows\.\d+)"
_CONV = r"(blocks\.\d+\.(?:prior\.conv|flows\.\d+\.coupling\.net\.(?:0|2|4\.conv)))"
_ZERO = r"(blocks\.\d+\.(?:prior|flows\.\d+\.coupling\.net\.4))"
RULES = (
    Rule(rf"{_FLOW}\.actnorm\.(loc|scale)", r"\1.actnorm.\2", _channels),
    Rule(rf"{_FLOW}\.actnorm\.initialized", None),  # loc and scale say all
    Rule(rf"{_FLOW}\.invconv\.weight", r"\1.invconv.weight", _matrix),
    Rule(rf"{_FLOW}\.invconv\.(w_[plsu]|s_sign)", r"\1.invconv.\2", keep),
    Rule(rf"{_FLOW}\.invconv\.(?:[ul]_mask|l_eye)", None),  # constants
    Rule(rf"{_CONV}\.weight", r"\1.weight", conv),
    Rule(rf"{_CONV}\.bias", r"\1.bias", keep),
    Rule(rf"{_ZERO}\.scale", r"\1.scale", _channels),
)

CLASS_NAMES = ("Glow",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a folder that ``scripts/convert_glow.py`` wrote, or a hub id of one.

    Methods: ``encode`` and ``decode`` between images (b, h, w, c) in [-1, 1] and raw
    latents (b, d), ``whiten`` and ``unwhiten`` between these and eps, ``log_prob`` of
    images in nats; a plain call is decode(encode(images)). Sites are ``block.i`` on the
    way in and ``reverse.i`` on the way out. ValueError where images or latents have
    another size, CheckpointError where a config is not one of a Glow.

    >>> glow = load("path/to/glow-celeba64")                       # doctest: +SKIP
    >>> z = glow.apply(glow.params, images, method="encode")       # doctest: +SKIP
    >>> eps = glow.apply(glow.params, z, method="whiten")          # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        Glow,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
