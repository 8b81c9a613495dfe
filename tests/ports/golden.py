"""The committed goldens: tiny checkpoints with what torch computed from them.

``scripts/make_goldens.py`` writes them. They also serve as the raw material of the
loader's tests: ``tensors`` reads a checkpoint, ``copy`` lays out a changed one.
"""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDENS = Path(__file__).resolve().parent / "goldens"
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"
OPEN_CLIP = "open_clip_model.safetensors"


def folder(case: str) -> str:
    """Where a golden checkpoint lies."""
    return str(GOLDENS / case)


def arrays(case: str) -> dict[str, np.ndarray]:
    """Inputs and outputs of a golden."""
    with np.load(GOLDENS / case / "golden.npz", allow_pickle=False) as file:
        return dict(file)


def tensors(case: str) -> dict[str, np.ndarray]:
    """A golden checkpoint's own tensors, float16."""
    return load_file(GOLDENS / case / file_name(case))


def file_name(case: str) -> str:
    """What the library of its model calls its weights."""
    names = (OPEN_CLIP, TRANSFORMERS, DIFFUSERS)
    return next(name for name in names if (GOLDENS / case / name).is_file())


def copy(case: str, to: Path, weights: dict[str, np.ndarray] | None = None) -> str:
    """The golden's config in ``to``, with its own weights or these."""
    name = file_name(case)
    to.mkdir(parents=True, exist_ok=True)
    for config in (GOLDENS / case).glob("*.json"):
        shutil.copy(config, to)
    save_file(tensors(case) if weights is None else weights, to / name)
    return str(to)
