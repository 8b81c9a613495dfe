"""UNet2DConditionModel as Stable Diffusion 1.x, 2.x, XL and LCM use it (diffusers).

``apply(params, x, t, cond)`` predicts the noise (or v, as the scheduler says) in
latents x (b, h, w, 4) at timesteps t (b,). ``cond`` is the text's states alone,
(b, tokens, d) or (1, tokens, d) for one prompt shared by the batch, or a ``Condition``
where the network takes more. That is the library's ``eps_fn``.

``apply(params, cond, timesteps, method="prepare")`` does once what every call at those
timesteps would repeat: the text's keys and values, and the timesteps' embeddings. The
``Prepared`` that it gives stands in for ``cond``; other timesteps give NaN.

Sites: ``down.0``, ..., ``mid``, ``up.0``, ...: the output of each block. A delta there
changes what the next block sees, not the skip connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports.blocks import Downsample, ResnetBlock, Upsample
from ports.checkpoint import CheckpointError
from ports.conditioning import (
    Condition,
    Prepared,
    TimeEmbedding,
    Told,
    checked,
    for_batch,
    guidance_embedding,
    sinusoids,
)
from ports.layers import Conv, GroupNorm
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
from ports.sites import Site, untouched
from ports.transformer import Transformer

PerLevel = int | tuple[int, ...]

# What the class could do beyond these models, at the one value that we implement.
FIXED = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text_time"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json`` that shape the network."""

    sample_size: int | None = None
    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    transformer_layers_per_block: PerLevel = 1
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    # diffusers' "attention_head_dim" holds the NUMBER of heads in these models.
    attention_head_dim: PerLevel = 8
    num_attention_heads: PerLevel | None = None
    use_linear_projection: bool = False
    time_cond_proj_dim: int | None = None
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None

    def __post_init__(self):
        down = ("CrossAttnDownBlock2D", "DownBlock2D")
        up = ("CrossAttnUpBlock2D", "UpBlock2D")
        only("down_block_types", self.down_block_types, down)
        only("up_block_types", self.up_block_types, up)
        levels = len(self.block_out_channels)
        for key in ("down_block_types", "up_block_types", *_PER_LEVEL):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != levels:
                raise CheckpointError(
                    f"config.json: {key} has {len(value)} entries for {levels} levels"
                )
        added = ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
        for key in added if self.addition_embed_type else ():
            if getattr(self, key) is None:
                raise CheckpointError(f"config.json: text_time needs {key}")

    def heads(self, level: int) -> int:
        """Attention heads at a resolution level."""
        return _at(self.num_attention_heads or self.attention_head_dim, level)

    def depth(self, level: int) -> int:
        """Blocks in each transformer at a resolution level."""
        return _at(self.transformer_layers_per_block, level)


_PER_LEVEL = (
    "transformer_layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
)


def _at(value: PerLevel, level: int) -> int:
    return value[level] if isinstance(value, tuple) else value


def config_from_json(raw: dict[str, Any]) -> Config:
    """config.json -> Config; refuses what the network does not implement."""
    for key, allowed in FIXED.items():
        only(key, (raw.get(key, allowed[0]),), allowed)
    for key in ("layers_per_block", "cross_attention_dim", "sample_size"):
        if isinstance(value := raw.get(key), list):
            raise CheckpointError(
                f"config.json: {key} = {value} is not supported: give one number"
            )
    return read_config(Config, raw)


def _transformer(config: Config, level: int, rngs: nnx.Rngs) -> Transformer:
    return Transformer(
        config.block_out_channels[level],
        config.cross_attention_dim,
        config.heads(level),
        layers=config.depth(level),
        groups=config.norm_num_groups,
        rngs=rngs,
    )


def _resnet(config: Config, n_in: int, n_out: int, rngs: nnx.Rngs) -> ResnetBlock:
    return ResnetBlock(
        n_in,
        n_out,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        time_dim=4 * config.block_out_channels[0],
        rngs=rngs,
    )


