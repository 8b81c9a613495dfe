"""The ResNet VAE of DiffuseVAE's first stage (Pandey et al., arXiv 2201.00308).

Images (b, h, w, 3) in [-1, 1] <-> one flat latent (b, d). Blocks are those of a Very
Deep VAE: GELU before each of four convolutions, two pointwise around two of 3x3. Its
layout is that of the kpandey008/DiffuseVAE repository, whose network sees [0, 1].
"""

import functools as ft
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.layers import Conv, gelu
from ports.load import Port, Rule, conv, keep, load_port, read_config
from ports.sites import Site, untouched


class _Step(NamedTuple):
    """One entry of a block string, repetitions written out."""

    kind: str  # "block", "down" (a block, then pooling), "up" or "turn"
    level: int  # whose channels it has
    value: int = 1  # the factor of down and up, the next level of turn


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json``: the network's own arguments in DiffuseVAE's code.

    The defaults are its CelebA network. In a block string ``16x7`` is seven blocks with
    the channels of level 16, ``16d2`` a block and average pooling by 2, ``16u2``
    upsampling by 2 and ``16t8`` a pointwise convolution to the channels of level 8.
    """

    input_res: int = 64
    enc_block_str: str = (
        "64x7,64d2,64t32,32x4,32d2,32t16,16x7,16d2,16t8,8x3,8d2,8t4,4x3,4d4,4t1,1x2"
    )
    dec_block_str: str = (
        "1x1,1u4,1t4,4x2,4u2,4t8,8x3,8u2,8t16,16x7,16u2,16t32,32x8,32u2,32t64,64x10"
    )
    enc_channel_str: str = "64:64,32:128,16:256,8:256,4:256,1:512"
    dec_channel_str: str = "64:64,32:128,16:256,8:256,4:256,1:512"

    def __post_init__(self):
        for side, start, end in (
            ("enc", self.input_res, 1),
            ("dec", 1, self.input_res),
        ):
            _check(side, self.steps(side), self.channels(side), start, end)
        if self.channels("enc")[1] != self.channels("dec")[1]:
            raise CheckpointError(
                "config.json: enc_channel_str and dec_channel_str differ at level 1, "
                "the latent's"
            )

    def steps(self, side: str) -> tuple[_Step, ...]:
        """The entries of one side's block string."""
        key = f"{side}_block_str"
        return tuple(s for e in getattr(self, key).split(",") for s in _parsed(key, e))

    def channels(self, side: str) -> dict[int, int]:
        """Level -> channels of one side."""
        key = f"{side}_channel_str"
        pairs = [entry.split(":") for entry in getattr(self, key).split(",")]
        try:
            return {int(level): int(n) for level, n in pairs}
        except ValueError:
            raise CheckpointError(
                f"config.json: {key} is not level:channels, level:channels, ..."
            ) from None

    @property
    def latent_dim(self) -> int:
        """Numbers in a latent."""
        return self.channels("enc")[1]


_KINDS = {"x": "block", "d": "down", "u": "up", "t": "turn"}


def _parsed(key: str, entry: str) -> list[_Step]:
    """``16x7`` and its like."""
    letter = next((c for c in entry if c in _KINDS), "")
    parts = entry.split(letter) if letter else [entry]
    try:
        level, value = (int(p) for p in (parts if letter else [entry, "1"]))
    except ValueError:
        raise CheckpointError(
            f"config.json: {key} has {entry!r}, which is not a level, nor a level, one "
            "of x, d, u and t, and a number"
        ) from None
    if letter in ("", "x"):
        return [_Step("block", level)] * value
    return [_Step(_KINDS[letter], level, value)]


def _check(
    side: str, steps: tuple[_Step, ...], channels: dict[int, int], start: int, end: int
) -> None:
    """Every entry continues the one before, down to one pixel or up to all."""
    key, level, size = f"{side}_block_str", start, start
    resize = {"enc": "down", "dec": "up"}[side]
    for kind, at, value in steps:
        if at != level:
            raise CheckpointError(
                f"config.json: {key} has an entry of level {at} where level {level} goes on"
            )
        if kind not in ("block", "turn", resize):
            raise CheckpointError(f"config.json: {key} has {kind}, not {resize}")
        if kind == "turn":
            level = value
        elif kind == "up":
            size *= value
        elif kind == "down":
            if value < 1 or size % value:
                raise CheckpointError(
                    f"config.json: {key} pools {size} pixels by {value}"
                )
            size //= value
    if (level, size) != (end, end):
        raise CheckpointError(
            f"config.json: {key} ends at level {level} and {size} pixels, not at {end}"
        )
    if missing := ({start, end} | {s.level for s in steps}) - set(channels):
        raise CheckpointError(
            f"config.json: {side}_channel_str lacks level {min(missing)}"
        )


