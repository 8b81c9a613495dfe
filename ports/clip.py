"""CLIP: text and vision transformers with their projections.

Three checkpoint classes of transformers: ``CLIPModel`` (both towers), ``CLIPTextModel``
(the text encoder in a Stable Diffusion pipeline) and the ``...WithProjection`` towers.
And open_clip's own layout, which holds both towers.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports import open_clip
from ports.checkpoint import (
    CheckpointError,
    class_name,
    locate,
    read_json,
    weight_files,
)
from ports.layers import ACTIVATIONS, Conv, Embedding, LayerNorm, Linear, attend
from ports.load import (
    Port,
    Rule,
    assemble,
    conv,
    keep,
    linear,
    load_port,
    only,
    read_config,
)
from ports.sites import Site, untouched


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The keys of ``config.json`` that shape the text tower."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int | None = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407

    def __post_init__(self):
        _check(self)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The keys of ``config.json`` that shape the vision tower."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int | None = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        _check(self)


def _check(config: TextConfig | VisionConfig) -> None:
    only("hidden_act", (config.hidden_act,), tuple(ACTIVATIONS))
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads:
        raise CheckpointError(
            f"config.json: hidden_size = {width} does not divide into "
            f"num_attention_heads = {heads}"
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """``None`` where a checkpoint lacks a tower or its projection."""

    text: TextConfig | None = None
    vision: VisionConfig | None = None
    text_projection: int | None = None
    visual_projection: int | None = None
    logit_scale: bool = False


class Block(nnx.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: TextConfig | VisionConfig, *, rngs: nnx.Rngs):
        d, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = LayerNorm(d, eps=eps)
        self.self_attn = SelfAttention(d, config.num_attention_heads, rngs=rngs)
        self.layer_norm2 = LayerNorm(d, eps=eps)
        self.mlp = Mlp(d, config.intermediate_size, config.hidden_act, rngs=rngs)

    def __call__(self, x: Float[Array, "b t d"], causal: bool) -> Float[Array, "b t d"]:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class SelfAttention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, d: int, heads: int, *, rngs: nnx.Rngs):
        self.q_proj = Linear(d, d, rngs=rngs)
        self.k_proj = Linear(d, d, rngs=rngs)
        self.v_proj = Linear(d, d, rngs=rngs)
        self.out_proj = Linear(d, d, rngs=rngs)
        self.heads = heads

    def __call__(self, x: Float[Array, "b t d"], causal: bool) -> Float[Array, "b t d"]:
        b, t, d = x.shape
        split = (b, t, self.heads, d // self.heads)
        q, k, v = (p(x).reshape(split) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v, causal=causal).reshape(x.shape))


class Mlp(nnx.Module):
    """Two linear layers with the config's activation between."""

    def __init__(self, d: int, hidden: int, activation: str, *, rngs: nnx.Rngs):
        self.fc1 = Linear(d, hidden, rngs=rngs)
        self.fc2 = Linear(hidden, d, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


class Encoder(nnx.Module):
    """A stack of blocks."""

    def __init__(self, config: TextConfig | VisionConfig, *, rngs: nnx.Rngs):
        n = config.num_hidden_layers
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(n)])

    def __call__(
        self, x: Float[Array, "b t d"], site: Site, *, tower: str
    ) -> Float[Array, "b t d"]:
        for i, layer in enumerate(self.layers):
            x = site(f"{tower}.block.{i}", layer(x, tower == "text"))
        return x


