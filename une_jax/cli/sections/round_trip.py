"""Held-out images, and the same decoded from their noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from une_jax import images
from une_jax.cli.sections.decoding import SHOWN, Decoding, psnr
from une_jax.report import figures
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.tables import Row

MEASURED = 32
WALKS = {
    "ddim": "DDIM",
    "fixed-point": "refined DDIM",
    "exact": "BDIA",
    "dpm-encoder": "stochastic",
}


def write(
    decoding: Decoding, folder: Path | None, tell: Callable[[float], None]
) -> Chapter:
    """A sheet for each generator; with the images' folder, PSNR beside the VAE's."""
    chapter = Chapter(key="round-trip", title="There and back")
    zoo, rows = decoding.zoo, decoding.test[:MEASURED]
    pictures = [images.decode(folder / zoo.keys[i]) for i in rows] if folder else []
    chapter.say(
        "An image becomes noise by inversion, and the noise an image by sampling. What "
        "is lost on the way bounds what edits can keep."
        + (
            " PSNR in decibels, higher is closer; the VAE alone, which both directions "
            "pass through, is the bound."
            if folder
            else " (Originals are shown where `--images` says where they are.)"
        )
    )
    table: list[Row] = []
    for i, g in enumerate(decoding.generators):
        origin, prompts = decoding.origin(g, rows), decoding.prompts(g, rows)
        again = g.decode(origin[g.name], prompts=prompts, origin=origin)
        strips, labels = [again[:SHOWN]], ["from noise"]
        how = f"{g.settings.steps} {WALKS[g.settings.method]} steps"
        if pictures:
            pixels = np.stack([g.prepare(picture) for picture in pictures])
            coded = g.autoencode(pixels)
            strips = [pixels[:SHOWN], coded[:SHOWN], again[:SHOWN]]
            labels = ["image", "through the VAE", "from its noise"]
            row: Row = {"generator": g.name, "way": how, "images": len(rows)}
            row |= {"VAE": psnr(pixels, coded), "round trip": psnr(pixels, again)}
            table.append(row)
            for name, key in (("VAE", "vae"), ("round trip", "round_trip")):
                chapter.numbers[f"{g.name} {key}_psnr_db"] = float(row[name] or 0)
        chapter.sheet(
            f"round_trip_{g.name}",
            figures.sheet(np.stack(strips), rows=labels),
            f"{g.name}, {how}: held-out images"
            + (", through its VAE, and decoded from their noise." if pictures else " decoded from their noise."),
            f"{len(strips)} rows of {len(strips[0])} images: {', '.join(labels)} ({g.name}).",
        )  # fmt: skip
        tell((i + 1) / len(decoding.generators))
    if table:
        caption = "Mean PSNR in dB over held-out images."
        chapter.table("round_trip", table, caption, digits=1)
        chapter.find(finding(table))
    return chapter


def finding(rows: list[Row]) -> Finding:
    """The worst generator's round trip, beside its VAE's."""
    worst = max(rows, key=lambda r: float(r["VAE"] or 0) - float(r["round trip"] or 0))
    vae, both = float(worst["VAE"] or 0), float(worst["round trip"] or 0)
    loss = vae - both
    if loss < 0.5:
        said = "Yes: inversion loses next to nothing beside the VAE."
    elif loss < 3:
        said = f"Nearly: inversion costs {loss:.1f} dB beside the VAE."
    else:
        said = f"Not quite: inversion costs {loss:.1f} dB; more steps, or `--method exact`, lose less."
    return Finding(
        question="Does noise give its image back?",
        value=both,
        shown=f"{both:.1f} dB",
        of=f"PSNR of {worst['generator']}, {worst['way']}"
        + (", which loses most" if len(rows) > 1 else ""),
        beside=vae,
        beside_shown=f"{vae:.1f} dB",
        beside_of="through the VAE alone",
        verdict=said.replace("`", ""),
    )
