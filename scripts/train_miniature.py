"""Train a member of the miniature zoo, on whatever device JAX finds.

    python scripts/train_miniature.py vae

Killed runs go on from ``--runs``. The result lands in the package, in the published
on-disk layout, half precision, with a model card. Members build on others: every
generator needs the vae and a CLIP's text tower (mini-sd21: mini-openclip-p8's),
mini-lcm needs mini-sd15.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODELS = ROOT / "une_jax" / "miniature" / "models"
# In an order in which they can be trained; each with its module in scripts/miniature.
MEMBERS = {
    "vae": "vae",
    "mini-clip-p8": "clip",
    "mini-clip-p16": "clip",
    "mini-openclip-p8": "clip",
    "mini-openclip-p16": "clip",
    "mini-dinov3": "dino",
    "mini-sd15": "diffusion",
    "mini-sd21": "diffusion",
    "mini-lcm": "lcm",
    "regressor": "regressor",
    "mini-gan": "gan",
    "mini-vae": "resnet_vae",
    "mini-glow": "glow",
    "mini-vq": "vq",
    "mini-ddpm": "ddpm",
}
FOLDERS = {"vae": "mini-sd15/vae"}  # the others have folders of their own names


@dataclass(frozen=True, kw_only=True)
class Args:
    """Train one member of the miniature zoo."""

    member: tyro.conf.Positional[Literal[*MEMBERS]]  # pyright: ignore
    """which model"""
    steps: int | None = None
    """optimiser steps (default: the member's own)"""
    faces: int | None = None
    """how many training faces to render (default: the member's own)"""
    runs: Path = ROOT / "runs"
    """where checkpoints go"""
    out: Path = MODELS
    """where the finished model goes"""
    card: bool = False
    """only write the model card of the member's own settings"""


def main(args: Args) -> None:
    from scripts.miniature import card

    name: str = args.member
    module = import_module(f"scripts.miniature.{MEMBERS[name]}")
    plan = module.plan(name)
    steps, faces = args.steps or plan.steps, plan.faces[: args.faces]
    if not args.card:
        module.run(name, args.runs, args.out, steps=steps, faces=faces)
        plan = plan._replace(steps=steps, faces=faces, history="")
    card.write(args.out / FOLDERS.get(name, name), name, plan)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
