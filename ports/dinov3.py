"""DINOv3: registers, rotary positions, gated MLPs in the larger models.

The layout is transformers' (``DINOv3ViTModel``). Meta's own ``.pth`` files are pickles,
which are never opened.
"""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from ports.layers import ACTIVATIONS, LayerNorm
from ports.load import Port, Rule, conv, keep, linear, load_port, only, read_config
from ports.vit import Attention, Block, Embeddings, Mlp, Rotate, Vit, head_size, square


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of the checkpoint's ``config.json`` that shape the network.

    Its ``pos_embed_*`` keys move positions in training only.
    """

    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    num_channels: int = 3
    image_size: int | tuple[int, int] = 224  # what images are resized to; no limit
    patch_size: int | tuple[int, int] = 16
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    layerscale_value: float = 1.0
    num_register_tokens: int = 0
    rope_theta: float = 100.0
    use_gated_mlp: bool = False
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True

    def __post_init__(self):
        only("hidden_act", (self.hidden_act,), tuple(ACTIVATIONS))
        # Pairs of channels turn, half of the pairs by height and half by width.
        head_size(self.hidden_size, self.num_attention_heads, multiple=4)
        square("patch_size", self.patch_size)


class DinoV3(Vit):
    """Rotary positions in every block, so an image may have any size."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, heads = config.hidden_size, config.num_attention_heads
        biases = (
            config.query_bias,
            config.key_bias,
            config.value_bias,
            config.proj_bias,
        )

        def block() -> Block:
            return Block(
                d,
                Attention(d, heads, biases, rngs=rngs),
                Mlp(
                    d,
                    config.intermediate_size,
                    config.hidden_act,
                    gated=config.use_gated_mlp,
                    bias=config.mlp_bias,
                    rngs=rngs,
                ),
                eps=config.layer_norm_eps,
                layer_scale=config.layerscale_value,
            )

        super().__init__(
            Embeddings(
                d,
                channels=config.num_channels,
                patch=square("patch_size", config.patch_size),
                registers=config.num_register_tokens,
                rngs=rngs,
            ),
            [block() for _ in range(config.num_hidden_layers)],
            LayerNorm(d, eps=config.layer_norm_eps),
        )
        self.config = config

    def rotation(self, h: int, w: int) -> Rotate:
        """Rotary positions of the patches; the tokens before them stay as they are."""
        config = self.config
        size = config.hidden_size // config.num_attention_heads
        angles = rotary_angles(h, w, head_size=size, theta=config.rope_theta)
        # Turned by zero: one multiplication for all tokens, no slicing.
        angles = np.pad(angles, ((1 + config.num_register_tokens, 0), (0, 0)))
        cos, sin = (jnp.asarray(f(angles), jnp.float32) for f in (np.cos, np.sin))
        return ft.partial(rotate, cos=cos, sin=sin)


def rotary_angles(
    h: int, w: int, *, head_size: int, theta: float
) -> Float[np.ndarray, "hw half"]:
    """The angle of each pair of channels at each patch of a map, row by row.

    Patch centres lie in [-1, 1] on both axes, whatever the shape of the image; the
    first half of the pairs turns with the height, the second with the width.
    """
    y, x = ((2 * np.arange(n) + 1) / n - 1 for n in (h, w))
    frequencies = 2 * np.pi / theta ** (np.arange(0, head_size, 4) / head_size)
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    return (places[..., None] * frequencies).reshape(h * w, head_size // 2)


def rotate(
    x: Float[Array, "b t heads d"],
    *,
    cos: Float32[Array, "t half"],
    sin: Float32[Array, "t half"],
) -> Float[Array, "b t heads d"]:
    """Turn each pair (x[i], x[i + d/2]) by its angle, in float32."""
    cos, sin = cos[None, :, None], sin[None, :, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    y = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return y.astype(x.dtype)


# The files have no prefix before ``layer``; transformers 5's own names (which
# ``save_pretrained(..., save_original_format=False)`` writes) have ``model.``.
_BLOCK = r"(?:model\.)?(layer\.\d+)"
_LINEAR = r"attention\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj"

RULES = (
    Rule(rf"{_BLOCK}\.((?:{_LINEAR})\.(?:weight|bias))", r"\1.\2", linear),
    Rule(rf"{_BLOCK}\.(norm[12]\.(?:weight|bias))", r"\1.\2", keep),
    Rule(rf"{_BLOCK}\.(layer_scale[12]\.lambda1)", r"\1.\2", keep),
    Rule(r"(norm\.(?:weight|bias))", r"\1", keep),
    Rule(r"(embeddings\.(?:cls_token|register_tokens))", r"\1", keep),
    Rule(r"(embeddings\.patch_embeddings\.(?:weight|bias))", r"\1", conv),
    Rule(r"embeddings\.mask_token", None),  # only training masks patches
)

CLASS_NAMES = ("DINOv3ViTModel",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a DINOv3 ViT directory or hub id.

    ``port.apply(params, pixels)`` gives ``Features``; ``method="encode_image"`` the
    class token after the final norm. Pixels are NHWC, preprocessed, of any size.

    >>> dinov3 = load("facebook/dinov3-vitl16-pretrain-lvd1689m")  # doctest: +SKIP
    >>> dinov3.apply(dinov3.params, pixels, method="encode_image") # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        DinoV3,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
