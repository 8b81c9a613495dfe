"""DINOv2, with registers or without (transformers' layout)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx

from ports.checkpoint import class_name
from ports.layers import ACTIVATIONS, LayerNorm
from ports.load import Port, Rule, keep, linear, load_port, only, read_config
from ports.vit import Attention, Block, Embeddings, Mlp, Vit, head_size, rules, square


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of the checkpoint's ``config.json`` that shape the network.

    ``num_register_tokens`` is None for the class without registers, whose positions
    are also resampled differently.
    """

    hidden_size: int = 768
    mlp_ratio: int | float = 4
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 14
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    layerscale_value: float = 1.0
    use_swiglu_ffn: bool = False
    num_register_tokens: int | None = None

    def __post_init__(self):
        if not self.use_swiglu_ffn:  # which is silu, whatever hidden_act says
            only("hidden_act", (self.hidden_act,), tuple(ACTIVATIONS))
        head_size(self.hidden_size, self.num_attention_heads)
        square("image_size", self.image_size)
        square("patch_size", self.patch_size)


def mlp(config: Config, rngs: nnx.Rngs) -> Mlp:
    """Plain, or SwiGLU with two thirds of the channels, in whole eights."""
    d, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
    if not config.use_swiglu_ffn:
        return Mlp(d, hidden, config.hidden_act, rngs=rngs)
    hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    return Mlp(d, hidden, "silu", gated=True, rngs=rngs)


class DinoV2(Vit):
    """Learned positions, resampled for images of another size; scaled residuals."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, eps, bias = config.hidden_size, config.layer_norm_eps, config.qkv_bias
        patch = square("patch_size", config.patch_size)

        def block() -> Block:
            biases = (bias, bias, bias, True)
            return Block(
                d,
                Attention(d, config.num_attention_heads, biases, rngs=rngs),
                mlp(config, rngs),
                eps=eps,
                layer_scale=config.layerscale_value,
            )

        super().__init__(
            Embeddings(
                d,
                channels=config.num_channels,
                patch=patch,
                registers=config.num_register_tokens,
                side=square("image_size", config.image_size) // patch,
                antialias=config.num_register_tokens is not None,
                rngs=rngs,
            ),
            [block() for _ in range(config.num_hidden_layers)],
            LayerNorm(d, eps=eps),
        )


_PREFIX = r"(?:dinov2(?:_with_registers)?\.)?"
_LAYER = r"encoder\.layer"

RULES = (
    *rules(
        _PREFIX,
        _LAYER,
        {
            r"norm1": "norm1",
            r"norm2": "norm2",
            r"mlp\.(?:fc1|up_proj)": "mlp.up_proj",
            r"mlp\.(?:fc2|weights_out|down_proj)": "mlp.down_proj",
            r"mlp\.gate_proj": "mlp.gate_proj",
        },
    ),
    Rule(
        rf"{_PREFIX}{_LAYER}\.(\d+)\.mlp\.weights_in\.(weight|bias)",
        (r"layer.\1.mlp.gate_proj.\2", r"layer.\1.mlp.up_proj.\2"),
        linear,
    ),
    Rule(
        rf"{_PREFIX}{_LAYER}\.(\d+)\.(layer_scale[12])\.lambda1",
        r"layer.\1.\2.lambda1",
        keep,
    ),
)

CLASS_NAMES = (
    "Dinov2Model",
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersModel",
    "Dinov2WithRegistersForImageClassification",
)


def config_from_json(raw: dict[str, Any]) -> Config:
    """The config of either class -> Config; their defaults differ."""
    if "WithRegisters" in class_name(raw):
        return read_config(Config, {"num_register_tokens": 4, "patch_size": 16} | raw)
    return read_config(Config, raw | {"num_register_tokens": None})


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a DINOv2 directory or hub id; of a classifier, all but its head.

    ``port.apply(params, pixels)`` gives ``Features``; ``method="encode_image"`` the
    class token after the final norm. Pixels are NHWC, preprocessed, of any size.

    >>> dinov2 = load("facebook/dinov2-with-registers-large")      # doctest: +SKIP
    >>> dinov2.apply(dinov2.params, pixels).patches                # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        DinoV2,
        config_from_json,
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
