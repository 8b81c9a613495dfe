"""What the sections with pictures have in common: generators, and rows of a zoo."""

import functools
from dataclasses import dataclass

import numpy as np

from une_jax import image_metrics
from une_jax.cli import pictures
from une_jax.cli.generator import Generator
from une_jax.directions import Directions
from une_jax.report.teaching import Teacher, teach
from une_jax.zoo import Zoo

SHOWN = 8  # images a row


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoding:
    """The generators of a zoo's views, the first of which edits: in its noise, and with
    directions of its h (``inside``) in that as well."""

    zoo: Zoo
    generators: tuple[Generator, ...]
    inside: Directions | None = None

    @property
    def test(self) -> np.ndarray:
        """The held-out rows."""
        return self.zoo.split("test")

    @functools.cached_property
    def teacher(self) -> Teacher:
        """The directions of the first generator's noise."""
        return teach(self.zoo, self.generators[0].name)

    def origin(self, g: Generator, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the zoo holds of these images that gives them back."""
        return pictures.origin_of(g, self.zoo, rows)

    def prompts(self, g: Generator, rows: np.ndarray) -> list[str] | None:
        """Theirs, where each image has its own."""
        return pictures.prompts_of(g, self.zoo, rows)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over the images, in dB."""
    unit = np.float32(1 / 255)
    return float(image_metrics.psnr(a * unit, b * unit).mean())
