"""By way of a third view: A to B and on to C, beside the road that goes straight."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from une_jax import stitching
from une_jax.report.roads.pairs import How, Stitched
from une_jax.report.roads.places import BASELINES, Place
from une_jax.report.tables import Row

_score = jax.jit(stitching.score)


def table(
    stitched: Sequence[Stitched],
    how: How,
    *,
    step: Callable[[str], None] = lambda triple: None,
) -> list[Row]:
    """One row for each A, B, C whose three pairs were measured on the same images.

    Composed: the map from B to C of what the map from A to B gives, on the test images
    whose mapped latents were kept. ``step`` is told of each pair B, C.
    """
    known = {
        (s.place.name, s.source, s.target): s
        for s in stitched
        if s.source not in BASELINES and not how.same(s.source, s.target)
    }
    rows: list[Row] = []
    onward = sorted(known, key=lambda at: (at[0], at[1]))
    for (name, via), group in itertools.groupby(onward, key=lambda at: (at[0], at[1])):
        to_via = [s for (p, _, t), s in known.items() if p == name and t == via]
        if not to_via:
            continue
        place = to_via[0].place
        factored = stitching.Source(place.latents(via).maps)
        for _, _, target in group:
            rows += _through(place, factored, via, target, to_via, known, how)
            step(f"{via} -> {target}")
    return rows


def _through(
    place: Place,
    factored: stitching.Source,
    via: str,
    target: str,
    to_via: Sequence[Stitched],
    known: dict[tuple[str, str, str], Stitched],
    how: How,
) -> list[Row]:
    y = place.latents(target)
    alpha = known[place.name, via, target].row["alpha"]  # chosen before
    penalised = how.kind in ("ridge", "reduced_rank")
    onward = factored.fit(
        y.maps,
        kind=how.kind,
        alpha=float(alpha or 0) if penalised else "loo",
        rank=how.rank,
    )
    rows: list[Row] = []
    for first in to_via:
        straight = known.get((place.name, first.source, target))
        if straight is None:
            continue
        truth = y.tests[: len(first.guess)]
        composed = np.asarray(stitching.predict(onward, jnp.asarray(first.guess)))
        direct, around = (
            float(_score(jnp.asarray(x), jnp.asarray(truth), onward.bias).r2)
            for x in (straight.guess, composed)
        )
        rows.append(
            {
                "source": first.source,
                "via": via,
                "target": target,
                "images": place.name,
                "direct R²": direct,
                "composed R²": around,
                "lost": direct - around,
            }
        )
    return rows
