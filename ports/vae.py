"""AutoencoderKL, the VAE of Stable Diffusion (diffusers' layout, both key vintages).

Images (b, h, w, 3) in [-1, 1] <-> latents (b, h/8, w/8, 4). The diffusion model
works on ``latent * config.scaling_factor`` (``scale`` and ``unscale`` below).
"""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.blocks import RULES, Downsample, ResnetBlock, SelfAttention, Upsample
from ports.layers import Conv, GroupNorm
from ports.load import Port, load_port, only, read_config
from ports.sites import Site, untouched

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The keys of ``config.json`` that shape an encoder and a decoder."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 32
    scaling_factor: float = 0.18215
    mid_block_add_attention: bool = True

    def __post_init__(self):
        only("down_block_types", self.down_block_types, ("DownEncoderBlock2D",))
        only("up_block_types", self.up_block_types, ("UpDecoderBlock2D",))
        only("act_fn", (self.act_fn,), ("silu", "swish"))


@dataclass(frozen=True, kw_only=True)
class Config(Shape):
    """The keys of the checkpoint's ``config.json`` that shape the network."""

    shift_factor: float | None = None
    latents_mean: None = None  # per-channel statistics are not implemented
    latents_std: None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    def __post_init__(self):
        super().__post_init__()
        only("latents_mean", (self.latents_mean,), (None,))
        only("latents_std", (self.latents_std,), (None,))


class MidBlock(nnx.Module):
    """Resnet, attention where the config has it, resnet."""

    def __init__(self, config: Shape, n: int, *, rngs: nnx.Rngs):
        groups = config.norm_num_groups
        self.resnets = nnx.List(
            [ResnetBlock(n, n, groups=groups, eps=EPS, rngs=rngs) for _ in range(2)]
        )
        attention = config.mid_block_add_attention
        self.attentions = nnx.List(
            [SelfAttention(n, groups=groups, eps=EPS, rngs=rngs)] if attention else []
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Stage(nnx.Module):
    """A run of resnets, then at most one change of resolution."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        layers: int,
        groups: int,
        resize: str | None,
        rngs: nnx.Rngs,
    ):
        widths = [n_in] + [n_out] * layers
        self.resnets = nnx.List(
            [
                ResnetBlock(a, b, groups=groups, eps=EPS, rngs=rngs)
                for a, b in zip(widths[:-1], widths[1:], strict=True)
            ]
        )
        if resize == "down":
            down = Downsample(n_out, padding=(0, 1), rngs=rngs)
            self.downsamplers = nnx.List([down])
        if resize == "up":
            self.upsamplers = nnx.List([Upsample(n_out, rngs=rngs)])

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        for resnet in self.resnets:
            x = resnet(x)
        for resize in getattr(self, "downsamplers", getattr(self, "upsamplers", ())):
            x = resize(x)
        return x


class Encoder(nnx.Module):
    """Images to ``channels`` at each place of the latents (the VAE: its moments)."""

    def __init__(self, config: Shape, channels: int, *, rngs: nnx.Rngs):
        groups, widths = config.norm_num_groups, config.block_out_channels
        last = len(widths) - 1
        self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
        self.down_blocks = nnx.List(
            [
                Stage(
                    widths[max(i - 1, 0)],
                    widths[i],
                    layers=config.layers_per_block,
                    groups=groups,
                    resize="down" if i < last else None,
                    rngs=rngs,
                )
                for i in range(last + 1)
            ]
        )
        self.mid_block = MidBlock(config, widths[-1], rngs=rngs)
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = Conv(widths[-1], channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 c2"]:
        x = self.conv_in(x)
        for i, block in enumerate(self.down_blocks):
            x = site(f"encoder.down.{i}", block(x))
        x = site("encoder.mid", self.mid_block(x))
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class Decoder(nnx.Module):
    """Latents to images."""

    def __init__(self, config: Shape, *, rngs: nnx.Rngs):
        groups, widths = config.norm_num_groups, config.block_out_channels[::-1]
        last = len(widths) - 1
        self.conv_in = Conv(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = MidBlock(config, widths[0], rngs=rngs)
        self.up_blocks = nnx.List(
            [
                Stage(
                    widths[max(i - 1, 0)],
                    widths[i],
                    layers=config.layers_per_block + 1,
                    groups=groups,
                    resize="up" if i < last else None,
                    rngs=rngs,
                )
                for i in range(last + 1)
            ]
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = Conv(widths[-1], config.out_channels, rngs=rngs)

    def __call__(
        self, z: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 c2"]:
        x = site("decoder.mid", self.mid_block(self.conv_in(z)))
        for i, block in enumerate(self.up_blocks):
            x = site(f"decoder.up.{i}", block(x))
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class AutoencoderKL(nnx.Module):
    """Encoder and decoder with their 1x1 convolutions."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n = config.latent_channels
        self.encoder = Encoder(config, 2 * n, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        if config.use_quant_conv:
            self.quant_conv = Conv(2 * n, 2 * n, 1, rngs=rngs)
        if config.use_post_quant_conv:
            self.post_quant_conv = Conv(n, n, 1, rngs=rngs)

    def moments(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> tuple[Float[Array, "b h2 w2 n"], Float[Array, "b h2 w2 n"]]:
        """Mean and log-variance of the posterior; log-variance clipped to [-30, 20]."""
        y = self.encoder(images, site)
        if hasattr(self, "quant_conv"):
            y = self.quant_conv(y)
        mean, logvar = jnp.split(y, 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def encode(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 n"]:
        """The posterior's mode."""
        return self.moments(images, site)[0]

    def decode(
        self, latents: Float[Array, "b h w n"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 c"]:
        """Latents (unscaled) to images."""
        if hasattr(self, "post_quant_conv"):
            latents = self.post_quant_conv(latents)
        return self.decoder(latents, site)

    def __call__(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 o"]:
        """The reconstruction: decode(encode(images))."""
        return self.decode(self.encode(images, site), site)


def sample_posterior(
    key: Array, mean: Float[Array, "*s"], logvar: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """A draw from the posterior whose ``moments`` these are.

    >>> latents = sample_posterior(key, *vae.apply(vae.params, images, method="moments"))
    ...                                                            # doctest: +SKIP
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(0.5 * logvar) * noise


def scale(config: Config, latents: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """VAE latents -> the diffusion model's x0."""
    return (latents - (config.shift_factor or 0.0)) * config.scaling_factor


def unscale(config: Config, x0: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The diffusion model's x0 -> VAE latents."""
    return x0 / config.scaling_factor + (config.shift_factor or 0.0)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load an AutoencoderKL directory or hub id.

    ``port.apply(params, images)`` reconstructs; ``method="encode"`` gives the mode of
    the posterior, ``"moments"`` mean and log-variance, ``"decode"`` images.

    >>> vae = load("sd15", subfolder="vae")                        # doctest: +SKIP
    >>> x0 = scale(vae.config, vae.apply(vae.params, images, method="encode"))
    ...                                                            # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        AutoencoderKL,
        ft.partial(read_config, Config),
        RULES,
        class_names=("AutoencoderKL",),
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
