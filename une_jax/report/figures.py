"""Figures: charts with matplotlib, sheets of images with Pillow.

A chart is drawn twice, as PNG for a slide and as SVG for a page or a paper. Its ink has
one colour, so that a page can change it where the reader prefers dark.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (40, 40, 48), (255, 255, 255)
CHART_INK = "#28282f"  # of a chart's lines and letters, and of nothing else
matplotlib.rc("text", color=CHART_INK)
matplotlib.rc("axes", labelcolor=CHART_INK, edgecolor=CHART_INK)
matplotlib.rc("xtick", color=CHART_INK)
matplotlib.rc("ytick", color=CHART_INK)
matplotlib.rc("font", family="DejaVu Sans")
# Letters stay letters: to search, to edit, and small. The same numbers, the same file.
matplotlib.rc("svg", fonttype="none", hashsalt="une-jax")


class Drawing(NamedTuple):
    """A chart as the bytes of a PNG file, and of an SVG file without a background."""

    png: bytes
    svg: bytes


def heatmap(
    values: Float[np.ndarray, "r c"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    low: float,
    high: float,
) -> Drawing:
    """Numbers as a coloured grid with the values written in it.

    Colours run from ``low`` to ``high``; unknown values (NaN) are left blank.
    """
    size = (2.4 + 0.62 * len(columns), 1.5 + 0.25 * len(rows))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    shown = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (value - low) / (high - low) < 0.6
            ink = "#ffffff" if dark else "#101014"
            axes.text(j, i, f"{value:.2f}", color=ink, size=8, ha="center", va="center")
    axes.set_yticks(np.arange(len(rows)), [name.replace("_", " ") for name in rows])
    axes.set_xticks(np.arange(len(columns)), columns, rotation=35, ha="right")
    axes.tick_params(length=0)
    figure.colorbar(shown, ax=axes, label=label, pad=0.02, aspect=40)
    return drawn(figure)


def drawn(figure: plt.Figure) -> Drawing:
    """The figure as files, closed.

    >>> drawn(plt.figure(figsize=(1, 1))).svg[:5]
    b'<?xml'
    """
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, dpi=130, metadata={"Software": None})
    bare = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", transparent=True, metadata=bare)
    plt.close(figure)
    # Verdana has the same widths, where DejaVu is not installed.
    fonts = b"font-family: 'DejaVu Sans', Verdana, sans-serif"
    named = svg.getvalue().replace(b"font-family: 'DejaVu Sans'", fonts)
    return Drawing(png.getvalue(), named)


def framed(png: bytes) -> Drawing:
    """A sheet of images as a drawing: the SVG file holds the PNG."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        w, h = image.size
    data = base64.b64encode(png).decode()
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}">'
        f'<image width="{w}" height="{h}" href="data:image/png;base64,{data}"/></svg>\n'
    )
    return Drawing(png, svg.encode())


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