class Block(nnx.Module):
    """A residual bottleneck; at one pixel all its convolutions are pointwise."""

    def __init__(self, n: int, level: int, *, rngs: nnx.Rngs):
        kernel = 3 if level > 1 else 1
        self.c1 = Conv(n, n // 2, 1, rngs=rngs)
        self.c2 = Conv(n // 2, n // 2, kernel, rngs=rngs)
        self.c3 = Conv(n // 2, n // 2, kernel, rngs=rngs)
        self.c4 = Conv(n // 2, n, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        y = x
        for layer in (self.c1, self.c2, self.c3, self.c4):
            y = layer(gelu(y))
        return x + y


class Trunk(nnx.Module):
    """The network of one block string; modules bear their numbers in the checkpoint."""

    def __init__(
        self, steps: tuple[_Step, ...], channels: dict[int, int], *, rngs: nnx.Rngs
    ):
        modules: dict[str, Block | Conv] = {}
        for i, (kind, level, value) in enumerate(steps):
            n = channels[level]
            if kind == "turn":
                modules[str(i)] = Conv(n, channels[value], 1, bias=False, rngs=rngs)
            elif kind != "up":
                modules[str(i)] = Block(n, level, rngs=rngs)
        self.block_mod = nnx.Dict(modules)
        self.steps = steps

    def trunk(
        self, x: Float[Array, "b h w i"], side: str, site: Site
    ) -> Float[Array, "b h2 w2 o"]:
        """All steps in order."""
        for i, (kind, _, value) in enumerate(self.steps):
            if kind == "up":
                x = x.repeat(value, axis=1).repeat(value, axis=2)
            else:
                x = self.block_mod[str(i)](x)
            if kind == "down":
                x = _pooled(x, value)
            x = site(f"{side}.{i}", x)
        return x


class Encoder(Trunk):
    """Images in [0, 1] to the moments of latents, (b, 1, 1, d)."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        channels = config.channels("enc")
        super().__init__(config.steps("enc"), channels, rngs=rngs)
        first, n = channels[config.input_res], config.latent_dim
        self.in_conv = Conv(3, first, bias=False, rngs=rngs)
        self.mu = Conv(n, n, 1, bias=False, rngs=rngs)
        self.logvar = Conv(n, n, 1, bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w 3"], site: Site
    ) -> tuple[Float[Array, "b 1 1 d"], Float[Array, "b 1 1 d"]]:
        x = self.trunk(self.in_conv(x), "enc", site)
        return self.mu(x), self.logvar(x)


class Decoder(Trunk):
    """Latents (b, 1, 1, d) to images in [0, 1]."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        channels = config.channels("dec")
        super().__init__(config.steps("dec"), channels, rngs=rngs)
        self.last_conv = Conv(channels[config.input_res], 3, rngs=rngs)

    def __call__(
        self, z: Float[Array, "b 1 1 d"], site: Site
    ) -> Float[Array, "b h w 3"]:
        return jax.nn.sigmoid(self.last_conv(self.trunk(z, "dec", site)))


class ResNetVAE(nnx.Module):
    """Encoder and decoder, images in [-1, 1] outside."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.size, self.dim = config.input_res, config.latent_dim
        self.enc = Encoder(config, rngs=rngs)
        self.dec = Decoder(config, rngs=rngs)

    def moments(
        self, images: Float[Array, "b h w 3"], site: Site = untouched
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """Mean and log-variance of the posterior."""
        if images.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels: this network's "
                f"are {self.size}x{self.size}"
            )
        mean, logvar = self.enc(images / 2 + 0.5, site)
        return mean.reshape(-1, self.dim), logvar.reshape(-1, self.dim)

    def encode(
        self, images: Float[Array, "b h w 3"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """The posterior's mean; ``ports.vae.sample_posterior`` draws from it."""
        return self.moments(images, site)[0]

    def decode(
        self, latents: Float[Array, "b d"], site: Site = untouched
    ) -> Float[Array, "b h w 3"]:
        """Latents to images, computed in the latents' dtype."""
        return 2 * self.dec(latents[:, None, None], site) - 1

    def __call__(
        self, images: Float[Array, "b h w 3"], site: Site = untouched
    ) -> Float[Array, "b h w 3"]:
        """The reconstruction: decode(encode(images))."""
        return self.decode(self.encode(images, site), site)


def _pooled(x: Array, by: int) -> Array:
    """Means of by x by pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // by, by, w // by, by, c).mean((2, 4))


_CONV = r"(?:enc\.in_conv|enc\.mu|enc\.logvar|dec\.last_conv)"
_TRUNK = r"(?:enc|dec)\.block_mod\.\d+(?:\.c[1-4])?"
RULES = (
    Rule(rf"({_CONV}|{_TRUNK})\.weight", r"\1.weight", conv),
    Rule(rf"({_CONV}|{_TRUNK})\.bias", r"\1.bias", keep),
)

CLASS_NAMES = ("ResNetVAE",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a folder that ``scripts/convert_resnet_vae.py`` wrote, or a hub id of one.

    ``port.apply(params, images)`` reconstructs images (b, h, w, 3) in [-1, 1];
    ``method="encode"`` gives the posterior's mean (b, d), ``"moments"`` mean and
    log-variance, ``"decode"`` images of latents (b, d). Sites are ``enc.i`` and
    ``dec.i``, after the i-th module of the checkpoint. CheckpointError where a block
    string does not hold together, ValueError where images have another size.

    >>> vae = load("path/to/resnet-vae-celeba64")                  # doctest: +SKIP
    >>> z = vae.apply(vae.params, images, method="encode")         # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        ResNetVAE,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
