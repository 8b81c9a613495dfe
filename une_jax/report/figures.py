"""Figures: charts with matplotlib, sheets of images with Pillow."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (40, 40, 48), (255, 255, 255)


def heatmap(
    values: Float[np.ndarray, "r c"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    low: float,
    high: float,
) -> bytes:
    """Numbers as a coloured grid with the values written in it, as PNG bytes.

    Colours run from ``low`` to ``high``; unknown values (NaN) are left blank.
    """
    size = (2.4 + 0.62 * len(columns), 1.5 + 0.25 * len(rows))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    shown = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (value - low) / (high - low) < 0.6
            ink = "white" if dark else "black"
            axes.text(j, i, f"{value:.2f}", color=ink, size=8, ha="center", va="center")
    axes.set_yticks(np.arange(len(rows)), [name.replace("_", " ") for name in rows])
    axes.set_xticks(np.arange(len(columns)), columns, rotation=35, ha="right")
    axes.tick_params(length=0)
    figure.colorbar(shown, ax=axes, label=label, pad=0.02, aspect=40)
    return as_png(figure)


def as_png(figure: plt.Figure) -> bytes:
    """The figure as a PNG file, closed."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def sheet(
    images: UInt8[np.ndarray, "r c h w 3"],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    tile: int = 112,
) -> bytes:
    """A labelled grid of images, each about ``tile`` pixels wide, as PNG bytes."""
    r, c, h, w, _ = images.shape
    if w < tile:  # grow by whole pixels: nothing is smoothed into small images
        tile = w * round(tile / w)
    font = ImageFont.load_default(size=13)
    left = 10 + max((int(font.getlength(t)) for t in rows), default=-10)
    top = 22 if columns else 0
    tall, gap = round(tile * h / w), 2
    size = (left + c * (tile + gap), top + r * (tall + gap))
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    smooth = Image.Resampling.LANCZOS if w > tile else Image.Resampling.NEAREST
    for i in range(r):
        for j in range(c):
            picture = Image.fromarray(images[i, j]).resize((tile, tall), smooth)
            page.paste(picture, (left + j * (tile + gap), top + i * (tall + gap)))
    for i, label in enumerate(rows):
        y = top + i * (tall + gap) + tall // 2
        draw.text((left - 8, y), label, INK, font, anchor="rm")
    for j, label in enumerate(columns):
        x = left + j * (tile + gap) + tile // 2
        draw.text((x, top - 6), label, INK, font, anchor="ms")
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()
