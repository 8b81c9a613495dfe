"""UNet2DModel: the pixel-space DDPM of ``google/ddpm-*`` (diffusers).

``apply(params, x, t)`` predicts the noise in x (b, h, w, 3), images in [-1, 1] and
noise, at timesteps t (b,). A third argument is taken and ignored, so that this is the
library's ``eps_fn(params, x, t, cond)``. Edges must be multiples of 2^(levels - 1).

Sites: ``down.0``, ..., ``mid``, ``up.0``, ...: the output of each block. A delta there
changes what the next block sees, not the skip connections.
Source: Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports import blocks
from ports.blocks import Downsample, ResnetBlock, SelfAttention, Upsample
from ports.checkpoint import CheckpointError, locate, read_json, sha256
from ports.conditioning import TimeEmbedding, sinusoids
from ports.layers import Conv, GroupNorm
from ports.load import Port, Rule, keep, linear, load_port, only, read_config
from ports.sites import Site, untouched

# What the class could do beyond these models, at the one value that we implement.
FIXED = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_type": ("conv",),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json`` that shape the network."""

    sample_size: int | tuple[int, ...] | None = None
    in_channels: int = 3
    out_channels: int = 3
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[str, ...] = ("DownBlock2D", *("AttnDownBlock2D",) * 3)
    up_block_types: tuple[str, ...] = (*("AttnUpBlock2D",) * 3, "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    downsample_padding: int = 1
    attention_head_dim: int | None = 8  # None: one head
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None  # of the middle; None: norm_num_groups
    norm_eps: float = 1e-5
    add_attention: bool = True  # in the middle

    def __post_init__(self):
        only("down_block_types", self.down_block_types, ("DownBlock2D", ATTN_DOWN))
        only("up_block_types", self.up_block_types, ("UpBlock2D", ATTN_UP))
        only("downsample_padding", (self.downsample_padding,), (0, 1))
        widths = self.block_out_channels
        for key in ("down_block_types", "up_block_types"):
            if len(value := getattr(self, key)) != len(widths):
                raise CheckpointError(
                    f"config.json: {key} has {len(value)} entries for "
                    f"{len(widths)} levels"
                )
        if head := self.attention_head_dim:
            down = zip(widths, self.down_block_types, strict=True)
            up = zip(widths[::-1], self.up_block_types, strict=True)
            attending = {n for n, kind in (*down, *up) if kind in (ATTN_DOWN, ATTN_UP)}
            if self.add_attention:
                attending.add(widths[-1])
            for n in sorted(attending):
                if n % head:
                    raise CheckpointError(
                        f"config.json: attention_head_dim = {head} does not divide "
                        f"{n} channels"
                    )


ATTN_DOWN, ATTN_UP = "AttnDownBlock2D", "AttnUpBlock2D"


def config_from_json(raw: dict[str, Any]) -> Config:
    """config.json -> Config; refuses what the network does not implement."""
    for key, allowed in FIXED.items():
        only(key, (raw.get(key, allowed[0]),), allowed)
    return read_config(Config, raw)


def _resnet(config: Config, n_in: int, n_out: int, rngs: nnx.Rngs) -> ResnetBlock:
    return ResnetBlock(
        n_in,
        n_out,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        time_dim=4 * config.block_out_channels[0],
        rngs=rngs,
    )


def _attention(
    config: Config, n: int, rngs: nnx.Rngs, *, groups: int | None = None
) -> SelfAttention:
    return SelfAttention(
        n,
        groups=groups or config.norm_num_groups,
        eps=config.norm_eps,
        heads=n // (config.attention_head_dim or n),
        rngs=rngs,
    )


class Stage(nnx.Module):
    """One resolution: resnets, each followed by attention where the block has it.

    ``widths`` are the resnets' input widths (skip connections included).
    """

    def __init__(
        self,
        config: Config,
        n: int,
        widths: list[int],
        *,
        attention: bool,
        resize: str | None,
        rngs: nnx.Rngs,
    ):
        self.resnets = nnx.List([_resnet(config, w, n, rngs) for w in widths])
        if attention:
            self.attentions = nnx.List([_attention(config, n, rngs) for _ in widths])
        if resize == "down":  # padded on the bottom and right only, or all round
            padding = (config.downsample_padding, 1)
            self.downsamplers = nnx.List([Downsample(n, padding=padding, rngs=rngs)])
        if resize == "up":
            self.upsamplers = nnx.List([Upsample(n, rngs=rngs)])

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
            x = downsample(x)
            skips.append(x)
        return x, skips

    def up(self, x: Array, skips: list[Array], time: Array) -> Array:
        """Takes its skips from the end of the list, and removes them."""
        for i in range(len(self.resnets)):
            x = self.layer(i, jnp.concatenate([x, skips.pop()], axis=-1), time)
        for upsample in getattr(self, "upsamplers", ()):
            x = upsample(x)
        return x


class MidBlock(nnx.Module):
    """Resnet, attention where the config has it, resnet."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n, groups = config.block_out_channels[-1], config.attn_norm_num_groups
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


class Rest(NamedTuple):
    """What the way up takes beside the middle block's output."""

    skips: tuple[Float[Array, "b _ _ _"], ...]
    time: Float[Array, "b d"]


class UNet(nnx.Module):
    """Stages down, the middle, stages up over the skip connections.

    ``__call__`` is ``up`` of ``down``, as in :class:`ports.unet.UNet`.

    >>> from ports.port import init
    >>> config = Config(block_out_channels=(8,), norm_num_groups=4,
    ...                 down_block_types=("DownBlock2D",),
    ...                 up_block_types=("AttnUpBlock2D",))
    >>> port = init(UNet, config, jax.random.key(0))
    >>> x, t = jnp.zeros((2, 8, 8, 3)), jnp.array([0, 999])
    >>> eps, taps = port.apply(port.params, x, t, taps=("mid",))
    >>> eps.shape, taps["mid"].shape
    ((2, 8, 8, 3), (2, 8, 8, 8))
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        widths, layers = config.block_out_channels, config.layers_per_block
        last = len(widths) - 1
        self.config = config
        self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0], rngs=rngs)

        skips = [widths[0]]
        down = []
        for i, n in enumerate(widths):
            inputs = [widths[max(i - 1, 0)]] + [n] * (layers - 1)
            attention = config.down_block_types[i] == ATTN_DOWN
            resize = "down" if i < last else None
            stage = Stage(config, n, inputs, attention=attention, resize=resize, rngs=rngs)  # fmt: skip
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
            attention = config.up_block_types[i] == ATTN_UP
            resize = "up" if i < last else None
            stage = Stage(config, n, inputs, attention=attention, resize=resize, rngs=rngs)  # fmt: skip
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
        cond: Any = None,
        site: Site = untouched,
    ) -> Float[Array, "b h w o"]:
        h, rest = self.down(x, t, cond, site)
        return self.up(h, rest, site)

    def down(
        self,
        x: Float[Array, "b h w c"],
        t: Int[Array, " b"] | Float[Array, " b"],
        cond: Any = None,
        site: Site = untouched,
    ) -> tuple[Float[Array, "b i j k"], Rest]:
        """To the middle block's output, and what else :meth:`up` takes."""
        del cond
        times = 2 ** (len(self.down_blocks) - 1)
        if x.shape[1] % times or x.shape[2] % times:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]}: this UNet takes edges that are "
                f"multiples of {times}"
            )
        time = self.time(t, x.dtype)
        x = self.conv_in(x)
        skips = [x]
        for i, block in enumerate(self.down_blocks):
            x, more = block.down(x, time)
            skips += more
            x = site(f"down.{i}", x)
        return site("mid", self.mid_block(x, time)), Rest(tuple(skips), time)

    def up(
        self, h: Float[Array, "b i j k"], rest: Rest, site: Site = untouched
    ) -> Float[Array, "b h w o"]:
        """From the middle block's output, by the skip connections, to the end."""
        skips = list(rest.skips)
        for i, block in enumerate(self.up_blocks):
            h = site(f"up.{i}", block.up(h, skips, rest.time))
        return self.conv_out(jax.nn.silu(self.conv_norm_out(h)))

    def time(self, t: Array, dtype: Any) -> Float[Array, "b d"]:
        """The timesteps' embedding."""
        config = self.config
        flip, shift = config.flip_sin_to_cos, config.freq_shift
        n = config.block_out_channels[0]
        waves = sinusoids(t, n, cosine_first=flip, shift=shift)
        return self.time_embedding(waves.astype(dtype))


