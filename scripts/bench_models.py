"""Our models' speed beside torch's; prints a Markdown table.

    python scripts/bench_models.py

Each side runs in its own process on the same weights and inputs and they take turns:
one run of torch, one of ours, a matrix product of each; medians of ``--runs`` rounds
after two warm-ups. FLOPs are torch's count of the reference model; "of the matrix rate" is
ours against the better of the two libraries' matrix products in the same minutes
(above 100 % is possible: Winograd's convolutions need fewer products than are counted).
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.forward_sides import Job, our_forward, torch_forward  # noqa: E402
from scripts.reference_models import MODELS  # noqa: E402
from scripts.side import Side  # noqa: E402

DEFAULT = ("sd15:1:64", "sd15:4:32", "clip-l14-vision:8:224", "dinov3-l16:8:224", "vae:1:256")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time our models and torch's in turns."""

    models: tuple[str, ...] = DEFAULT
    """NAME:BATCH:SIZE, the size being the edge of the network's input"""
    runs: int = 5
    """rounds after two warm-ups"""
    dtype: str = "float32"
    """of weights and activations on both sides"""
    compiled: bool = False
    """torch.compile the reference"""
    tiny: bool = False
    """tiny models, to try this script"""
    work: Path | None = None
    """where the saved weights go (default: a temporary folder)"""


def main(args: Args) -> None:
    print(
        "| model | batch, size | torch | une-jax | ratio | images/s | FLOP/s "
        "| of the matrix rate (torch) | peak memory (torch) | cold compile (cached) |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    opened = {}
    for spec in args.models:
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            line, opened = row(spec, Path(folder), args)
            print(line, flush=True)
    print("\n" + ", ".join(f"{o['version']} on {o['device']}" for o in opened.values()))


def row(spec: str, folder: Path, args: Args) -> tuple[str, dict[str, dict]]:
    """One model's line of the table, and what the two sides said of themselves."""
    name, batch, size = spec.split(":")
    if name not in MODELS:
        sys.exit(f"no model {name!r}: choose from {', '.join(MODELS)}")
    job = Job(name, folder, not args.tiny, int(batch), int(size), args.dtype, args.compiled)  # fmt: skip
    seconds: dict[str, list[float]] = {"torch": [], "ours": []}
    rates: dict[str, list[float]] = {"torch": [], "ours": []}
    with Side(torch_forward, job) as torch, Side(our_forward, job) as ours:
        sides = {"torch": torch, "ours": ours}
        for side in (torch, ours, torch, ours):
            side.ask("run")
        for _ in range(args.runs):
            for kind, side in sides.items():
                seconds[kind].append(side.ask("run")[0])
                rates[kind].append(side.ask("matrix"))
                time.sleep(0.3)  # the other side's threads go to sleep
        peak = {kind: side.ask("memory") for kind, side in sides.items()}
        opened = {kind: side.opened for kind, side in sides.items()}
    theirs, mine = (statistics.median(seconds[kind]) for kind in sides)
    limit = max(map(statistics.median, rates.values()))
    flops = opened["torch"]["flops"]
    return (
        f"| {MODELS[name].label} | {batch}, {size} | {theirs:.2f} s | {mine:.2f} s "
        f"| {theirs / mine:.2f}x | {int(batch) / mine:.2f} | {flops / mine / 1e9:.0f} G "
        f"| {flops / mine / limit:.0%} ({flops / theirs / limit:.0%} of {limit / 1e9:.0f} G) "
        f"| {peak['ours'] / 1e9:.1f} GB ({peak['torch'] / 1e9:.1f} GB) "
        f"| {opened['ours']['compile_seconds']:.1f} s "
        f"({opened['ours']['cached_seconds']:.1f} s) |"
    ), opened


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
