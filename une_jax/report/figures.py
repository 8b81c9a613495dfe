"""Figures: charts with matplotlib, sheets of images with Pillow."""

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (40, 40, 48), (255, 255, 255)


def auc_chart(
    names: tuple[str, ...], auc: Mapping[str, Float[np.ndarray, " a"]]
) -> bytes:
    """Test AUC of every attribute (rows) in every view (dots), as PNG bytes.

    Attributes are sorted by the first view's AUC, unknown ones (NaN) at the bottom.
    """
    first = next(iter(auc.values()))
    order = np.argsort(np.nan_to_num(first, nan=-1.0))
    height = 1.2 + 0.26 * len(names)
    figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
    axes.axvline(0.5, color="0.6", linewidth=1)
    markers = "oDsv^Px*"
    for i, (view, values) in enumerate(auc.items()):
        known = values[np.isfinite(values)]
        mean = f" (mean {known.mean():.2f})" if len(known) else ""
        axes.plot(
            values[order],
            np.arange(len(names)),
            markers[i % len(markers)],
            color=f"C{i}",
            label=f"{view}{mean}",
            alpha=0.85,
        )
    axes.set_yticks(np.arange(len(names)), [names[i].replace("_", " ") for i in order])
    axes.set_xlabel("test AUC")
    axes.grid(axis="x", alpha=0.25)
    axes.set_ylim(-0.7, len(names) - 0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return _png(figure)


def _png(figure: plt.Figure) -> bytes:
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
