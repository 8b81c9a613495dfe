"""UNet2DConditionModel as Stable Diffusion 1.x uses it (diffusers' layout).

``apply(params, x, t, context)`` predicts the noise (or v, as the scheduler says) in
latents x (b, h, w, 4) at timesteps t (b,), given text states context (b, tokens, d),
or (1, tokens, d) for one prompt shared by the batch. That is the library's ``eps_fn``.
"""

import functools as ft
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports.blocks import Downsample, ResnetBlock, Upsample
from ports.layers import Conv, GroupNorm, LayerNorm, Linear, attend, gelu
from ports.load import (
    Port,
    Rule,
    conv,
    keep,
    linear,
    linear_from_any,
    load_port,
    only,
    read_config,
)

_CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json`` that shape the network, or that must not."""

    sample_size: int | None = None
    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    # diffusers' "attention_head_dim" holds the NUMBER of heads in these models.
    attention_head_dim: int | tuple[int, ...] = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    use_linear_projection: bool = False

    # Branches of the class that Stable Diffusion 1.x and 2.x do not take.
    center_input_sample: bool = False
    dual_cross_attention: bool = False
    only_cross_attention: bool | tuple[bool, ...] = False
    mid_block_scale_factor: int | float = 1  # diffusers writes the integer
    mid_block_only_cross_attention: bool | None = None
    transformer_layers_per_block: int | tuple[int, ...] = 1
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    addition_embed_type: str | None = None
    encoder_hid_dim: int | None = None
    encoder_hid_dim_type: str | None = None
    time_cond_proj_dim: int | None = None
    time_embedding_type: str = "positional"
    time_embedding_act_fn: str | None = None
    timestep_post_act: str | None = None
    resnet_time_scale_shift: str = "default"
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    attention_type: str = "default"

    def __post_init__(self):
        down = ("CrossAttnDownBlock2D", "DownBlock2D")
        up = ("CrossAttnUpBlock2D", "UpBlock2D")
        only("down_block_types", self.down_block_types, down)
        only("up_block_types", self.up_block_types, up)
        only("mid_block_type", (self.mid_block_type,), ("UNetMidBlock2DCrossAttn",))
        only("act_fn", (self.act_fn,), ("silu", "swish"))
        only("class_embed_type", (self.class_embed_type,), (None,))
        only("num_class_embeds", (self.num_class_embeds,), (None,))
        only("addition_embed_type", (self.addition_embed_type,), (None,))
        only("encoder_hid_dim", (self.encoder_hid_dim,), (None,))
        only("encoder_hid_dim_type", (self.encoder_hid_dim_type,), (None,))
        only("time_cond_proj_dim", (self.time_cond_proj_dim,), (None,))
        only("time_embedding_type", (self.time_embedding_type,), ("positional",))
        only("time_embedding_act_fn", (self.time_embedding_act_fn,), (None,))
        only("timestep_post_act", (self.timestep_post_act,), (None,))
        only("resnet_time_scale_shift", (self.resnet_time_scale_shift,), ("default",))
        only("center_input_sample", (self.center_input_sample,), (False,))
        only("dual_cross_attention", (self.dual_cross_attention,), (False,))
        only("only_cross_attention", (self.only_cross_attention,), (False,))
        only("mid_block_scale_factor", (self.mid_block_scale_factor,), (1,))
        only_mid = self.mid_block_only_cross_attention
        only("mid_block_only_cross_attention", (only_mid,), (None, False))
        layers = self.transformer_layers_per_block
        only("transformer_layers_per_block", (layers,), (1,))
        only("conv_in_kernel", (self.conv_in_kernel,), (3,))
        only("conv_out_kernel", (self.conv_out_kernel,), (3,))
        only("attention_type", (self.attention_type,), ("default",))
        only("downsample_padding", (self.downsample_padding,), (1,))

    def heads(self, level: int) -> int:
        """Attention heads at a resolution level."""
        heads = self.num_attention_heads or self.attention_head_dim
        return heads[level] if isinstance(heads, tuple) else heads


class Attention(nnx.Module):
    """Self-attention, or cross-attention to ``context``."""

    def __init__(self, d: int, d_context: int, heads: int, *, rngs: nnx.Rngs):
        self.to_q = Linear(d, d, bias=False, rngs=rngs)
        self.to_k = Linear(d_context, d, bias=False, rngs=rngs)
        self.to_v = Linear(d_context, d, bias=False, rngs=rngs)
        self.to_out = nnx.List([Linear(d, d, rngs=rngs)])
        self.heads = heads

    def __call__(
        self, x: Float[Array, "b t d"], context: Float[Array, "#b s e"]
    ) -> Float[Array, "b t d"]:
        def split(y):
            return y.reshape(*y.shape[:2], self.heads, -1)

        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out[0](attend(split(q), split(k), split(v)).reshape(x.shape))


class Geglu(nnx.Module):
    """Linear layer whose second half gates the first (GEGLU)."""

    def __init__(self, d: int, hidden: int, *, rngs: nnx.Rngs):
        self.proj = Linear(d, 2 * hidden, rngs=rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h"]:
        value, gate = jnp.split(self.proj(x), 2, axis=-1)
        return value * gelu(gate)


class FeedForward(nnx.Module):
    """Gated MLP, four times as wide inside."""

    def __init__(self, d: int, *, rngs: nnx.Rngs):
        # net.1 is torch's dropout: no weights.
        self.net = nnx.Dict(
            {"0": Geglu(d, 4 * d, rngs=rngs), "2": Linear(4 * d, d, rngs=rngs)}
        )

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.net["2"](self.net["0"](x))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention, gated MLP; each pre-norm and residual."""

    def __init__(self, d: int, d_context: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(d, eps=1e-5)
        self.attn1 = Attention(d, d, heads, rngs=rngs)
        self.norm2 = LayerNorm(d, eps=1e-5)
        self.attn2 = Attention(d, d_context, heads, rngs=rngs)
        self.norm3 = LayerNorm(d, eps=1e-5)
        self.ff = FeedForward(d, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t d"], context: Float[Array, "#b s e"]
    ) -> Float[Array, "b t d"]:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nnx.Module):
    """diffusers' Transformer2DModel: pixels as tokens, with a residual.

    Its GroupNorm has eps 1e-6 whatever the UNet's ``norm_eps`` says.
    """

    def __init__(self, config: Config, d: int, heads: int, *, rngs: nnx.Rngs):
        d_context = config.cross_attention_dim
        self.norm = GroupNorm(config.norm_num_groups, d, eps=1e-6)
        self.proj_in = Linear(d, d, rngs=rngs)  # a 1x1 convolution in SD 1.x files
        self.transformer_blocks = nnx.List(
            [TransformerBlock(d, d_context, heads, rngs=rngs)]
        )
        self.proj_out = Linear(d, d, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w d"], context: Float[Array, "#b s e"]
    ) -> Float[Array, "b h w d"]:
        b, h, w, d = x.shape
        y = self.proj_in(self.norm(x).reshape(b, h * w, d))
        for block in self.transformer_blocks:
            y = block(y, context)
        return x + self.proj_out(y).reshape(x.shape)


