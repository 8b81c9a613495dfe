"""DDIM inversion and sampling: ours beside diffusers' loop; prints Markdown tables.

    python scripts/bench_inversion.py                       # CPU, SD 1.5's size
    python scripts/bench_inversion.py --dtype bfloat16 --vae-dtype bfloat16 \\
        --steps 50 --batch 1 4 16 --compile-mode max-autotune        # GPU

Three sides, each alone in its own process, on the same weights, inputs and machine:
diffusers' DDIMInverseScheduler and DDIMScheduler around its UNet, eager and through
torch.compile, and the programs that ``une-jax build`` runs. They take turns: one
inversion, one sampling and one matrix product each; medians of ``--rounds`` after a
warm-up. Every step costs the same, so times are given for one step and for an image of
50, whatever ``--steps`` ran. FLOPs are torch's count of the reference; "of the matrix
rate" is against the best of all sides' matrix products in the same minutes.

Both sides' noise is compared in float32, and half precision with float32. Weights are
random unless ``--pipeline`` gives some: enough for speed, not for judging quality.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.inversion_sides import Job, our_inversion, prepare, torch_inversion  # noqa: E402, I001
from scripts.side import Side  # noqa: E402

TORCH, COMPILED, OURS = "torch", "torch.compile", "une-jax"
IMAGE_STEPS = 50  # what a published image takes
LABELS = {"sd15": "SD 1.5", "sd21": "SD 2.1"}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time inversion by both libraries in turns."""

    model: Literal["sd15", "sd21"] = "sd15"
    """whose shapes the random weights have"""
    pipeline: Path | None = None
    """a diffusers pipeline's folder, instead of random weights"""
    steps: int = 4
    """DDIM steps in each run"""
    batch: tuple[int, ...] = (1,)
    """images at a time; a group of rows for each"""
    size: int | None = None
    """edge of the latents (default: 64; 8 for tiny models)"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """of the UNets' weights and activations"""
    vae_dtype: Literal["none", "float32", "bfloat16"] = "none"
    """of the VAEs; none leaves the encoding of the images out"""
    compile_mode: Literal["none", "default", "frozen", "reduce-overhead", "max-autotune"] = "default"  # fmt: skip
    """torch.compile's; frozen packs the weights; none leaves that side out"""
    rounds: int = 5
    """turns of each side after the warm-up"""
    tiny: bool = False
    """tiny models, to try this script"""
    work: Path | None = None
    """where weights and compiled programs go (default: a temporary folder)"""


class Measured(NamedTuple):
    """What the sides of one batch size gave; the dicts are by side."""

    seconds: dict[tuple[str, str], float]  # (side, stage) -> median
    rate: float  # FLOP/s, the best side's median matrix product
    memory: dict[str, int]  # peak bytes
    compile: dict[str, str]
    latents: dict[tuple[str, str], np.ndarray]  # (side, stage) -> the last result
    opened: dict[str, dict[str, Any]]


def main(args: Args) -> None:
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        job = Job(
            name=args.model,
            full=not args.tiny,
            pipeline=args.pipeline or Path(folder) / "pipeline",
            work=Path(folder),
            batch=args.batch[0],
            size=args.size or (8 if args.tiny else 64),
            steps=args.steps,
            dtype=args.dtype,
            vae_dtype="" if args.vae_dtype == "none" else args.vae_dtype,
        )
        run(job, args)


def run(job: Job, args: Args) -> None:
    """All batch sizes' rows, then what was compared."""
    print(
        f"| {_label(job, args)} | batch | {TORCH} | {COMPILED} | {OURS} | ratio to {TORCH} "
        f"| to {COMPILED} | images/s | FLOP/s | of the matrix rate ({TORCH}, {COMPILED}) "
        f"| peak memory ({TORCH}, {COMPILED}) | cold compile (cached; {COMPILED}) |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    opened, compared = {}, []
    for batch in args.batch:
        sized = job._replace(batch=batch)
        with Side(prepare, sized) as side:
            flops = side.opened
        measured = measure(sized, args.compile_mode, args.rounds)
        print("\n".join(rows(measured, sized, flops)), flush=True)
        opened |= measured.opened
        if not compared:  # the first batch size will do
            compared = quality(measured, sized)
    print(
        f"\nSeconds for one image of {IMAGE_STEPS} steps, in brackets for one step of "
        f"it; {job.steps} steps were run, {args.rounds} times. {job.dtype}"
        f"{', VAE ' + job.vae_dtype if job.vae_dtype else ''}."
    )
    print("\n".join(["", *compared]))
    print("\n" + ", ".join(f"{o['version']} on {o['device']}" for o in opened.values()))


def measure(job: Job, compile_mode: str, rounds: int) -> Measured:
    """Opens the sides, warms them up and lets them take turns."""
    jobs = {TORCH: (torch_inversion, job)}
    if compile_mode != "none":
        jobs[COMPILED] = (torch_inversion, job._replace(compile_mode=compile_mode))
    jobs[OURS] = (our_inversion, job)
    stages = (*(("encode",) if job.vae_dtype else ()), "invert", "sample")
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    first, latents = {}, {}
    with contextlib.ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(target, its))
            for name, (target, its) in jobs.items()
        }
        for name, side in sides.items():
            for stage in stages:
                first[name, stage] = side.ask(stage)[0]
        for _ in range(rounds):
            for name, side in sides.items():
                for stage in stages:
                    taken, latents[name, stage] = side.ask(stage)
                    seconds[name, stage].append(taken)
                rates[name].append(side.ask("matrix"))
                time.sleep(0.3)  # this side's threads go to sleep
        memory = {name: side.ask("memory") for name, side in sides.items()}
        opened = {name: side.opened for name, side in sides.items()}
    medians = {key: statistics.median(taken) for key, taken in seconds.items()}
    mine = opened[OURS]
    compile = {
        OURS: f"{mine['compile_seconds']:.1f} s ({mine['cached_seconds']:.1f} s)"
    }
    if COMPILED in jobs:
        cold = first[COMPILED, "invert"] - medians[COMPILED, "invert"]
        compile[COMPILED] = f"{cold:.0f} s"
    return Measured(
        seconds=medians,
        rate=max(map(statistics.median, rates.values())),
        memory=memory,
        compile=compile,
        latents=latents,
        opened=opened,
    )