_LINEAR = r".*\.(?:time_emb_proj|linear_[12])"

RULES = (
    *blocks.RULES,
    Rule(rf"({_LINEAR})\.weight", r"\1.weight", linear),
    Rule(rf"({_LINEAR})\.bias", r"\1.bias", keep),
)
CLASS_NAMES = ("UNet2DModel",)
PIPELINES = ("DDPMPipeline", "DDIMPipeline")


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a UNet2DModel directory or hub id.

    Raises CheckpointError where the files do not fit or ask for what is not here.

    >>> unet = load("ddpm-celebahq-256")                           # doctest: +SKIP
    >>> eps = unet.apply(unet.params, x, t)                        # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        UNet,
        config_from_json,
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )


class Ddpm(NamedTuple):
    """A pipeline: its UNet, the dict of its scheduler_config.json, and the hash of the
    UNet's weights."""

    unet: Port
    scheduler: dict[str, Any]
    weights_sha256: str


def load_pipeline(
    path_or_id: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
) -> Ddpm:
    """Load a DDPM pipeline's directory or hub id.

    Its parts are in ``unet`` and ``scheduler``, or all its files side by side as in
    ``google/ddpm-*``. Raises CheckpointError where a part is missing or does not fit.

    >>> ddpm = load_pipeline("ddpm-celebahq-256")                  # doctest: +SKIP
    >>> schedule = Schedule.from_config(ddpm.scheduler, steps=50)  # doctest: +SKIP
    >>> x_T = invert(ddpm.unet.apply, ddpm.unet.params, images, schedule)
    ...                                                            # doctest: +SKIP
    """
    source: dict[str, Any] = {"variant": variant, "revision": revision}
    root = locate(path_or_id, **source)
    name = read_json(root / "model_index.json").get("_class_name", "")
    if name not in PIPELINES:
        raise CheckpointError(
            f"{path_or_id} is a {name or 'pipeline of no named class'}; supported: "
            f"{', '.join(PIPELINES)}"
        )
    flat = (root / "config.json").is_file()
    part = "" if flat else "unet"
    unet = load(path_or_id, subfolder=part, dtype=dtype, **source)
    scheduler = locate(
        path_or_id, subfolder="" if flat else "scheduler", revision=revision
    )
    return Ddpm(
        unet,
        read_json(scheduler / "scheduler_config.json"),
        sha256([locate(path_or_id, subfolder=part, **source)], variant=variant),
    )
