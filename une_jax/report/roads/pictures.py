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
from une_jax.report.probing import interval, truth_r2
from une_jax.report.tables import Row

REPLICATES, SEED = 1000, 0
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601
Images = UInt8[np.ndarray, "n h w 3"]
Distance = Callable[[Images, Images], Float[np.ndarray, " n"]]

_measures = {
    name: jax.jit(getattr(image_metrics, name)) for name in ("rmse", "psnr", "ssim")
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


class Seen(NamedTuple):
    """What is measured of one pair's images: of all, and of each attribute."""

    row: Row
    factors: dict[str, float]  # squared correlation with the truth, by attribute


def measure(
    made: Images,
    originals: Images,
    eyes: Eyes,
    scores: Float[np.ndarray, "n a"] | None,
    names: Sequence[str],
) -> Seen:
    """Every measure of decoded images, with 95 % bootstrap intervals over the images.

    Args:
        made, originals: of one size; each pair shows what should be one face.
        scores: the truth of the judge's attributes; without, what it reads off the
            originals stands for it.
        names: the attributes of ``scores``.
    """
    row: Row = {}
    a, b = (jnp.asarray(x, jnp.float32) / 255 for x in (made, originals))
    each = {name: np.asarray(run(a, b)) for name, run in _measures.items()}
    each |= {k: distance(made, originals) for k, distance in eyes.distances.items()}
    for name, values in each.items():
        low, high = over_images(values)
        row |= {name: float(values.mean()), f"{name} low": low, f"{name} high": high}
    luma, chroma = geometry_and_colour(np.asarray(a), np.asarray(b))
    row |= {"luma R²": luma, "chroma R²": chroma}
    for name, features in eyes.features.items():
        row |= _apart(name, features(made), features(originals))
    factors = {}
    if eyes.judge is not None:
        seen = read(eyes.judge, made)
        truth = read(eyes.judge, originals) if scores is None else scores
        known = eyes.judge.names if scores is None else names
        columns = [eyes.judge.names.index(name) for name in known]
        r2 = truth_r2(seen[:, columns], truth)
        factors = dict(zip(known, map(float, r2), strict=True))
        row["factor R²"] = float(np.mean(r2))
    return Seen(row, factors)


def over_images(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """A 95 % percentile interval of their mean, over images drawn anew."""
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(values), (REPLICATES, len(values)))
    return interval(values[drawn].mean(axis=1))


def geometry_and_colour(
    made: Float[np.ndarray, "n h w 3"], originals: Float[np.ndarray, "n h w 3"]
) -> tuple[float, float]:
    """How much of what sets images apart is there again: in brightness, and in colour.

    1 - squared error / variance about the mean original, of luma and of the two colour
    differences. 0 is what the mean image would get, and worse is below.
    """
    return tuple(_explained(*pair) for pair in zip(_split(made), _split(originals), strict=True))  # fmt: skip  # pyright: ignore


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    luma = x @ LUMA
    return luma, x[..., (0, 2)] - luma[..., None]


def _explained(made: np.ndarray, originals: np.ndarray) -> float:
    spread = np.square(originals - originals.mean(0, keepdims=True)).sum()
    return float(1 - np.square(made - originals).sum() / max(spread, 1e-12))


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
