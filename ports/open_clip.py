"""open_clip's own layout of CLIP: its config in transformers' words, its tensor names.

A folder holds ``open_clip_config.json`` and ``open_clip_model.safetensors``; the network
is ``ports.clip``'s, and ``ports.clip.load`` reads both layouts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ports import checkpoint
from ports.checkpoint import CheckpointError, class_name, locate, read_json
from ports.load import Rule, conv, keep, linear, only

CONFIG = "open_clip_config.json"
STEMS = ("open_clip_model", "open_clip_pytorch_model")
# Each layout with how the names of its weights begin.
LAYOUTS = {"transformers": checkpoint.STEMS, "open_clip": STEMS}

# What is read, with open_clip's defaults.
_MODEL = {"embed_dim": None, "quick_gelu": False}
_VISION = {
    "image_size": 224,
    "layers": 12,
    "width": 768,
    "patch_size": 16,
    "head_width": 64,
    "mlp_ratio": 4.0,
}
_TEXT = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
}

# What must have one of these values; the first is open_clip's default.
_BLOCK_FIXED: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,),
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
}
_MODEL_FIXED = {
    "custom_text": (False,),
    "multimodal_cfg": (None,),
    "init_logit_bias": (None,),
}
_VISION_FIXED = _BLOCK_FIXED | {
    "timm_model_name": (None, ""),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable", "sin_cos_2d"),  # both are stored
    "final_ln_after_pool": (False,),
    "pool_type": ("tok",),
}
_TEXT_FIXED = _BLOCK_FIXED | {
    "hf_model_name": (None, ""),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "pool_type": ("argmax",),
    "proj_type": ("linear",),
    "proj_bias": (False,),
}

# What does not change the features: names, or how they begin.
_MODEL_UNUSED = (
    "vision_cfg",  # read on their own
    "text_cfg",
    "init_logit_scale",
    "nonscalar_logit_scale",
    "output_dict",
)
_VISION_UNUSED = ("patch_dropout", "output_tokens", "attn_pooler_", "timm_")
_TEXT_UNUSED = (
    "output_tokens",
    "final_ln_after_pool",
    "pad_id",
    "eos_id",
    "tokenizer_",
    "hf_",
)


def config_json(raw: dict[str, Any]) -> dict[str, Any]:
    """``open_clip_config.json`` as the ``config.json`` of the same CLIPModel.

    CheckpointError names the first key or value that is not implemented.
    """
    model = _section(raw, "model_cfg", _MODEL, _MODEL_FIXED, _MODEL_UNUSED)
    cfg = raw["model_cfg"]
    vision = _section(cfg, "vision_cfg", _VISION, _VISION_FIXED, _VISION_UNUSED)
    text = _section(cfg, "text_cfg", _TEXT, _TEXT_FIXED, _TEXT_UNUSED)
    act = "quick_gelu" if model["quick_gelu"] else "gelu"
    heads = vision["width"] // vision["head_width"]
    return {
        "architectures": ["CLIPModel"],
        "projection_dim": model["embed_dim"],
        "vision_config": _transformer("vision_cfg", vision, heads, act)
        | {"image_size": vision["image_size"], "patch_size": vision["patch_size"]},
        "text_config": _transformer("text_cfg", text, text["heads"], act)
        | {
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "eos_token_id": 2,  # transformers' word for "at the largest id"
        },
    }


def _transformer(
    section: str, cfg: dict[str, Any], heads: int, act: str
) -> dict[str, Any]:
    width = cfg["width"]
    if heads < 1 or width % heads:
        raise CheckpointError(
            f"{CONFIG}: {section}.width = {width} does not divide into {heads} heads"
        )
    return {
        "hidden_size": width,
        "intermediate_size": int(width * cfg["mlp_ratio"]),
        "num_hidden_layers": cfg["layers"],
        "num_attention_heads": heads,
        "hidden_act": act,
        "layer_norm_eps": 1e-5,
    }


def _section(
    parent: dict[str, Any],
    section: str,
    defaults: dict[str, Any],
    fixed: dict[str, tuple[Any, ...]],
    unused: tuple[str, ...],
) -> dict[str, Any]:
    """One object of the config over its defaults; every key known, every value fit."""
    given = parent.get(section)
    if not isinstance(given, dict):
        raise CheckpointError(f"{CONFIG}: {section} is missing or no object")
    for key, allowed in fixed.items():
        value = given.get(key, allowed[0])
        only(f"{section}.{key}", (value,), allowed, file=CONFIG)
    values = {key: given.get(key, default) for key, default in defaults.items()}
    for key, value in values.items():
        _fit(f"{section}.{key}", value, defaults[key])
    known = (*defaults, *fixed)
    if new := [k for k in given if k not in known and not k.startswith(unused)]:
        raise CheckpointError(
            f"{CONFIG}: {section} has keys that are not supported: {', '.join(new)}"
        )
    return values


def _fit(key: str, value: Any, default: Any) -> None:
    """The value is a number, or true or false, as the default is."""
    kinds = (int, float) if isinstance(default, float) else int
    if isinstance(default, bool):
        only(key, (value,), (False, True), file=CONFIG)
    elif isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
        raise CheckpointError(
            f"{CONFIG}: {key} = {value!r} is not supported (supported: a positive "
            "number)"
        )


def layout_of(
    path_or_id: str,
    class_names: Sequence[str],
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
) -> str:
    """The layout to read: "transformers", or "open_clip" where that is all there is.

    Many repositories hold both, some with the weights of one alone in safetensors, and
    some (timm's) with the config.json of a model not in ``class_names``.
    """
    place: dict[str, Any] = {
        "subfolder": subfolder,
        "variant": variant,
        "revision": revision,
    }
    folder = locate(path_or_id, stems=(), **place)
    if not (folder / CONFIG).is_file():
        return "transformers"
    config = folder / "config.json"
    if not config.is_file() or class_name(read_json(config)) not in class_names:
        return "open_clip"
    try:
        checkpoint.weight_files(locate(path_or_id, **place), variant=variant)
    except CheckpointError:
        return "open_clip"
    return "transformers"


def scalar(x: np.ndarray) -> np.ndarray:
    """(1,) or () -> ()."""
    return x.reshape(()) if x.shape == (1,) else x


def _tower(theirs: str, ours: str) -> tuple[Rule, ...]:
    block, layer = rf"{theirs}\.resblocks\.(\d+)", rf"{ours}.encoder.layers.\1"
    qkv = tuple(rf"{layer}.self_attn.{x}_proj.\2" for x in "qkv")
    leaf = r"\.(weight|bias)"
    return (
        Rule(rf"{block}\.attn\.in_proj_(weight|bias)", qkv, linear),
        Rule(
            rf"{block}\.attn\.out_proj{leaf}", rf"{layer}.self_attn.out_proj.\2", linear
        ),
        Rule(rf"{block}\.mlp\.c_fc{leaf}", rf"{layer}.mlp.fc1.\2", linear),
        Rule(rf"{block}\.mlp\.c_proj{leaf}", rf"{layer}.mlp.fc2.\2", linear),
        Rule(rf"{block}\.ln_([12]){leaf}", rf"{layer}.layer_norm\2.\3", keep),
    )


_V, _T = "vision_model", "text_model"

RULES = (
    *_tower(r"visual\.transformer", _V),
    *_tower("transformer", _T),
    Rule(r"visual\.conv1\.weight", f"{_V}.embeddings.patch_embedding.weight", conv),
    Rule(r"visual\.class_embedding", f"{_V}.embeddings.class_embedding", keep),
    Rule(
        r"visual\.positional_embedding",
        f"{_V}.embeddings.position_embedding.weight",
        keep,
    ),
    Rule(r"visual\.ln_pre\.(weight|bias)", rf"{_V}.pre_layrnorm.\1", keep),
    Rule(r"visual\.ln_post\.(weight|bias)", rf"{_V}.post_layernorm.\1", keep),
    Rule(r"token_embedding\.weight", f"{_T}.embeddings.token_embedding.weight", keep),
    Rule("positional_embedding", f"{_T}.embeddings.position_embedding.weight", keep),
    Rule(r"ln_final\.(weight|bias)", rf"{_T}.final_layer_norm.\1", keep),
    # Matrices that multiply from the right, where torch's Linear stores the transpose.
    Rule(r"visual\.proj", "visual_projection.weight", keep),
    Rule("text_projection", "text_projection.weight", keep),
    Rule("logit_scale", "logit_scale", scalar),
)