class Stage(nnx.Module):
    """One resolution: resnets, each followed by a transformer where there is text.

    ``widths`` are the resnets' input widths (skip connections included).
    """

    def __init__(
        self,
        config: Config,
        widths: list[int],
        n_out: int,
        *,
        cross: bool,
        heads: int,
        resize: str | None,
        rngs: nnx.Rngs,
    ):
        block = ft.partial(
            ResnetBlock,
            groups=config.norm_num_groups,
            eps=config.norm_eps,
            time_dim=4 * config.block_out_channels[0],
            rngs=rngs,
        )
        self.resnets = nnx.List([block(n, n_out) for n in widths])
        if cross:
            self.attentions = nnx.List(
                [Transformer(config, n_out, heads, rngs=rngs) for _ in widths]
            )
        if resize == "down":
            self.downsamplers = nnx.List([Downsample(n_out, rngs=rngs)])
        if resize == "up":
            self.upsamplers = nnx.List([Upsample(n_out, rngs=rngs)])

    def layer(self, i: int, x: Array, time: Array, context: Array) -> Array:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x

    def down(
        self, x: Array, time: Array, context: Array
    ) -> tuple[Array, list[Float[Array, "b h w c"]]]:
        """Output, and every intermediate that a later skip connection takes."""
        skips = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, context)
            skips.append(x)
        for downsample in getattr(self, "downsamplers", ()):
            x = downsample(x)
            skips.append(x)
        return x, skips

    def up(self, x: Array, skips: list[Array], time: Array, context: Array) -> Array:
        """Takes its skips from the end of the list, and removes them."""
        for i in range(len(self.resnets)):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = self.layer(i, x, time, context)
        for upsample in getattr(self, "upsamplers", ()):
            x = upsample(x, size=skips[-1].shape[1:3])
        return x


