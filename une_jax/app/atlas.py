"""Two-dimensional maps of a zoo: its images as points in a view, or in what all share."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from une_jax import pca
from une_jax.errors import UneError
from une_jax.report import latents, probing, spaces
from une_jax.zoo import Zoo

SHARED = "shared space"
LIMIT = 2000  # points; of more rows, so many are drawn at random

_pca = jax.jit(pca.fit, static_argnames="k")


@dataclass(frozen=True, kw_only=True)
class Map:
    """Points of a plane.

    Attributes:
        rows: which ok row of the zoo each of the n points is.
        at: where it is, in standard deviations along each axis.
        axes: what the two axes are.
    """

    rows: Int[np.ndarray, " n"]
    at: Float32[np.ndarray, "n 2"]
    axes: tuple[str, str]


def kinds(zoo: Zoo) -> tuple[str, ...]:
    """The maps that there are: the shared space where views can share one, each view."""
    several = len(_sharing(zoo)) > 1
    return (SHARED,) * several + probing.spaces(zoo)


def draw(zoo: Zoo, kind: str) -> Map:
    """A map of one of the ``kinds``.

    Of a view, its two largest principal components; of the shared space, the two
    dimensions on which the generators' and encoders' views agree most.

    Raises:
        UneError: there is no such map, or too few rows for one.
    """
    if kind not in kinds(zoo):
        raise UneError(f"no map {kind!r}; there is {', '.join(kinds(zoo))}")
    rows = _drawn(zoo.rows.num_rows)
    if kind == SHARED:
        return _shared(zoo, rows)
    x = latents.read(zoo, kind, rows)
    found = _pca(jnp.asarray(x), k=2)
    at = (x - np.asarray(found.mean)) @ np.asarray(found.basis)
    if at.shape[1] < 2:
        raise UneError(f"{zoo.path} has too few rows for a map: 3 at least")
    whole = float(found.explained_variance) * np.asarray(found.variance)
    parts = whole / max(float(found.variance.sum()), 1e-30)
    axes = [f"component {i + 1}: {part:.1%} of the variance" for i, part in enumerate(parts)]  # fmt: skip
    return Map(rows=rows, at=_standard(at), axes=(axes[0], axes[1]))


def _shared(zoo: Zoo, rows: np.ndarray) -> Map:
    views = _sharing(zoo)
    prepared = spaces.prepare(zoo, views)
    space = spaces.share(prepared, views, 2, name=SHARED)
    codes = np.zeros((zoo.rows.num_rows, 2), np.float32)
    codes[zoo.split("train")], codes[zoo.split("test")] = space.train, space.test
    axes = ("shared dimension 1", "shared dimension 2")
    return Map(rows=rows, at=_standard(codes[rows]), axes=axes)


def _sharing(zoo: Zoo) -> tuple[str, ...]:
    kinds = ("generator", "encoder")
    return tuple(view.name for view in zoo.manifest.views if view.kind in kinds)


def _drawn(count: int) -> np.ndarray:
    """All rows, or ``LIMIT`` of them, in order."""
    if count <= LIMIT:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, LIMIT, replace=False))


def _standard(at: np.ndarray) -> np.ndarray:
    spread = at.std(axis=0)
    return ((at - at.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
