"""Write trained parameters as the published checkpoints are laid out."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from ports.port import Params


def torch_layout(params: Params) -> dict[str, np.ndarray]:
    """Our tree -> torch's names and layout, float16.

    Only embeddings are 2-D and not transposed.
    """
    out = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = ".".join(str(k.key) for k in path)
        value = np.asarray(leaf, np.float16)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif re.search(r"attentions\.\d+\.proj_(in|out)\.weight", name):
            value = value.transpose(1, 0)[:, :, None, None]  # SD 1.x: a 1x1 convolution
        elif value.ndim == 2 and not name.endswith("_embedding.weight"):
            value = value.transpose(1, 0)
        out[name] = value.copy(order="C")  # keeps scalars scalar
    return out


def diffusers_model(folder: Path, class_name: str, config: Any, params: Params) -> None:
    """config.json and diffusion_pytorch_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"_class_name": class_name, **as_json(config)}
    write_json(folder / "config.json", raw)
    save_file(torch_layout(params), folder / "diffusion_pytorch_model.safetensors")


def transformers_model(folder: Path, raw: dict[str, Any], params: Params) -> None:
    """config.json and model.safetensors."""
    write_json(folder / "config.json", raw)
    save_file(torch_layout(params), folder / "model.safetensors")


def as_json(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