class Stage(nnx.Module):
    """One resolution: resnets, each followed by a transformer where there is text.

    ``widths`` are the resnets' input widths (skip connections included).
    """

    def __init__(
        self,
        config: Config,
        level: int,
        widths: list[int],
        *,
        cross: bool,
        resize: str | None,
        rngs: nnx.Rngs,
    ):
        n = config.block_out_channels[level]
        self.resnets = nnx.List([_resnet(config, w, n, rngs) for w in widths])
        if cross:
            self.attentions = nnx.List(
                [_transformer(config, level, rngs) for _ in widths]
            )
        if resize == "down":
            self.downsamplers = nnx.List([Downsample(n, rngs=rngs)])
        if resize == "up":
            self.upsamplers = nnx.List([Upsample(n, rngs=rngs)])

    def tell(self, time: Array, context: Array) -> tuple[Told, ...]:
        return _told(self.resnets, getattr(self, "attentions", ()), time, context)

    def layer(self, i: int, x: Array, told: Told) -> Array:
        x = self.resnets[i](x, told.offset)
        return self.attentions[i](x, told.text) if told.text else x

    def down(
        self, x: Array, told: tuple[Told, ...]
    ) -> tuple[Array, list[Float[Array, "b h w c"]]]:
        """Output, and every intermediate that a later skip connection takes."""
        skips = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, told[i])
            skips.append(x)
        for downsample in getattr(self, "downsamplers", ()):
            x = downsample(x)
            skips.append(x)
        return x, skips

    def up(self, x: Array, skips: list[Array], told: tuple[Told, ...]) -> Array:
        """Takes its skips from the end of the list, and removes them."""
        for i in range(len(self.resnets)):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = self.layer(i, x, told[i])
        for upsample in getattr(self, "upsamplers", ()):
            x = upsample(x, size=skips[-1].shape[1:3])
        return x


class MidBlock(nnx.Module):
    """Resnet, transformer, resnet at the lowest resolution."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n = config.block_out_channels[-1]
        self.resnets = nnx.List([_resnet(config, n, n, rngs) for _ in range(2)])
        self.attentions = nnx.List([_transformer(config, -1, rngs)])

    def tell(self, time: Array, context: Array) -> tuple[Told, ...]:
        return _told(self.resnets, self.attentions, time, context)

    def __call__(self, x: Array, told: tuple[Told, ...]) -> Array:
        x = self.attentions[0](self.resnets[0](x, told[0].offset), told[0].text)
        return self.resnets[1](x, told[1].offset)


def _told(
    resnets: Sequence[ResnetBlock],
    attentions: Sequence[Transformer],
    time: Array,
    context: Array,
) -> tuple[Told, ...]:
    """For each resnet, with the transformer after it while there are any."""
    text = [attention.tell(context) for attention in attentions]
    text += [()] * (len(resnets) - len(text))
    return tuple(
        Told(resnet.offset(time), keys_values)
        for resnet, keys_values in zip(resnets, text, strict=True)
    )


class Rest(NamedTuple):
    """What the way up takes beside the middle block's output."""

    skips: tuple[Float[Array, "b _ _ _"], ...]
    told: tuple[tuple[Told, ...], ...]  # by the blocks of the way up


