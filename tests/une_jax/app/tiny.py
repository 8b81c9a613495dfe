"""A zoo of 120 painted patterns with a linear generator, for the tests of the app.

Noise of 16 numbers is painted by a fixed linear map, so that everything that the app
says of an edit can be computed by hand, and nothing has to be compiled for it.
"""

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import planted_zoo
from PIL import Image

from une_jax import hspace_files, images, shells, sources, zoo
from une_jax.app.pictures import Pictures
from une_jax.app.studio import Studio
from une_jax.report.originals import Originals

N, SIZE = 120, 16
NAMES = ("Round", "Striped", "Wide <b>")  # a name that HTML would take for a tag
GENERATOR = planted_zoo.generator(1, 4, 4, steps=12, prompt="")
ENCODER = planted_zoo.encoder(6)
RNG = np.random.default_rng(0)
SCORES = RNG.multivariate_normal(
    np.zeros(3), [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], N
).astype(np.float32)
LOOK = RNG.standard_normal((3, 16)).astype(np.float32)
NOISE = SCORES @ LOOK + 0.1 * RNG.standard_normal((N, 16)).astype(np.float32)
LABELS = SCORES > 0
PAINT = RNG.standard_normal((16, SIZE * SIZE * 3)).astype(np.float32) * 6
SEE = RNG.standard_normal((SIZE * SIZE * 3, 6)).astype(np.float32) / 100
# Its middle holds 2 steps of (1, 2, 3); what is added to it is added to the noise.
OUT = RNG.standard_normal((12, 16)).astype(np.float32)
H_NAMES = ("Round", "Tall <i>")
H_MOVES = RNG.standard_normal((2, 2, 1, 2, 3)).astype(np.float32)
KEYS = [f"{i:03d}.png" for i in range(N)]


def painted(noise):
    """(n, 16) -> uint8 (n, SIZE, SIZE, 3)."""
    pixels = np.clip(128 + noise @ PAINT, 0, 255)
    return np.rint(pixels).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)


def seen(pixels):
    """(n, SIZE, SIZE, 3) -> (n, 6)."""
    flat = np.asarray(pixels, np.float32).reshape(len(pixels), -1)
    return (flat - 128) @ SEE


class Coder:
    """The linear generator; counts what is asked of it."""

    size = SIZE
    decodes_from = ("sd",)

    def __init__(self):
        self.inverted, self.edited, self.inside = 0, [], []

    def prepare(self, image):
        return images.centre_crop(image, SIZE)

    def compute(self, pixels, rows, prompts=None):
        self.inverted += len(pixels)
        signed = np.asarray(pixels, np.float32).reshape(len(pixels), -1) - 128
        noise = np.linalg.lstsq(PAINT.T, signed.T, rcond=None)[0].T
        return SimpleNamespace(arrays={"sd": noise.reshape(-1, 1, 4, 4)})

    def edit(self, origin, moves, amounts, *, control="off", prompts=None):
        self.edited.append((amounts, control, prompts))
        n, s, _ = amounts.shape
        start = origin["sd"].reshape(n, 1, 1, 4, 4)
        moved = start + (amounts @ moves).reshape(n, s, 1, 4, 4)
        if control != "off":
            both = jnp.asarray(moved), jnp.asarray(start)
            moved = np.asarray(shells.restore(*both, control))
        return painted(moved.reshape(n * s, 16)).reshape(n, s, SIZE, SIZE, 3)

    def edit_inside(self, origin, moves, amounts, *, prompts=None):
        self.inside.append((moves, amounts, prompts))
        n, s, m = amounts.shape
        moved = amounts @ moves.reshape(m, 12) @ OUT
        noise = origin["sd"].reshape(n, 1, 16) + moved
        return painted(noise.reshape(n * s, 16)).reshape(n, s, SIZE, SIZE, 3)


class Judge:
    """The linear encoder."""

    name = "clip"

    def prepare(self, image):
        return np.asarray(image)

    def compute(self, pixels, rows):
        return SimpleNamespace(arrays={"clip": seen(pixels)})


def png(pixels):
    """A PNG file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def make_images(folder):
    """The patterns as files."""
    folder.mkdir()
    for key, pixels in zip(KEYS, painted(NOISE), strict=True):
        (folder / key).write_bytes(png(pixels))
    return folder


def make_zoo(folder, *, prompts=False, keys=KEYS, names=NAMES):
    """Their zoo; with ``prompts``, each has its own."""
    said = [f"pattern {i}" for i in range(N)] if prompts else None
    settings = {**GENERATOR.settings, "prompt": None if prompts else ""}
    view = zoo.View(**{**vars(GENERATOR), "settings": settings})
    pictures = painted(NOISE)
    return planted_zoo.write(
        folder,
        (view, ENCODER),
        {"sd": NOISE.reshape(N, 1, 4, 4), "clip": seen(pictures)},
        {name: LABELS[:, j] for j, name in enumerate(names)},
        keys=keys,
        sha256s=[hashlib.sha256(png(p)).hexdigest() for p in pictures],
        prompts=said,
        size=SIZE,
    )


def h_directions(names=H_NAMES, moves=H_MOVES):
    """Of the generator's middle."""
    spread = np.array([3.0, 5.0], np.float32)
    about = {"spread": spread, "method": {"name": "h means", "images": 9}}
    return hspace_files.pack(names, moves, GENERATOR, [500, 0], **about)


def make_studio(opened, folder=None, *, judges=(), inside=False):
    """A studio over them, and the generator that counts; ``inside``: h too."""
    coder = Coder()
    originals = Originals(opened, sources.open(folder)) if folder else None
    pictures = Pictures(opened, {"sd": lambda: coder}, originals)
    files = {"sd": (Path("my h.safetensors"), h_directions())} if inside else {}
    return Studio(pictures, judges, files), coder
