"""What all ways of editing share: images of a zoo, its generator, and captions."""

import functools as ft
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from une_jax import sources, zoo
from une_jax.cli import pictures
from une_jax.cli.generator import Generator, generator_of_view
from une_jax.cli.inside import require_plain
from une_jax.errors import UneError
from une_jax.miniature import captions, factors
from une_jax.report import originals
from une_jax.report.teaching import Teacher, teach
from une_jax.zoo import Zoo

Read = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """``rows`` are, of each attribute, the held-out images that lack it."""

    opened: Zoo
    read: Read = field(repr=False)
    generator: Generator = field(repr=False)
    teacher: Teacher = field(repr=False)
    rows: dict[str, np.ndarray]

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.rows)

    def noise(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.opened[self.generator.name][rows], np.float32)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """(n, size, size, 3): the images themselves."""
        return self.read(rows, self.generator.size)

    def captions(self, rows: np.ndarray, having: str | None = None) -> list[str]:
        """What the images show; ``having`` an attribute that they lack."""
        names = self.opened.attribute_names
        labels = self.opened.attributes[rows][
            :, [names.index(n) for n in factors.NAMES]
        ]
        if having is not None:
            labels[:, factors.NAMES.index(having)] = True
        return captions.write(labels, np.random.default_rng(0))

    @ft.cached_property
    def train(self) -> np.ndarray:
        return self.opened.split("train")


def of(path: Path, folder: Path, view: str, attributes: Sequence[str], n: int) -> Case:
    """The first n held-out images that lack each attribute.

    Raises:
        UneError: the zoo is not of miniature faces, or has fewer such images.
    """
    opened = zoo.open(path)
    names = opened.attribute_names
    if set(names) != set(factors.NAMES):
        raise UneError(f"{path} is no zoo of miniature faces, whose captions are known")
    test = opened.split("test")
    rows = {}
    for name in attributes:
        if name not in names:
            raise UneError(f"--attributes: there is no {name}")
        rows[name] = test[~opened.attributes[test, names.index(name)]][:n]
        if len(rows[name]) < n:
            raise UneError(f"{len(rows[name])} held-out images lack {name}; lower --count")  # fmt: skip
    generator = generator_of_view(pictures.generator_view(opened, view, None), rows=64)
    require_plain(generator)
    return Case(
        opened=opened,
        read=originals.squares(opened, sources.open(folder)),
        generator=generator,
        teacher=teach(opened, generator.name),
        rows=rows,
    )
