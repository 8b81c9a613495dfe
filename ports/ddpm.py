"""UNet2DModel: diffusion in pixels, of ``google/ddpm-*`` to iDDPM and ADM (diffusers).

``apply(params, x, t, cond)`` predicts the noise in x (b, h, w, 3), images in [-1, 1] and
noise, at timesteps t (b,): the library's ``eps_fn``. ``cond`` is what the config's class
embedding takes, in r rows where r divides b: labels (r,), numbers to embed as timesteps
are (r,), or embeddings (r, d); without one it is ignored. A label that is none gives NaN.
Models of 6 output channels give a learned variance after the noise (iDDPM), which the
library's samplers leave out. Edges must be multiples of 2^(levels - 1).

Sites: ``down.0``, ..., ``mid``, ``up.0``, ...: the output of each block. A delta there
changes what the next block sees, not the skip connections.
Source: Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239); Nichol and
Dhariwal, "Improved DDPM" (2102.09672); Dhariwal and Nichol, "ADM" (2105.05233).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports import blocks
from ports.checkpoint import CheckpointError, locate, read_json, sha256
from ports.conditioning import TimeEmbedding, for_batch, sinusoids
from ports.ddpm_blocks import (
    ATTN_DOWN,
    ATTN_UP,
    RESNET_DOWN,
    RESNET_UP,
    Labels,
    MidBlock,
    Stage,
)
from ports.layers import Conv, GroupNorm
from ports.load import Port, Rule, keep, linear, load_port, only, read_config
from ports.sites import Site, untouched

# What the class could do beyond these models, at the one value that we implement.
FIXED = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "time_embedding_type": ("positional",),
}
# What a key may be, where the network does not do all that the class does.
ALLOWED = {
    "down_block_types": ("DownBlock2D", ATTN_DOWN, RESNET_DOWN),
    "up_block_types": ("UpBlock2D", ATTN_UP, RESNET_UP),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None, "timestep", "identity"),
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
    downsample_type: str = "conv"  # of blocks with attention; "resnet": a resnet halves
    upsample_type: str = "conv"
    attention_head_dim: int | None = 8  # None: one head
    norm_num_groups: int = 32
    # Of the middle; None: norm_num_groups, or no norm at all with scale_shift.
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    add_attention: bool = True  # in the middle
    time_embedding_dim: int | None = None  # None: four times the first width
    class_embed_type: str | None = None
    num_class_embeds: int | None = None  # labels, where class_embed_type is None

    @property
    def time_dim(self) -> int:
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    @property
    def takes_class(self) -> bool:
        """Whether the network is told a class beside the timestep."""
        return (self.class_embed_type, self.num_class_embeds) != (None, None)

    def __post_init__(self):
        for key, allowed in ALLOWED.items():
            value = getattr(self, key)
            only(key, value if isinstance(value, tuple) else (value,), allowed)
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


def config_from_json(raw: dict[str, Any]) -> Config:
    """config.json -> Config; refuses what the network does not implement."""
    for key, allowed in FIXED.items():
        only(key, (raw.get(key, allowed[0]),), allowed)
    return read_config(Config, raw)


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
        self.time_embedding = TimeEmbedding(widths[0], config.time_dim, rngs=rngs)
        if config.class_embed_type == "timestep":
            self.class_embedding = TimeEmbedding(widths[0], config.time_dim, rngs=rngs)
        elif config.class_embed_type is None and config.num_class_embeds is not None:
            n_labels = config.num_class_embeds
            self.class_embedding = Labels(n_labels, config.time_dim, rngs=rngs)

        skips = [widths[0]]
        down = []
        for i, n in enumerate(widths):
            inputs = [widths[max(i - 1, 0)]] + [n] * (layers - 1)
            kind, resize = config.down_block_types[i], "down" if i < last else None
            stage = Stage(config, kind, n, inputs, resize=resize, rngs=rngs)
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
            kind, resize = config.up_block_types[i], "up" if i < last else None
            stage = Stage(config, kind, n, inputs, resize=resize, rngs=rngs)
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
        times = 2 ** (len(self.down_blocks) - 1)
        if x.shape[1] % times or x.shape[2] % times:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]}: this UNet takes edges that are "
                f"multiples of {times}"
            )
        time = self.time(t, cond, x.dtype)
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

    def time(self, t: Array, cond: Any, dtype: Any) -> Float[Array, "b d"]:
        """The embedding of the timesteps and, where the network takes one, the class."""
        config = self.config
        time = self.time_embedding(self._waves(t).astype(dtype))
        if not config.takes_class:
            return time
        if cond is None:
            raise ValueError("this UNet is told a class: pass it as cond")
        identity = config.class_embed_type == "identity"
        rows = jnp.asarray(cond)
        if rows.ndim != 1 + identity:
            what = "embeddings (r, d)" if identity else "classes (r,)"
            raise ValueError(f"cond has shape {rows.shape}; this UNet takes {what}")
        told = for_batch(rows, len(t))
        if config.class_embed_type == "timestep":
            told = self.class_embedding(self._waves(told).astype(dtype))
        elif not identity:
            told = self.class_embedding(told)
        return time + told.astype(dtype)

    def _waves(self, t: Array) -> Float[Array, "b n"]:
        flip, shift = self.config.flip_sin_to_cos, self.config.freq_shift
        n = self.config.block_out_channels[0]
        return sinusoids(t, n, cosine_first=flip, shift=shift)


_LINEAR = r".*\.(?:time_emb_proj|linear_[12])"

RULES = (
    *blocks.RULES,
    Rule(rf"({_LINEAR})\.weight", r"\1.weight", linear),
    Rule(rf"({_LINEAR})\.bias", r"\1.bias", keep),
    Rule(r"(class_embedding)\.weight", r"\1.weight", keep),
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
