"""Train a member of the miniature zoo, on whatever device JAX finds.

    python scripts/train_miniature.py vae            # then: clip, sd15

Killed runs go on from ``--runs``. The result lands in the package, in the published
on-disk layout, half precision.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODELS = ROOT / "une_jax" / "miniature" / "models"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Train one member of the miniature zoo."""

    member: tyro.conf.Positional[Literal[MEMBERS]]  # pyright: ignore
    """which model"""
    steps: int | None = None
    """optimiser steps (default: the member's own)"""
    faces: int | None = None
    """how many training faces to render (default: the member's own)"""
    runs: Path = ROOT / "runs"
    """where checkpoints go"""
    out: Path = MODELS
    """where the finished model goes"""
