"""The whole study of some places' roads: mapped, decoded, composed, carried."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from une_jax.errors import UneError
from une_jax.report.roads import carried, journeys, pairs, pictures
from une_jax.report.roads.carried import Carried
from une_jax.report.roads.claims import Claim, check
from une_jax.report.roads.pairs import How, Stitched
from une_jax.report.roads.pictures import Decoder, Eyes
from une_jax.report.roads.places import ITSELF, Place
from une_jax.report.tables import Row

SHOWN = 8  # images of each pair that are kept to be seen
TRAVELLED = 200  # test images that go by way of third views
Load = Callable[[str], Decoder]
Tell = Callable[[str, float], None]  # a phase, and how much of it is done


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be studied.

    Attributes:
        sources, targets: views; a target can be decoded.
        how: maps and probes are fitted.
        pictures: test images that are decoded and measured, of each pair; 0 for none.
        attributes: whose edits are carried; none carries nothing.
        edited: images that these edits are judged on.
        journeys: whether to go by way of third views too.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    how: How
    pictures: int = 100
    attributes: Sequence[str] = ()
    edited: int = 32
    journeys: bool = True


class Shown(NamedTuple):
    """The first test images of a place, and what became of them on every road."""

    originals: UInt8[np.ndarray, "k h w 3"]
    made: dict[tuple[str, str], UInt8[np.ndarray, "k h w 3"]]


@dataclass(kw_only=True)
class Study:
    """What was found; tables as rows, images by place and target."""

    pairs: list[Row]
    attributes: list[Row]
    factors: list[Row] = field(default_factory=list)
    journeys: list[Row] = field(default_factory=list)
    carried: dict[tuple[str, str], Carried] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)


def run(
    places: tuple[Place, ...], wanted: Wanted, load: Load, eyes: Eyes, tell: Tell
) -> Study:
    """Every phase in turn; ``load`` gives a target's decoder, which is let go after it."""
    how, total = wanted.how, len(wanted.targets)
    count = total * (len(wanted.sources) + 4) * len(places)  # more than there can be
    done, onward = itertools.count(1), itertools.count(1)
    stitched = list(
        pairs.stitch(
            places,
            wanted.sources,
            wanted.targets,
            how,
            keep=max(wanted.pictures, TRAVELLED),
            attributes=wanted.attributes,
            step=lambda _: tell("maps", next(done) / count),
        )
    )
    if not stitched:
        raise UneError(
            "no view can be mapped to another: give two views of the same images, one of "
            "which can be decoded"
        )
    tell("maps", 1.0)
    study = Study(
        pairs=[s.row for s in stitched],
        attributes=[row for s in stitched for row in s.attributes],
    )
    if wanted.journeys:
        study.journeys = journeys.table(
            stitched,
            how,
            step=lambda _: tell("journeys", next(onward) / count),
        )
        tell("journeys", 1.0)
    if wanted.pictures:
        for i, target in enumerate(wanted.targets):
            decoder = load(target)
            _decode(
                study,
                [s for s in stitched if s.target == target],
                decoder,
                eyes,
                wanted,
            )
            del decoder  # before the next one is in memory
            tell("pictures", (i + 1) / total)
    study.claims = check(study.pairs, study.attributes, how.families)
    return study


def _decode(
    study: Study,
    stitched: Sequence[Stitched],
    decoder: Decoder,
    eyes: Eyes,
    wanted: Wanted,
) -> None:
    """All that needs a target's decoder, of every place's roads to it."""
    for place in {s.place.name: s.place for s in stitched}.values():
        here = [s for s in stitched if s.place is place]
        _look(study, place, here, decoder, eyes, wanted.pictures)
        if eyes.judge is not None:
            edits = carried.edits(here, decoder, eyes.judge, shown=wanted.edited)
            study.carried |= {(here[0].target, k): v for k, v in edits.items()}


def _look(
    study: Study,
    place: Place,
    stitched: Sequence[Stitched],
    decoder: Decoder,
    eyes: Eyes,
    count: int,
) -> None:
    """Decodes and measures every road to a target; numbers join the pairs' rows."""
    made = {s.source: decoder.decode(s.guess[:count]) for s in stitched}
    rows = place.rows.tests[:count]
    read = place.originals
    originals = made[ITSELF] if read is None else read(rows, decoder.size)
    scores = None if place.scores is None else place.scores[rows]
    names = place.zoo.attribute_names
    reference = pictures.refer(originals, eyes, scores, names)
    for s in stitched:
        seen = pictures.measure(made[s.source], reference, eyes)
        s.row["reference"] = "own decoder" if read is None else "original"
        s.row["pictures"] = len(rows)
        s.row.update(seen.row)
        named: Row = {"source": s.source, "target": s.target, "images": place.name}
        study.factors += [
            {**named, "attribute": name, "R²": value}
            for name, value in seen.factors.items()
        ]
    shown = study.shown.setdefault(place.name, Shown(originals[:SHOWN].copy(), {}))
    if originals.shape[1] > shown.originals.shape[1]:
        shown = study.shown[place.name] = shown._replace(
            originals=originals[:SHOWN].copy()
        )
    few = {(s.source, s.target): made[s.source][:SHOWN].copy() for s in stitched}
    shown.made.update(few)
