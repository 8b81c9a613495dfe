"""All roads between five families of generators, on miniature faces whose truth is known.

    python scripts/reproduce_all_roads.py --out roads

Paints faces, encodes them with a VAE, a VQVAE, a flow, a pixel diffusion model, Stable
Diffusion and encoders, lets the GAN paint its own, maps every view into every other,
decodes and measures (``une-jax stitch``); with ``--snapshots``, also probes the flow's
latent and stitches it along its training. What is there is not computed again.
``results.md`` has the tables, and what the paper (Badrinath et al., "All Roads Lead to
Rome?") says beside what these faces say.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from une_jax import miniature, zoo
from une_jax.cli.build import Build
from une_jax.cli.devices import configure_jax
from une_jax.cli.faces import Faces
from une_jax.cli.stitch import Stitch
from une_jax.cli.synthesize import Synthesize
from une_jax.report import charts, probing, tables
from une_jax.report.sections.roads import BRIEF
from une_jax.report.tables import Row
from une_jax.zoo.atomic import write_bytes_atomically

FAMILIES = ("mini-vae", "mini-vq", "mini-glow", "mini-ddpm")
PIPELINES, ENCODERS = ("mini-sd15",), ("mini-clip-p8", "mini-dinov3")
GAN, FLOW, ANCHOR = "mini-gan", "mini-glow", "mini-vae"
SEED = 11  # of the faces, and of the GAN's first image


@dataclass(frozen=True, kw_only=True)
class Args:
    """Reproduce the stitching study on the miniature."""

    out: Path
    """folder for faces, zoos, the page and results.md"""
    models: Path = miniature.MODELS
    """folder of the families' members, as scripts/train_miniature.py writes them
    (default: the package's)"""
    faces: int = 3000
    """how many faces, and how many images of the GAN's"""
    steps: int = 50
    """DDIM steps of both diffusion models"""
    pictures: int = 100
    """test images decoded on every road"""
    snapshots: Path | None = None
    """folder of the flow's checkpoints, each in a folder named by the images it has seen"""
    without: tuple[str, ...] = ()
    """members to leave out"""


def main(args: Args) -> None:
    configure_jax()
    args.out.mkdir(parents=True, exist_ok=True)
    faces = args.out / "faces"
    _say(f"faces: {args.faces}")
    Faces(out=faces, n=args.faces, seed=SEED).run()
    families = [name for name in FAMILIES if name not in args.without]
    specs = [*(_spec(args, name) for name in families), *PIPELINES]
    _say(f"images: {', '.join(specs)}")
    Build(
        images=faces,
        generator=tuple(specs),
        encoder=ENCODERS,
        steps=args.steps,
        round_trip="none",
        controls=True,
        out=args.out / "zoo",
    ).run()
    synthetic = {} if GAN in args.without else _synthetic(args, families)
    views = [*families, *PIPELINES, f"{PIPELINES[0]}.x0", *ENCODERS]
    views += [f"{FLOW}.eps"] if FLOW in families else []
    views += [GAN] if synthetic else []
    _say("roads")
    result = Stitch(
        zoo=args.out / "zoo",
        images=faces,
        truth=faces / "truth.safetensors",
        source=tuple(views),
        generator=tuple(_located(args, views)),
        pictures=args.pictures,
        out=args.out / "roads",
        **synthetic,
    ).run()
    blocks = [_results(result)]
    if args.snapshots is not None:
        blocks.append(_along(args, faces))
    page = args.out / "results.md"
    write_bytes_atomically(page, "\n\n".join(blocks).encode())
    print(page)


def _synthetic(args: Args, families: Sequence[str]) -> dict[str, Any]:
    """The GAN's images and their zoo, as ``Stitch`` takes them."""
    painted, out = args.out / "painted", args.out / "synthetic"
    spec = _spec(args, GAN)
    _say(f"synthetic images: {spec}")
    source = spec.partition("=")[2] or spec
    Synthesize(generator=source, out=painted, n=args.faces, seed=SEED).run()
    Build(
        images=painted,
        generator=(*(_spec(args, name) for name in families), spec),
        encoder=ENCODERS,
        steps=args.steps,
        seed=SEED,
        out=out,
    ).run()
    return {"synthetic": out, "synthetic_images": painted}


def _spec(args: Args, name: str) -> str:
    return f"{name}={args.models / name}"


def _located(args: Args, views: Sequence[str]) -> list[str]:
    own = (*FAMILIES, GAN)
    bases = {view: view.removesuffix(".eps") for view in views}
    return [f"{v}={args.models / base}" for v, base in bases.items() if base in own]


def _along(args: Args, faces: Path) -> str:
    """The flow's latent at each of its checkpoints: what probes read in it, and how
    well it stitches to and from another model."""
    assert args.snapshots is not None
    seen = sorted(int(p.name) for p in args.snapshots.iterdir() if p.name.isdigit())
    if not seen:
        raise SystemExit(f"{args.snapshots} holds no folders named by images seen")
    at = {f"flow_{n}": args.snapshots / str(n) for n in seen}
    specs = tuple(f"{name}={path}" for name, path in at.items())
    out = args.out / "along"
    _say(f"along the flow's training: {', '.join(map(str, seen))} images seen")
    anchor = _spec(args, ANCHOR)
    Build(images=faces, generator=(*specs, anchor), out=out / "zoo").run()
    opened = zoo.open(out / "zoo")
    pairs: dict[tuple[str, str], Row] = {}
    for sources, targets in (((*at,), (ANCHOR,)), ((ANCHOR,), (*at,))):
        found = Stitch(
            zoo=out / "zoo",
            source=sources,
            target=targets,
            generator=(*specs, *_located(args, [ANCHOR])),
            pictures=0,
            out=out / "roads",
        ).run()
        pairs |= {(r["source"], r["target"]): r for r in found["pairs"]}
    rows: list[Row] = []
    for name, n in zip(at, seen, strict=True):
        auc = np.asarray(probing.probe_view(opened, name).metrics.auc)
        rows.append(
            {
                "images seen": n,
                "probe AUC": float(np.nanmean(auc)),
                f"R² to {ANCHOR}": pairs[name, ANCHOR]["latent R²"],
                f"κ to {ANCHOR}": pairs[name, ANCHOR]["kappa"],
                f"R² from {ANCHOR}": pairs[ANCHOR, name]["latent R²"],
                f"κ from {ANCHOR}": pairs[ANCHOR, name]["kappa"],
            }
        )
    tables.write_csv(args.out / "along.csv", rows)
    series = {k: np.array([float(r[k] or 0) for r in rows]) for k in list(rows[0])[1:]}
    drawing = charts.lines(
        np.array(seen),
        series,
        x_label="images that the flow has been trained on",
        y_label="of held-out faces",
        log_x=True,
    )
    write_bytes_atomically(args.out / "along.png", drawing.png)
    write_bytes_atomically(args.out / "along.svg", drawing.svg)
    return "## Along the flow's training\n\n" + tables.markdown(rows)


def _results(result: dict[str, Any]) -> str:
    pairs = result["pairs"]
    shown = [{BRIEF[k]: row.get(k) for k in BRIEF} for row in pairs]
    parts = [
        "# All roads",
        "## Every pair",
        tables.markdown(shown),
        "## What the paper says",
        tables.markdown(result["claims"]),
    ]
    if result["edits"]:
        parts += ["## Edits taken along", tables.markdown(result["edits"])]
    return "\n\n".join(parts)


def _say(what: str) -> None:
    print(f"all roads: {re.sub(r'=[^ ,]*', '', what)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
