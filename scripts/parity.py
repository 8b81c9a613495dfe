"""How far our models are from torch's, at full size; prints a Markdown table.

    python scripts/parity.py --full

For each model: torch builds it with random weights and saves it as published files
look; a fresh process loads that folder here. Both run the same inputs in float32 on
CPU, then ours runs in bfloat16. One at a time: 24 GB of memory are enough. Without
``--full`` the models are tiny, which takes seconds each.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.forward_sides import Job, our_forward, torch_forward  # noqa: E402
from scripts.reference_models import MODELS  # noqa: E402
from scripts.side import Side  # noqa: E402

DEFAULT = ("sd15", "sd21", "lcm", "vae", "clip-l14", "openclip-l14", "dinov3-l16")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Compare our models with torch's."""

    full: bool = False
    """the published sizes (needs 24 GB of memory and 8 GB of disk)"""
    models: tuple[str, ...] = DEFAULT
    """which of them"""
    size: int | None = None
    """edge of the network's input (default: the model's own; 64 for tiny models)"""
    batch: int = 1
    """how many inputs"""
    work: Path | None = None
    """where the saved models go (default: a temporary folder)"""


def main(args: Args) -> None:
    for name in args.models:
        if name not in MODELS:
            sys.exit(f"no model {name!r}: choose from {', '.join(MODELS)}")
    print(
        "| model | parameters file | float32: max / norm | bfloat16: max / norm "
        "| load | memory to load, of the file | peak, float32 | cold compile |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    for name in args.models:
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            print(row(name, Path(folder), args), flush=True)


def row(name: str, folder: Path, args: Args) -> str:
    """One model's line of the table."""
    size = args.size or (MODELS[name].size if args.full else _tiny_size(name))
    job = Job(name, folder, args.full, args.batch, size)
    with Side(torch_forward, job) as side:
        _, expected = side.ask("run")
    with Side(our_forward, job) as side:
        opened = side.opened
        _, got = side.ask("run")
        peak = side.ask("memory")
    with Side(our_forward, job._replace(dtype="bfloat16")) as side:
        _, half = side.ask("run")
    file = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    return (
        f"| {MODELS[name].label} | {file / 1e9:.2f} GB | {distance(got, expected)} "
        f"| {distance(half, expected)} | {opened['load_seconds']:.1f} s "
        f"| {opened['load_bytes'] / file:.2f}x | {peak / 1e9:.1f} GB "
        f"| {opened['compile_seconds']:.0f} s |"
    )


def distance(got: list[np.ndarray], expected: list[np.ndarray]) -> str:
    """The worst output's max |a - b| / max |b|, and its |a - b| / |b|."""
    pairs = [
        (np.abs(a - b).max() / np.abs(b).max(), norm(a - b) / norm(b))
        for a, b in zip(got, expected, strict=True)
    ]
    worst, whole = max(pairs)
    return f"{worst:.1e} / {whole:.1e}"


def norm(x: np.ndarray) -> Any:
    return np.linalg.norm(x.astype(np.float64))


def _tiny_size(name: str) -> int:
    return {"unet": 8, "vae": 32}.get(MODELS[name].port, 224)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
