"""Figures of the roads: a grid of faces, a heatmap for each measure, edits carried."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from une_jax.report import figures
from une_jax.report.figures import Drawing
from une_jax.report.roads.pictures import resized
from une_jax.report.roads.places import BASELINES, ITSELF
from une_jax.report.tables import Row

OWN = (213, 94, 0)  # the frame of an image from its own encoder
# What is drawn as a heatmap, what its numbers mean, and where colours begin and end
# (None: at the least or the largest).
MEASURES: dict[str, tuple[str, float | None, float | None]] = {
    "latent R²": ("R² of the target's latents", 0.0, 1.0),
    "match": ("part of the target's probes' answers that stay", 0.5, 1.0),
    "kappa": ("Cohen's kappa of these answers", 0.0, 1.0),
    "accuracy change, %": ("change of the probes' accuracy, %", None, None),
    "rank": ("rank of the map: 90 % of its singular values' sum", 0.0, None),
    "rmse": ("RMSE of pixels from 0 to 1", 0.0, None),
    "ssim": ("SSIM", 0.0, 1.0),
    "psnr": ("PSNR, dB", 0.0, None),
    "factor R²": ("attributes read off the image, squared correlation", 0.0, 1.0),
}


def heatmap(rows: Sequence[Row], measure: str) -> Drawing | None:
    """A measure of every pair, encoders down and decoders across; None: nowhere known."""
    label, low, high = MEASURES.get(measure, (measure, None, None))
    sources, targets = _names(rows, "source"), _names(rows, "target")
    values = np.full((len(sources), len(targets)), np.nan)
    for row in rows:
        value = row.get(measure)
        at = sources.index(str(row["source"])), targets.index(str(row["target"]))
        if value is not None and np.isnan(values[at]):  # the first place's baselines
            values[at] = float(value)
    if not np.isfinite(values).any():
        return None
    low = float(np.nanmin(values)) if low is None else low
    high = float(np.nanmax(values)) if high is None else high
    return figures.heatmap(
        values, sources, targets, label=label, low=low, high=max(high, low + 1e-6)
    )


def factors(table: Sequence[Row], names: Sequence[str]) -> Drawing:
    """Which attribute survives which road: roads down, attributes across."""
    roads = list(dict.fromkeys((str(r["source"]), str(r["target"])) for r in table))
    values = np.full((len(roads), len(names)), np.nan)
    for row in table:
        road = str(row["source"]), str(row["target"])
        values[roads.index(road), names.index(str(row["attribute"]))] = float(row["R²"] or 0)  # fmt: skip
    labels = [f"{a} → {b}" for a, b in roads]
    columns = [name.replace("_", " ") for name in names]
    label = "squared correlation with its score"
    return figures.heatmap(values, labels, columns, label=label, low=0.0, high=1.0)


def grid(
    made: Mapping[tuple[str, str], UInt8[np.ndarray, "h w 3"]],
    original: UInt8[np.ndarray, "h w 3"],
    *,
    tile: int = 96,
) -> bytes:
    """One face by every encoder (down) and decoder (across), as PNG.

    Its own encoder's image has a frame. Where the two have no images in common there is
    nothing. The first column is the original.
    """
    targets = list(dict.fromkeys(target for _, target in made))
    others = dict.fromkeys(source for source, _ in made)
    sources = [t for t in targets if t in others]
    sources += [s for s in others if s not in (*targets, *BASELINES)]
    sources += [s for s in BASELINES if s in others]
    page = np.full((len(sources), len(targets) + 1, tile, tile, 3), 255, np.uint8)
    for i, source in enumerate(sources):
        page[i, 0] = _tile(original, tile)
        for j, target in enumerate(targets):
            own = made.get((ITSELF, target)) if source == target else None
            image = made.get((source, target)) if own is None else own
            if image is not None:
                tiled = _tile(image, tile)
                page[i, j + 1] = tiled if own is None else framed(tiled)
    return figures.sheet(page, rows=sources, columns=["original", *targets], tile=tile)


def strips(
    images: Mapping[str, UInt8[np.ndarray, "k h w 3"]], *, tile: int = 96
) -> bytes:
    """Rows of the same faces, labelled, as PNG."""
    page = np.stack(
        [np.stack([_tile(x, tile) for x in row]) for row in images.values()]
    )
    return figures.sheet(page, rows=list(images), tile=tile)


def framed(image: UInt8[np.ndarray, "h w 3"], width: int = 3) -> np.ndarray:
    """With a coloured edge."""
    out = image.copy()
    for part in (out[:width], out[-width:], out[:, :width], out[:, -width:]):
        part[:] = OWN
    return out


def _tile(image: np.ndarray, edge: int) -> np.ndarray:
    """As large as a tile; small images by whole pixels, as far as that goes."""
    times = max(1, edge // len(image))
    grown = image.repeat(times, axis=0).repeat(times, axis=1)
    return resized(grown[None], edge)[0]


def _names(rows: Sequence[Row], column: str) -> list[str]:
    names = list(dict.fromkeys(str(row[column]) for row in rows))
    return [n for n in names if n not in BASELINES] + [n for n in BASELINES if n in names]  # fmt: skip
