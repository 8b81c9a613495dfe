"""A look at a training: images side by side in one PNG."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def grid(file: Path, *rows: ArrayLike) -> None:
    """Rows of images (n, h, w, 3) in [-1, 1], one under the other."""
    lines = [np.concatenate(list(np.asarray(row, np.float32)), 1) for row in rows]
    pixels = np.clip(np.concatenate(lines, 0) * 127.5 + 128, 0, 255)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)