def rows(measured: Measured, job: Job, flops: dict[str, Any]) -> list[str]:
    """One line for each stage, and for encoding and inversion together."""
    image = {
        key: taken * (1 if key[1] == "encode" else IMAGE_STEPS / job.steps) / job.batch
        for key, taken in measured.seconds.items()
    }
    work = {
        "encode": flops["encode_flops"],
        "invert": IMAGE_STEPS * flops["step_flops"],
        "sample": IMAGE_STEPS * flops["step_flops"],
    }
    stages = {"invert": "inversion", "sample": "sampling"}
    if job.vae_dtype:
        for name in measured.memory:
            image[name, "both"] = image[name, "encode"] + image[name, "invert"]
        work["both"] = work["encode"] + work["invert"]
        stages = {"encode": "VAE encoding", **stages, "both": "image to noise"}
    return [
        _row(label, stage, image, work[stage], measured, job)
        for stage, label in stages.items()
    ]


def _row(
    label: str,
    stage: str,
    image: dict[tuple[str, str], float],
    work: float,
    measured: Measured,
    job: Job,
) -> str:
    mine = image[OURS, stage]
    there = [name for name in (TORCH, COMPILED) if (name, stage) in image]

    def cell(name: str) -> str:
        if (name, stage) not in image:
            return "-"
        step = f" ({image[name, stage] / IMAGE_STEPS:.3g} s)"
        return f"{image[name, stage]:.3g} s{step if stage in ('invert', 'sample') else ''}"  # fmt: skip

    def ratio(name: str) -> str:
        return f"**{image[name, stage] / mine:.2f}x**" if name in there else "-"

    def share(name: str) -> str:
        return f"{work / image[name, stage] / measured.rate:.0%}"

    def memory(name: str) -> str:
        return f"{measured.memory[name] / 1e9:.1f} GB"

    compiled = measured.compile
    return (
        f"| {label} | {job.batch} | {cell(TORCH)} | {cell(COMPILED)} | {cell(OURS)} "
        f"| {ratio(TORCH)} | {ratio(COMPILED)} | {1 / mine:.3g} "
        f"| {work / mine / 1e12:.3g} T "
        f"| {share(OURS)} ({', '.join(map(share, there))}) of {measured.rate / 1e12:.3g} T "
        f"| {memory(OURS)} ({', '.join(map(memory, there))}) "
        f"| {'; '.join(compiled[name] for name in (OURS, COMPILED) if name in compiled)} |"
    )


def quality(measured: Measured, job: Job) -> list[str]:
    """How far the sides' noise is apart in float32, and what half precision costs."""
    x0 = np.load(job.inputs)["x0"]
    found = {(name, job.dtype): measured.latents for name in measured.memory}
    if job.dtype != "float32":
        exact = job._replace(dtype="float32", vae_dtype="")
        for name, target in ((TORCH, torch_inversion), (OURS, our_inversion)):
            with Side(target, exact) as side:
                latents = {(name, s): side.ask(s)[1] for s in ("invert", "sample")}
            found[name, "float32"] = latents
    theirs, ours = (found[name, "float32"][name, "invert"] for name in (TORCH, OURS))
    largest, whole = distance(ours, theirs)
    lines = [
        f"In float32 the x_T of {OURS} and {TORCH} differ by at most {largest:.1e} of the "
        f"largest value, {whole:.1e} in norm.",
        "",
        f"| | x_T's distance from {TORCH}'s in float32 | round trip's MSE / variance |",
        "|---|---:|---:|",
    ]
    for (name, dtype), latents in sorted(found.items()):
        _, off = distance(latents[name, "invert"], theirs)
        again = np.mean(np.square(latents[name, "sample"] - x0)) / np.var(x0)
        lines.append(f"| {name}, {dtype} | {off:.1e} | {again:.1e} |")
    return lines


def distance(got: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """max |a - b| / max |b|, and |a - b| / |b|."""
    off, expected = (x.astype(np.float64) for x in (got - expected, expected))
    norms = np.linalg.norm(off), np.linalg.norm(expected)
    return float(np.abs(off).max() / np.abs(expected).max()), float(norms[0] / norms[1])


def _label(job: Job, args: Args) -> str:
    model = args.pipeline.name if args.pipeline else LABELS[job.name]
    return f"{model}, {job.size}x{job.size} latents"


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
