"""What Asyrp learns from: noise of images, the generator, and both of its halves."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ports import vae
from scripts.miniature import data
from une_jax import images, zoo
from une_jax.cli import inside, pictures, programs
from une_jax.cli.generator import Generator, generator_of_view, load_generator
from une_jax.cli.layout import nhwc
from une_jax.cli.names import resolve
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.miniature import factors

FACES_SEED = 0xA5  # of painted faces: none that a generator of the miniature has seen


class Source(NamedTuple):
    """Images' noise, first those to learn from; ``images`` in [-1, 1] or none."""

    generator: Generator
    noise: np.ndarray  # (n, h, w, c)
    images: np.ndarray | None  # (n, s, s, 3)
    zoo: str | None = None  # sha256 of its manifest


class Frozen(NamedTuple):
    """All that is not learnt, as one argument of what is compiled."""

    unet: Any
    vae: Any
    cond: Any
    schedule: Any


def of_zoo(folder: Path, view: str | None, source: str | None, n: int) -> Source:
    """The noise of a zoo's first n train images."""
    opened = zoo.open(folder)
    found = pictures.generator_view(opened, view, source)
    generator = generator_of_view(found, source, rows=n)
    inside.require_plain(generator)
    if generator.settings.prompt is None:
        raise UneError("each image of this zoo has a prompt of its own, which Asyrp does not train with")  # fmt: skip
    rows = opened.split("train")[:n]
    if len(rows) < n:
        raise UneError(f"{folder} has {len(rows)} train images and {n} are asked for")
    noise = np.asarray(opened[found.name][rows], np.float32)
    return Source(generator, nhwc(noise), None, images.sha256(folder / "manifest.json"))


def of_faces(name: str, steps: int, n: int) -> Source:
    """n painted faces, inverted by a generator of the miniature (or any other)."""
    settings = Settings(steps=steps, round_trip="none")
    generator = load_generator(resolve(name), settings, rows=n)
    painted = data.painted(factors.draw(jax.random.key(FACES_SEED), n))
    pixels = data.resized(painted, generator.size)
    out = generator.compute(pixels, np.arange(n, dtype=np.int32))
    noise = np.asarray(out.arrays[generator.name], np.float32)
    return Source(generator, nhwc(noise), np.asarray(data.signed(pixels)))


def frozen(generator: Generator) -> Frozen:
    """The generator's weights and tables, for its own prompt and guidance."""
    apply, walk = generator.sd.unet.apply, generator.walk_params
    unet, cond, steps = programs.told(apply, walk, {})
    return Frozen(unet, generator.vae_params, cond, steps)


def paint(generator: Generator, params: Any, x0: jax.Array) -> jax.Array:
    """Latents to images about [-1, 1], with a gradient; ``params`` are the VAE's."""
    port = generator.sd.vae
    latents = vae.unscale(port.config, x0)
    return port.apply(params, latents, method="decode").astype(jnp.float32)
