"""Training faces: the renderer's stream of factors.TRAINING_SEED, as uint8."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from une_jax.images import centre_crop
from une_jax.miniature import factors, render

# The two generators' families learn from different faces of one stream.
FIRST, SECOND = range(0, 32768), range(32768, 65536)


def truth(rows: range) -> factors.Truth:
    return factors.draw(jax.random.key(factors.TRAINING_SEED), len(rows), rows.start)


def images(rows: range) -> np.ndarray:
    return painted(truth(rows))


def painted(t: factors.Truth) -> np.ndarray:
    """(n, 64, 64, 3) uint8, the bytes that an image file would hold."""
    out = np.empty((len(t.scores), render.SIZE, render.SIZE, 3), np.uint8)
    for i in range(0, len(out), 2048):
        part = render.faces(t.scores[i : i + 2048], t.nuisance[i : i + 2048])
        out[i : i + 2048] = np.asarray(part * 255 + 0.5)
    return out


def kept(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``make`` gives, or what it gave before where ``file`` holds it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"part-{file.name}")  # a killed run leaves no half
        np.save(part, make())
        part.replace(file)
    return np.load(file)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w, 3) uint8 as a build prepares them for a generator of this size."""
    return np.stack([centre_crop(Image.fromarray(image), size) for image in images])


def pick(key: jax.Array, n: int, batch: int) -> np.ndarray:
    return np.asarray(jax.random.randint(key, (batch,), 0, n))


def signed(images: np.ndarray) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1
