"""What :class:`ports.ddpm.UNet` is made of: its stages, its middle, its labels."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports.blocks import Downsample, Resize, ResnetBlock, SelfAttention, Upsample
from ports.layers import Embedding

if TYPE_CHECKING:
    from ports.ddpm import Config

ATTN_DOWN, ATTN_UP = "AttnDownBlock2D", "AttnUpBlock2D"
RESNET_DOWN, RESNET_UP = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"


def _resnet(
    config: "Config",
    n_in: int,
    n_out: int,
    rngs: nnx.Rngs,
    *,
    resize: Resize | None = None,
) -> ResnetBlock:
    return ResnetBlock(
        n_in,
        n_out,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        time_dim=config.time_dim,
        scale_shift=config.resnet_time_scale_shift == "scale_shift",
        resize=resize,
        rngs=rngs,
    )


def _attention(
    config: "Config", n: int, rngs: nnx.Rngs, *, groups: int | None
) -> SelfAttention:
    return SelfAttention(
        n,
        groups=groups,
        eps=config.norm_eps,
        heads=n // (config.attention_head_dim or n),
        rngs=rngs,
    )


def _resampler(
    config: "Config", n: int, kind: str, resize: Resize, rngs: nnx.Rngs
) -> ResnetBlock | Downsample | Upsample:
    """What ends a block of this kind."""
    asked = {ATTN_DOWN: config.downsample_type, ATTN_UP: config.upsample_type}
    if kind in (RESNET_DOWN, RESNET_UP) or asked.get(kind) == "resnet":
        return _resnet(config, n, n, rngs, resize=resize)
    if resize == "up":
        return Upsample(n, rngs=rngs)
    # Padded on the bottom and right only, or all round.
    return Downsample(n, padding=(config.downsample_padding, 1), rngs=rngs)


class Stage(nnx.Module):
    """One resolution: resnets, each followed by attention where the block has it.

    ``kind`` is the block's type in the config; ``widths`` are the resnets' input widths
    (skip connections included).
    """

    def __init__(
        self,
        config: "Config",
        kind: str,
        n: int,
        widths: list[int],
        *,
        resize: Resize | None,
        rngs: nnx.Rngs,
    ):
        self.resnets = nnx.List([_resnet(config, w, n, rngs) for w in widths])
        if kind in (ATTN_DOWN, ATTN_UP):
            groups = config.norm_num_groups
            self.attentions = nnx.List(
                [_attention(config, n, rngs, groups=groups) for _ in widths]
            )
        if resize is not None:
            last = nnx.List([_resampler(config, n, kind, resize, rngs)])
            setattr(self, f"{resize}samplers", last)

    def layer(self, i: int, x: Array, time: Array) -> Array:
        resnet = self.resnets[i]
        x = resnet(x, resnet.offset(time))
        return self.attentions[i](x) if hasattr(self, "attentions") else x

    def down(
        self, x: Array, time: Array
    ) -> tuple[Array, list[Float[Array, "b h w c"]]]:
        """Output, and every intermediate that a later skip connection takes."""
        skips = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time)
            skips.append(x)
        for downsample in getattr(self, "downsamplers", ()):
            x = _resampled(downsample, x, time)
            skips.append(x)
        return x, skips

    def up(self, x: Array, skips: list[Array], time: Array) -> Array:
        """Takes its skips from the end of the list, and removes them."""
        for i in range(len(self.resnets)):
            x = self.layer(i, jnp.concatenate([x, skips.pop()], axis=-1), time)
        for upsample in getattr(self, "upsamplers", ()):
            x = _resampled(upsample, x, time)
        return x


def _resampled(by: Any, x: Array, time: Array) -> Array:
    return by(x, by.offset(time)) if isinstance(by, ResnetBlock) else by(x)


class MidBlock(nnx.Module):
    """Resnet, attention where the config has it, resnet."""

    def __init__(self, config: "Config", *, rngs: nnx.Rngs):
        n, groups = config.block_out_channels[-1], config.attn_norm_num_groups
        if groups is None and config.resnet_time_scale_shift == "default":
            groups = config.norm_num_groups
        self.resnets = nnx.List([_resnet(config, n, n, rngs) for _ in range(2)])
        self.attentions = nnx.List(
            [_attention(config, n, rngs, groups=groups)] if config.add_attention else []
        )

    def __call__(self, x: Array, time: Array) -> Array:
        first, second = self.resnets
        x = first(x, first.offset(time))
        for attention in self.attentions:
            x = attention(x)
        return second(x, second.offset(time))


class Labels(Embedding):
    """(b,) labels -> (b, d); NaN for what is no label, where indexing would take the
    nearest one in silence."""

    def __call__(self, labels: Int[Array, " b"]) -> Float[Array, "b d"]:
        table = self.weight[...]
        known = (labels >= 0) & (labels < len(table))
        return jnp.where(known[:, None], table[labels], jnp.nan)
