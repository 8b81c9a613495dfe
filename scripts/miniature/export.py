"""Write trained parameters as the published checkpoints are laid out."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from ports import clip
from ports.port import Params

PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 64},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 64, "width": 64},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}


def torch_layout(
    params: Params, *, linear_projection: bool = True
) -> dict[str, np.ndarray]:
    """Our tree -> torch's names and layout, float16.

    Only embeddings are 2-D and not transposed. Stable Diffusion 1.x has 1x1
    convolutions for its transformers' projections, 2.x has linear ones.
    """
    out = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = ".".join(str(k.key) for k in path)
        value = np.asarray(leaf, np.float16)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2 and not name.endswith("embedding.weight"):
            value = value.transpose(1, 0)
            if not linear_projection and re.search(
                r"attentions\.\d+\.proj_(in|out)\.weight", name
            ):
                value = value[:, :, None, None]
        out[name] = value.copy(order="C")  # keeps scalars scalar
    return out


def diffusers_model(folder: Path, class_name: str, config: Any, params: Params) -> None:
    """config.json and diffusion_pytorch_model.safetensors."""
    raw = {"_class_name": class_name, **dataclasses.asdict(config)}
    write_json(folder / "config.json", raw)
    tensors = torch_layout(
        params, linear_projection=raw.get("use_linear_projection", True)
    )
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")


def clip_model(folder: Path, config: clip.Config, params: Params) -> None:
    """CLIPModel: config.json, model.safetensors, preprocessor_config.json."""
    assert config.text and config.vision
    transformers_model(
        folder,
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": config.text_projection,
            "text_config": dataclasses.asdict(config.text),
            "vision_config": dataclasses.asdict(config.vision),
        },
        params,
    )
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)


def open_clip_model(folder: Path, config: clip.Config, params: Params) -> None:
    """open_clip_config.json and open_clip_model.safetensors."""
    text, vision = config.text, config.vision
    assert text and vision
    model = {
        "embed_dim": config.text_projection,
        "quick_gelu": text.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "patch_size": vision.patch_size,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }
    preprocess = {
        "mean": PREPROCESSOR["image_mean"],
        "std": PREPROCESSOR["image_std"],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    raw = {"model_cfg": model, "preprocess_cfg": preprocess}
    write_json(folder / "open_clip_config.json", raw)
    save_file(_open_clip_names(params), folder / "open_clip_model.safetensors")


# transformers' names -> open_clip's. What stands alone there stands transposed.
_TO_OPEN_CLIP = (
    (r"text_model\.encoder\.layers", "transformer.resblocks"),
    (r"vision_model\.encoder\.layers", "visual.transformer.resblocks"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"layer_norm([12])", r"ln_\1"),
    (r"text_model\.final_layer_norm", "ln_final"),
    (r"vision_model\.pre_layrnorm", "visual.ln_pre"),
    (r"vision_model\.post_layernorm", "visual.ln_post"),
    (r"text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (
        r"vision_model\.embeddings\.position_embedding\.weight",
        "visual.positional_embedding",
    ),
    (r"text_projection\.weight", "text_projection"),
    (r"visual_projection\.weight", "visual.proj"),
)


def _open_clip_names(params: Params) -> dict[str, np.ndarray]:
    out, qkv = {}, {}
    for name, value in torch_layout(params).items():
        if name.endswith("_projection.weight"):
            value = value.transpose(1, 0).copy(order="C")
        for theirs, ours in _TO_OPEN_CLIP:
            name = re.sub(theirs, ours, name)
        if part := re.fullmatch(r"(.*)self_attn\.([qkv])_proj\.(\w+)", name):
            block, letter, leaf = part.groups()
            qkv.setdefault(f"{block}attn.in_proj_{leaf}", {})[letter] = value
        else:
            out[name] = value
    stacked = {k: np.concatenate([v[x] for x in "qkv"]) for k, v in qkv.items()}
    return out | stacked


def clip_text_model(folder: Path, config: clip.TextConfig, params: Params) -> None:
    """CLIPTextModel, as pipelines hold it: the first layers that config asks for."""
    text = dict(params["text_model"])
    layers = text["encoder"]["layers"]
    kept = {i: layers[i] for i in sorted(layers, key=int)[: config.num_hidden_layers]}
    text["encoder"] = {"layers": kept}
    flat = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    transformers_model(folder, flat | dataclasses.asdict(config), {"text_model": text})


def transformers_model(folder: Path, raw: dict[str, Any], params: Params) -> None:
    """config.json and model.safetensors."""
    write_json(folder / "config.json", raw)
    save_file(torch_layout(params), folder / "model.safetensors")


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