class TextEmbeddings(nnx.Module):
    """The tables of tokens and of positions."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        d = config.hidden_size
        self.token_embedding = Embedding(config.vocab_size, d, rngs=rngs)
        self.position_embedding = Embedding(
            config.max_position_embeddings, d, rngs=rngs
        )


class TextTransformer(nnx.Module):
    """The text tower: causal, pooled at the end of the text."""

    def __init__(self, config: TextConfig, *, dtype: Any, rngs: nnx.Rngs):
        self.embeddings = TextEmbeddings(config, rngs=rngs)
        self.encoder = Encoder(config, rngs=rngs)
        self.final_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.eos_token_id = config.eos_token_id
        self.max_length = config.max_position_embeddings
        self.dtype = dtype  # ids are integers: they bring none to compute in

    def hidden(
        self, ids: Int[Array, "b t"], site: Site = untouched
    ) -> Float[Array, "b t d"]:
        """The last hidden state, after the final norm."""
        if ids.shape[1] > self.max_length:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens, but this model takes at most "
                f"{self.max_length}"
            )
        tokens = self.embeddings.token_embedding.weight[...][ids]
        places = self.embeddings.position_embedding.weight[...][: ids.shape[1]]
        x = tokens.astype(self.dtype) + places[None].astype(self.dtype)
        x = self.encoder(x, site, tower="text")
        return site("text.norm", self.final_layer_norm(x))

    def pooled(
        self, ids: Int[Array, "b t"], hidden: Float[Array, "b t d"]
    ) -> Float[Array, "b d"]:
        """The state at the end-of-text token.

        Configs from before transformers 4.31 store ``eos_token_id: 2``, which no
        vocabulary uses; there the end is the largest id.
        """
        legacy = self.eos_token_id == 2
        end = ids if legacy else (ids == self.eos_token_id).astype(jnp.int32)
        return jnp.take_along_axis(hidden, end.argmax(1)[:, None, None], axis=1)[:, 0]


class VisionEmbeddings(nnx.Module):
    """Patches behind a class token, with positions."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        d, patch = config.hidden_size, config.patch_size
        self.class_embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), (d,)))
        self.patch_embedding = Conv(
            config.num_channels,
            d,
            patch,
            stride=patch,
            padding=((0, 0), (0, 0)),
            bias=False,
            rngs=rngs,
        )
        tokens = (config.image_size // patch) ** 2 + 1
        self.position_embedding = Embedding(tokens, d, rngs=rngs)
        self.image_size = config.image_size

    def __call__(self, pixels: Float[Array, "b h w c"]) -> Float[Array, "b t d"]:
        size, (h, w) = self.image_size, pixels.shape[1:3]
        if (h, w) != (size, size):  # CLIP's positions are not interpolated
            raise ValueError(
                f"images of {h} x {w} pixels, but this model takes {size} x {size}"
            )
        x = self.patch_embedding(pixels)
        b, _, _, d = x.shape
        cls = self.class_embedding[...].astype(x.dtype)
        cls = jnp.broadcast_to(cls, (b, 1, d))
        x = jnp.concatenate([cls, x.reshape(b, -1, d)], axis=1)
        return x + self.position_embedding.weight[...].astype(x.dtype)[None]


class VisionTransformer(nnx.Module):
    """The vision tower, pooled at its class token."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        d, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = VisionEmbeddings(config, rngs=rngs)
        self.pre_layrnorm = LayerNorm(d, eps=eps)  # the checkpoints' own spelling
        self.encoder = Encoder(config, rngs=rngs)
        self.post_layernorm = LayerNorm(d, eps=eps)

    def pooled(
        self, pixels: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """The normalised class token."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        x = self.encoder(x, site, tower="vision")
        return site("vision.norm", self.post_layernorm(x[:, 0]))


class Clip(nnx.Module):
    """The towers that a checkpoint has, with their projections.

    The text tower computes in ``dtype``, the vision tower in its images' dtype.
    """

    def __init__(self, config: Config, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        if config.text:
            self.text_model = TextTransformer(config.text, dtype=dtype, rngs=rngs)
        if config.vision:
            self.vision_model = VisionTransformer(config.vision, rngs=rngs)
        if config.text and config.text_projection:
            d = config.text.hidden_size
            self.text_projection = Linear(
                d, config.text_projection, bias=False, rngs=rngs
            )
        if config.vision and config.visual_projection:
            d = config.vision.hidden_size
            self.visual_projection = Linear(
                d, config.visual_projection, bias=False, rngs=rngs
            )
        if config.logit_scale:
            self.logit_scale = nnx.Param(jnp.asarray(2.6592))

    def hidden_text(
        self, ids: Int[Array, "b t"], site: Site = untouched
    ) -> Float[Array, "b t d"]:
        """Last hidden state of the text tower: Stable Diffusion 1 and 2's conditioning.

        Their later kin take the state before the last block, without the final norm:
        the site ``text.block.{n - 2}`` of n blocks.
        """
        return self.text_model.hidden(ids, site)

    def encode_text(
        self, ids: Int[Array, "b t"], site: Site = untouched
    ) -> Float[Array, "b p"]:
        """Projected text feature, not normalised."""
        hidden = self.text_model.hidden(ids, site)
        return self.text_projection(self.text_model.pooled(ids, hidden))

    def encode_image(
        self, pixels: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b p"]:
        """Projected image feature, not normalised (``get_image_features``)."""
        return self.visual_projection(self.vision_model.pooled(pixels, site))

    def __call__(
        self,
        pixels: Float[Array, "b h w c"],
        ids: Int[Array, "m t"],
        site: Site = untouched,
    ) -> tuple[Float[Array, "b p"], Float[Array, "m p"]]:
        """Projected image and text features."""
        return self.encode_image(pixels, site), self.encode_text(ids, site)


_LINEAR = r"encoder\..*(?:[qkv]_proj|out_proj|fc1|fc2)"
_NORM = r"encoder\..*layer_norm[12]|final_layer_norm|pre_layrnorm|post_layernorm"
# Lone text towers are published with the prefix and, since transformers 5, without.
_TOWERS = ((r"(?:text_model\.)?", "text_model"), (r"vision_model\.", "vision_model"))

RULES = (
    *(
        Rule(rf"{prefix}({name})\.{leaf}", rf"{tower}.\1.{leaf}", transform)
        for prefix, tower in _TOWERS
        for name, leaf, transform in (
            (_LINEAR, "weight", linear),
            (_LINEAR, "bias", keep),
            (_NORM, "weight", keep),
            (_NORM, "bias", keep),
            (r"embeddings\.(?:token|position)_embedding", "weight", keep),
        )
    ),
    Rule(r"(vision_model\.embeddings\.patch_embedding\.weight)", r"\1", conv),
    Rule(r"(vision_model\.embeddings\.class_embedding|logit_scale)", r"\1", keep),
    Rule(r"((?:text|visual)_projection\.weight)", r"\1", linear),
    Rule(r".*position_ids", None),  # a buffer that older files carry
)

CLASS_NAMES = (
    "CLIPModel",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModelWithProjection",
)


def config_from_json(raw: dict[str, Any]) -> Config:
    """A flat tower config or CLIPModel's nested one -> Config."""
    name = class_name(raw)
    if name == "CLIPModel":
        width = raw.get("projection_dim", 512)  # the towers' own does not count
        return Config(
            text=_read(TextConfig, _tower_json(raw, "text_config")),
            vision=_read(VisionConfig, _tower_json(raw, "vision_config")),
            text_projection=width,
            visual_projection=width,
            logit_scale=True,
        )
    if name.startswith("CLIPVision"):
        vision = _read(VisionConfig, raw.get("vision_config", raw))
        return Config(vision=vision, visual_projection=vision.projection_dim)
    text = _read(TextConfig, raw.get("text_config", raw))
    projection = text.projection_dim if name.endswith("WithProjection") else None
    return Config(text=text, text_projection=projection)


def _read(config_type: type, raw: dict[str, Any]) -> Any:
    for key in ("image_size", "patch_size", "eos_token_id"):
        if not isinstance(value := raw.get(key, 0), int):  # transformers allows lists
            raise CheckpointError(
                f"config.json: {key} = {value!r} is not supported (supported: a number)"
            )
    return read_config(config_type, raw)


def _tower_json(raw: dict[str, Any], key: str) -> dict[str, Any]:
    """A tower's part of CLIPModel's config: what differs from the defaults.

    Older files carry it twice; there ``..._config_dict`` wins as a whole, so that a key
    it lacks has its default whatever ``..._config`` says.
    """
    older = raw.get(f"{key}_dict")
    return (raw.get(key) or {}) if older is None else older


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    layout: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a CLIP directory or hub id, in transformers' layout or open_clip's.

    ``port.apply(params, pixels, ids)`` gives both features; ``method="encode_image"``,
    ``"encode_text"`` and ``"hidden_text"`` give one. Pixels are NHWC, preprocessed, of
    the config's image size; ids may be shorter than its longest text, not longer
    (ValueError). ``layout`` chooses where a repository holds both: "transformers", the
    default, or "open_clip".

    >>> clip = load("openai/clip-vit-base-patch16")                # doctest: +SKIP
    >>> clip.apply(clip.params, pixels, method="encode_image")     # doctest: +SKIP
    """
    place: dict[str, Any] = {
        "subfolder": subfolder,
        "variant": variant,
        "revision": revision,
    }
    dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    layout = layout or open_clip.layout_of(path_or_id, CLASS_NAMES, **place)
    if layout not in open_clip.LAYOUTS:
        known = ", ".join(map(repr, open_clip.LAYOUTS))
        raise ValueError(f"layout = {layout!r} is none of {known}")
    network = _network(dtype)
    if layout == "transformers":
        return load_port(
            path_or_id,
            network,
            config_from_json,
            RULES,
            class_names=CLASS_NAMES,
            **place,
            **dtypes,
        )
    folder = locate(path_or_id, stems=open_clip.STEMS, **place)
    raw = open_clip.config_json(read_json(folder / open_clip.CONFIG))
    files = weight_files(folder, variant=variant, stems=open_clip.STEMS)
    return assemble(files, network, config_from_json(raw), open_clip.RULES, **dtypes)


@ft.cache  # one object for each dtype, by which a traced network is found again
def _network(dtype: Any) -> Callable[..., Clip]:
    return ft.partial(Clip, dtype=dtype)
