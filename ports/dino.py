"""DINO, the first: a plain vision transformer (transformers' ``ViTModel`` layout)."""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx

from ports.layers import ACTIVATIONS, LayerNorm
from ports.load import Port, Rule, load_port, only, read_config
from ports.vit import Attention, Block, Embeddings, Mlp, Vit, head_size, rules, square


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of the checkpoint's ``config.json`` that shape the network."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True

    def __post_init__(self):
        only("hidden_act", (self.hidden_act,), tuple(ACTIVATIONS))
        head_size(self.hidden_size, self.num_attention_heads)
        square("image_size", self.image_size)
        square("patch_size", self.patch_size)


class Dino(Vit):
    """Learned positions, resampled for images of another size."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, eps, bias = config.hidden_size, config.layer_norm_eps, config.qkv_bias
        heads, hidden = config.num_attention_heads, config.intermediate_size
        patch = square("patch_size", config.patch_size)

        def block() -> Block:
            attention = Attention(d, heads, (bias, bias, bias, True), rngs=rngs)
            mlp = Mlp(d, hidden, config.hidden_act, rngs=rngs)
            return Block(d, attention, mlp, eps=eps)

        super().__init__(
            Embeddings(
                d,
                channels=config.num_channels,
                patch=patch,
                side=square("image_size", config.image_size) // patch,
                rngs=rngs,
            ),
            [block() for _ in range(config.num_hidden_layers)],
            LayerNorm(d, eps=eps),
        )


RULES = (
    *rules(
        r"(?:vit\.)?",
        r"(?:encoder\.layer|layers)",
        {
            r"(?:intermediate\.dense|mlp\.fc1)": "mlp.up_proj",
            r"(?:output\.dense|mlp\.fc2)": "mlp.down_proj",
            r"layernorm_before": "norm1",
            r"layernorm_after": "norm2",
        },
    ),
    # DINO's own files have none; others hold one that DINO never trained.
    Rule(r"(?:vit\.)?pooler\.dense\.(?:weight|bias)", None),
)

CLASS_NAMES = ("ViTModel", "ViTForImageClassification")


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a DINO directory or hub id; of a classifier, all but its head.

    ``port.apply(params, pixels)`` gives ``Features``; ``method="encode_image"`` the
    class token after the final norm. Pixels are NHWC, preprocessed, of any size:
    positions are resampled as with transformers' ``interpolate_pos_encoding=True``.

    >>> dino = load("facebook/dino-vitb16")                        # doctest: +SKIP
    >>> dino.apply(dino.params, pixels, method="encode_image")     # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        Dino,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
