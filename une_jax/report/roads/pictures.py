"""Decoded latents beside the images they should be: pixels, structure, looks, factors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from une_jax import frechet, image_metrics
from une_jax.report.judges import Judge
from une_jax.report.parts import in_parts
from une_jax.report.probing import interval, truth_r2
from une_jax.report.tables import Row

REPLICATES, SEED = 1000, 0
PIXELS = 2**20  # that are compared at once
LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
Images = UInt8[np.ndarray, "n h w 3"]
Distance = Callable[[Images, Images], Float[np.ndarray, " n"]]


def _of_unit(measure: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable:
    """The measure, of uint8 images."""
    return lambda a, b: measure(*(x.astype(jnp.float32) / 255 for x in (a, b)))


_measures = {
    name: jax.jit(_of_unit(getattr(image_metrics, name)))
    for name in ("rmse", "psnr", "ssim")
}
_moments, _frechet = jax.jit(frechet.moments), jax.jit(frechet.frechet)
_kid = jax.jit(frechet.kid, static_argnames=("subsets", "size"))


class Decoder(NamedTuple):
    """A target's own way from flat latents to images."""

    size: int
    decode: Callable[[Float[np.ndarray, "n d"]], Images]


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """What looks at decoded images, beside the pixels' own measures.

    Attributes:
        distances: such as LPIPS, by name: of images from their originals.
        features: such as an encoder's, by name: images to vectors, for the Fréchet and
            kernel distances of all decoded images from all originals.
        judge: reads attributes off pixels, for what survives of each.
    """

    distances: Mapping[str, Distance] = field(default_factory=dict)
    features: Mapping[str, Callable[[Images], Float[np.ndarray, "n d"]]] = field(
        default_factory=dict
    )
    judge: Judge | None = None


class Reference(NamedTuple):
    """What decoded images are held against: seen once for all roads."""

    images: Images
    features: dict[str, Float[np.ndarray, "n d"]]
    scores: Float[np.ndarray, "n a"] | None  # of ``names``, true or read off the images
    names: tuple[str, ...]


class Seen(NamedTuple):
    """What is measured of one pair's images: of all, and of each attribute."""

    row: Row
    factors: dict[str, float]  # squared correlation with the reference, by attribute


def refer(
    originals: Images,
    eyes: Eyes,
    scores: Float[np.ndarray, "n a"] | None,
    names: Sequence[str],
) -> Reference:
    """The originals, and what eyes see in them.

    Args:
        scores: the truth of the attributes ``names``; without, what the judge reads off
            the originals stands for it.
    """
    features = {name: see(originals) for name, see in eyes.features.items()}
    if eyes.judge is None:
        return Reference(originals, features, None, ())
    if scores is None:
        return Reference(
            originals, features, read(eyes.judge, originals), eyes.judge.names
        )
    known = [a for a, name in enumerate(names) if name in eyes.judge.names]
    named = tuple(names[a] for a in known)
    return Reference(originals, features, scores[:, known], named)


def measure(made: Images, reference: Reference, eyes: Eyes) -> Seen:
    """Every measure of decoded images, with 95 % bootstrap intervals over the images.

    ``made`` are of the reference's size; each pair shows what should be one face.
    """
    row: Row = {}
    originals = reference.images
    size = max(1, PIXELS // (made.shape[1] * made.shape[2]))
    each = {
        name: in_parts(run, made, originals, size=size)
        for name, run in _measures.items()
    }
    each |= {k: distance(made, originals) for k, distance in eyes.distances.items()}
    for name, values in each.items():
        low, high = over_images(values)
        row |= {name: float(values.mean()), f"{name} low": low, f"{name} high": high}
    luma, chroma = geometry_and_colour(made, originals)
    row |= {"luma R²": luma, "chroma R²": chroma}
    for name, features in eyes.features.items():
        row |= _apart(name, features(made), reference.features[name])
    factors = {}
    if eyes.judge is not None and reference.scores is not None:
        columns = [eyes.judge.names.index(name) for name in reference.names]
        r2 = truth_r2(read(eyes.judge, made)[:, columns], reference.scores)
        factors = dict(zip(reference.names, map(float, r2), strict=True))
        row["factor R²"] = float(np.mean(r2)) if len(r2) else None
    return Seen(row, factors)


def over_images(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """A 95 % percentile interval of their mean, over images drawn anew."""
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(values), (REPLICATES, len(values)))
    return interval(values[drawn].mean(axis=1))


def geometry_and_colour(made: Images, originals: Images) -> tuple[float, float]:
    """How much of what sets images apart is there again: in brightness, and in colour.

    1 - squared error / variance about the mean original, of luma and of the two colour
    differences. 0 is what the mean image would get, and worse is below.
    """
    mean = _split(np.asarray(originals.mean(axis=0, dtype=np.float64)))
    missed, spread = np.zeros(2), np.zeros(2)
    for pair in zip(made, originals, strict=True):  # one by one: they may be large
        a, b = (_split(image.astype(np.float64)) for image in pair)
        missed += [np.square(x - y).sum() for x, y in zip(a, b, strict=True)]
        spread += [np.square(y - m).sum() for y, m in zip(b, mean, strict=True)]
    luma, chroma = 1 - missed / np.maximum(spread, 1e-12)
    return float(luma), float(chroma)


def _split(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    luma = image @ LUMA
    return luma, image[..., (0, 2)] - luma[..., None]


def _apart(name: str, made: np.ndarray, originals: np.ndarray) -> Row:
    """Fréchet distance and kernel distance of two clouds of features."""
    n = len(made)
    x, y = jnp.asarray(made, jnp.float32), jnp.asarray(originals, jnp.float32)
    far = _frechet(_moments(x), _moments(y))
    kernel = _kid(jax.random.key(SEED), x, y, subsets=20, size=min(n, 100))
    return {
        f"FID ({name}, {made.shape[1]}-d, {n})": float(far),
        f"KID ({name})": float(kernel.mean),
        f"KID ({name}) sd": float(kernel.std),
    }


def read(judge: Judge, images: Images) -> Float[np.ndarray, "n a"]:
    """The scores that a judge sees in images of any size."""
    size = judge.size or images.shape[1]
    return np.asarray(judge(resized(images, size)).scores)


def resized(images: Images, size: int) -> UInt8[np.ndarray, "n {size} {size} 3"]:
    """To a square of that edge, bilinear with antialiasing."""
    if images.shape[1] == size:
        return images
    how = Image.Resampling.BILINEAR
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((size, size), how)) for x in images]
    )
