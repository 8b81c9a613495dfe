"""Images that roads are measured on: a zoo's, its chosen rows, its latents of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from une_jax import stitching
from une_jax.report import latents
from une_jax.report.roads.rows import Rows
from une_jax.zoo import Zoo

RANDOM, MEAN, ITSELF = "random", "mean", "itself"
BASELINES = (RANDOM, MEAN, ITSELF)

Originals = Callable[[Int[np.ndarray, " k"], int], UInt8[np.ndarray, "k h w 3"]]


class Latents(NamedTuple):
    """A view of the three sets of images, flat."""

    maps: Float[np.ndarray, "n d"]
    probes: Float[np.ndarray, "p d"]
    tests: Float[np.ndarray, "m d"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A zoo's images.

    Attributes:
        name: "images", or "synthetic" for what a GAN painted.
        zoo: with a view of each model that has latents of these images.
        rows: three sets of them.
        scores: the true scores of all ok rows and attributes, where they are known.
        originals: rows and an edge -> the images that were encoded, as models of that
            size saw them; None where the files are not at hand.
    """

    name: str
    zoo: Zoo
    rows: Rows
    scores: Float[np.ndarray, "n a"] | None = field(default=None, repr=False)
    originals: Originals | None = field(default=None, repr=False)

    def latents(self, view: str) -> Latents:
        """Of a view of the zoo, or of ``RANDOM``.

        Raises:
            UneError: a value is not finite.
        """
        read = self._random if view == RANDOM else self._read(view)
        return Latents(*(read(rows) for rows in self.rows))

    def _read(self, view: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: latents.read(self.zoo, view, rows)

    def _random(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """An encoder that knows nothing but which image it is, by the image's bytes."""
        column = self.zoo.rows.column("sha256")
        ids = [int(column[int(row)].as_py()[:7], 16) for row in rows]
        key = jax.random.key(0)
        return np.asarray(stitching.random_encoder(key, jnp.asarray(ids)))


def where(a: str, b: str, places: tuple[Place, ...]) -> Place | None:
    """The first place with both views; None: there is none."""
    return next((p for p in places if {a, b} <= {*p.zoo.views}), None)
