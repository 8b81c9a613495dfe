"""The settings of scripts/train_asyrp.py."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from une_jax import asyrp, directional
from une_jax.errors import UneError

# What the run's folder is named after: with another of these, f_t would be another.
RESULT = ("zoo", "view", "generator", "steps", "images", "judge", "source", "target", "kind", "t_edit", "form", "clip", "recon", "iterations", "batch", "rate", "seed")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Args:
    """Train Asyrp's implicit function on a text's direction."""

    source: tuple[str, ...]
    """what the images show"""
    target: tuple[str, ...]
    """what the edited ones shall show"""
    out: Path
    """the file to write, e.g. smile.safetensors; the picture is smile.png"""
    zoo: Path | None = None
    """a NoiseZoo whose images to learn from, in its own number of steps"""
    view: str | None = None
    """which generator view of the zoo"""
    generator: str | None = None
    """PATH_OR_ID of the generator (default: the zoo's; mini-sd15 for faces)"""
    steps: int = 10
    """of DDIM, for painted faces"""
    images: int = 32
    """to learn from"""
    held_out: int = 6
    """further images, for the picture and S_dir"""
    judge: str = "mini-clip-p8"
    """PATH_OR_ID of a CLIP"""
    kind: asyrp.Kind = "ddpm"
    """of f_t"""
    t_edit: int = 400
    """h is moved at timesteps from here up"""
    form: directional.Form = "paper"
    """of the loss: the paper's, or its code's, which compares with the unpredicted image"""
    clip: float = 1.0
    """weight of the directional loss"""
    recon: float = 3.0
    """weight of the difference in pixels, from 0 to 1"""
    iterations: int = 40
    """walks of a batch; each has one update at each editing step"""
    batch: int = 8
    """images in a walk"""
    rate: float = 1e-3
    """of Adam, falling to nothing along a cosine"""
    seed: int = 0
    """of f_t's first weights and of the batches"""
    learnt: Path | None = None
    """a file of this script's: nothing is trained, and only the picture written"""
    strength: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.0, 1.5)
    """of the edits in the picture"""
    runs: Path = Path("runs", "asyrp")
    """where checkpoints go"""

    def __post_init__(self):
        if len(self.source) != len(self.target):
            raise UneError("give as many --target as --source")
        if not 1 <= self.batch <= self.images:
            raise UneError(f"--batch {self.batch} of {self.images} images; use 1 to {self.images}")  # fmt: skip

    def folder(self, hashes: Mapping[str, str | None]) -> Path:
        """Of the checkpoints: another one for other settings, or for other ``hashes`` of
        what the settings name."""
        told = json.dumps({k: str(getattr(self, k)) for k in RESULT} | dict(hashes))
        return self.runs / hashlib.sha256(told.encode()).hexdigest()[:12]
