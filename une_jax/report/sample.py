"""Some rows of a NoiseZoo, drawn at random: a Zoo that every analysis takes."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from une_jax.zoo import Zoo
from une_jax.zoo.latents import Latents


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample(Zoo):
    """A zoo of which only the ``chosen`` ok rows are seen, ascending."""

    chosen: Int[np.ndarray, " m"]

    def __getitem__(self, name: str) -> Latents:
        return _Chosen(zoo=self, view=self._view(name), chosen=self.chosen)

    @functools.cached_property
    def rows(self) -> pa.Table:
        """The m rows; row i is row i of every view."""
        return super().rows.take(pa.array(self.chosen))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen(Latents):
    """Of all latents of a view, the chosen rows."""

    chosen: Int[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, key: Any) -> np.ndarray:
        return Latents(zoo=self.zoo, view=self.view)[self.chosen[key]]


def sample(zoo: Zoo, rows: int, *, seed: int = 0) -> Zoo:
    """The zoo itself where it has no more ok rows than ``rows``; else so many of them.

    Which, ``seed`` says; each stays in the train or test rows where it was.
    """
    total = zoo.rows.num_rows
    if total <= rows:
        return zoo
    drawn = np.random.default_rng(seed).permutation(total)[:rows]
    return Sample(
        path=zoo.path,
        manifest=zoo.manifest,
        seal=zoo.seal,
        recorded=zoo.recorded,
        chosen=np.sort(drawn),
    )