class UNet(nnx.Module):
    """Stages down, the middle, stages up over the skip connections.

    ``__call__`` is ``up`` of ``down``. Alone, they are for those who change the middle
    (h-space) and want the way down walked once.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        widths, layers = config.block_out_channels, config.layers_per_block
        last, time_dim = len(widths) - 1, 4 * widths[0]
        self.config = config
        self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
        self.time_embedding = TimeEmbedding(
            widths[0], time_dim, d_cond=config.time_cond_proj_dim, rngs=rngs
        )
        if config.addition_embed_type:
            d_added = config.projection_class_embeddings_input_dim or 0
            self.add_embedding = TimeEmbedding(d_added, time_dim, rngs=rngs)

        skips = [widths[0]]
        down = []
        for i, n in enumerate(widths):
            inputs = [widths[max(i - 1, 0)]] + [n] * (layers - 1)
            cross = config.down_block_types[i].startswith("CrossAttn")
            resize = "down" if i < last else None
            stage = Stage(config, i, inputs, cross=cross, resize=resize, rngs=rngs)
            down.append(stage)
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
            cross = config.up_block_types[i].startswith("CrossAttn")
            resize = "up" if i < last else None
            stage = Stage(config, last - i, inputs, cross=cross, resize=resize, rngs=rngs)  # fmt: skip
            up.append(stage)
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = GroupNorm(
            config.norm_num_groups, widths[0], eps=config.norm_eps
        )
        self.conv_out = Conv(widths[0], config.out_channels, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Int[Array, " b"] | Float[Array, " b"],
        cond: Float[Array, "r s e"] | Condition | Prepared,
        site: Site = untouched,
    ) -> Float[Array, "b h w o"]:
        h, rest = self.down(x, t, cond, site)
        return self.up(h, rest, site)

    def down(
        self,
        x: Float[Array, "b h w c"],
        t: Int[Array, " b"] | Float[Array, " b"],
        cond: Float[Array, "r s e"] | Condition | Prepared,
        site: Site = untouched,
    ) -> tuple[Float[Array, "b i j k"], Rest]:
        """To the middle block's output, and what else :meth:`up` takes."""
        told = cond.at(t) if isinstance(cond, Prepared) else self.tell(t, cond)
        middle = len(self.down_blocks)
        x = self.conv_in(x)
        skips = [x]
        for i, block in enumerate(self.down_blocks):
            x, more = block.down(x, told[i])
            skips += more
            x = site(f"down.{i}", x)
        h = site("mid", self.mid_block(x, told[middle]))
        return h, Rest(tuple(skips), told[middle + 1 :])

    def up(
        self, h: Float[Array, "b i j k"], rest: Rest, site: Site = untouched
    ) -> Float[Array, "b h w o"]:
        """From the middle block's output, by the skip connections, to the end."""
        skips = list(rest.skips)
        for i, block in enumerate(self.up_blocks):
            h = site(f"up.{i}", block.up(h, skips, rest.told[i]))
        return self.conv_out(jax.nn.silu(self.conv_norm_out(h)))

    def prepare(
        self,
        cond: Float[Array, "r s e"] | Condition,
        t: Int[Array, " n"] | Float[Array, " n"],
    ) -> Prepared:
        """All that no latents enter, for a condition at timesteps t."""
        full = checked(self.config, cond)
        r = max([1, *(len(x) for x in full[1:] if x is not None)])
        layers = jax.tree.map(
            lambda told: told._replace(offset=told.offset.reshape(r, len(t), -1)),
            self.tell(jnp.tile(t, r), cond),
            is_leaf=lambda x: isinstance(x, Told),
        )
        return Prepared(t.astype(jnp.float32)[None], layers)

    def tell(self, t: Array, cond: Array | Condition) -> tuple[tuple[Told, ...], ...]:
        """What each layer is told of timesteps and condition: down, middle, up."""
        full = checked(self.config, cond)
        time = self.time(t, full)
        blocks = (*self.down_blocks, self.mid_block, *self.up_blocks)
        return tuple(block.tell(time, full.context) for block in blocks)

    def time(self, t: Array, cond: Condition) -> Float[Array, "b d"]:
        """The timesteps' embedding, with guidance or sizes where taken."""
        config, dtype, b = self.config, cond.context.dtype, len(t)

        def waves(t: Array, n: int) -> Array:
            flip, shift = config.flip_sin_to_cos, config.freq_shift
            return sinusoids(t, n, cosine_first=flip, shift=shift).astype(dtype)

        guidance = None
        if cond.guidance_scale is not None and config.time_cond_proj_dim:
            scale = for_batch(cond.guidance_scale, b)
            guidance = guidance_embedding(scale, config.time_cond_proj_dim)
            guidance = guidance.astype(dtype)
        time = self.time_embedding(waves(t, config.block_out_channels[0]), guidance)
        if cond.pooled is not None and cond.time_ids is not None:
            sizes = waves(
                cond.time_ids.reshape(-1), config.addition_time_embed_dim or 0
            )
            sizes = sizes.reshape(len(cond.time_ids), -1)
            both = (for_batch(cond.pooled.astype(dtype), b), for_batch(sizes, b))
            time = time + self.add_embedding(jnp.concatenate(both, axis=-1))
        return time


_CONV = r"(?:.*\.)?conv(?:1|2|_in|_out|_shortcut)?"
_NORM = r"(?:.*\.)?(?:norm[123]?|conv_norm_out)"
_LINEAR = r".*\.(?:to_[qkv]|to_out\.0|ff\.net\.(?:0\.proj|2)|time_emb_proj|linear_[12]|cond_proj)"
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

    Raises CheckpointError where the files do not fit or ask for what is not here.

    >>> unet = load("sd15", subfolder="unet")                      # doctest: +SKIP
    >>> eps = unet.apply(unet.params, x, t, cond)                  # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        UNet,
        config_from_json,
        RULES,
        class_names=("UNet2DConditionModel",),
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