class MidBlock(nnx.Module):
    """Resnet, transformer, resnet at the lowest resolution."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n, heads = config.block_out_channels[-1], config.heads(-1)
        block = ft.partial(
            ResnetBlock,
            groups=config.norm_num_groups,
            eps=config.norm_eps,
            time_dim=4 * config.block_out_channels[0],
            rngs=rngs,
        )
        self.resnets = nnx.List([block(n, n), block(n, n)])
        self.attentions = nnx.List([Transformer(config, n, heads, rngs=rngs)])

    def __call__(self, x: Array, time: Array, context: Array) -> Array:
        x = self.attentions[0](self.resnets[0](x, time), context)
        return self.resnets[1](x, time)


class TimeEmbedding(nnx.Module):
    """MLP from sinusoids to what every resnet adds."""

    def __init__(self, n: int, *, rngs: nnx.Rngs):
        self.linear_1 = Linear(n, 4 * n, rngs=rngs)
        self.linear_2 = Linear(4 * n, 4 * n, rngs=rngs)

    def __call__(self, x: Float[Array, "b n"]) -> Float[Array, "b d"]:
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class UNet(nnx.Module):
    """Stages down, the middle, stages up over the skip connections."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        widths, layers = config.block_out_channels, config.layers_per_block
        last = len(widths) - 1
        self.config = config
        self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
        self.time_embedding = TimeEmbedding(widths[0], rngs=rngs)

        skips = [widths[0]]
        down = []
        for i, n in enumerate(widths):
            before = widths[max(i - 1, 0)]
            down.append(
                Stage(
                    config,
                    [before] + [n] * (layers - 1),
                    n,
                    cross=config.down_block_types[i] in _CROSS,
                    heads=config.heads(i),
                    resize="down" if i < last else None,
                    rngs=rngs,
                )
            )
            skips += [n] * (layers + (i < last))
        self.down_blocks = nnx.List(down)
        self.mid_block = MidBlock(config, rngs=rngs)

        up = []
        before = widths[-1]
        for i, n in enumerate(widths[::-1]):
            inputs = []
            for _ in range(layers + 1):
                inputs.append(before + skips.pop())
                before = n
            up.append(
                Stage(
                    config,
                    inputs,
                    n,
                    cross=config.up_block_types[i] in _CROSS,
                    heads=config.heads(last - i),
                    resize="up" if i < last else None,
                    rngs=rngs,
                )
            )
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = GroupNorm(
            config.norm_num_groups, widths[0], eps=config.norm_eps
        )
        self.conv_out = Conv(widths[0], config.out_channels, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Int[Array, " b"] | Float[Array, " b"],
        context: Float[Array, "#b s e"],
    ) -> Float[Array, "b h w o"]:
        time = self.time_embedding(timestep_embedding(self.config, t).astype(x.dtype))
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x, more = block.down(x, time, context)
            skips += more
        x = self.mid_block(x, time, context)
        for block in self.up_blocks:
            x = block.up(x, skips, time, context)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


def timestep_embedding(config: Config, t: Array) -> Float[Array, "b n"]:
    """Sinusoids of t in float32: (b,) -> (b, block_out_channels[0])."""
    half = config.block_out_channels[0] // 2
    exponent = jnp.arange(half, dtype=jnp.float32) / (half - config.freq_shift)
    angle = (
        t.astype(jnp.float32)[:, None] * jnp.exp(-math.log(10000.0) * exponent)[None]
    )
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    pair = (cos, sin) if config.flip_sin_to_cos else (sin, cos)
    return jnp.concatenate(pair, axis=-1)


_CONV = r"(?:.*\.)?conv(?:1|2|_in|_out|_shortcut)?"
_NORM = r"(?:.*\.)?(?:norm[123]?|conv_norm_out)"
_LINEAR = r".*\.(?:to_[qkv]|to_out\.0|ff\.net\.(?:0\.proj|2)|time_emb_proj|linear_[12])"
_PROJ = r".*\.proj_(?:in|out)"

RULES = (
    Rule(rf"({_CONV})\.weight", r"\1.weight", conv),
    Rule(rf"({_NORM})\.weight", r"\1.weight", keep),
    Rule(rf"({_LINEAR})\.weight", r"\1.weight", linear),
    Rule(rf"({_PROJ})\.weight", r"\1.weight", linear_from_any),
    Rule(rf"({_CONV}|{_NORM}|{_LINEAR}|{_PROJ})\.bias", r"\1.bias", keep),
)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a UNet2DConditionModel directory or hub id.

    >>> unet = load("sd15", subfolder="unet")                      # doctest: +SKIP
    >>> eps = unet.apply(unet.params, x, t, context)               # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        UNet,
        ft.partial(read_config, Config),
        RULES,
        class_names=("UNet2DConditionModel",),
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
