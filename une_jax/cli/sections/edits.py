"""Walks along the directions of attributes, image by image."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from une_jax.cli import hspace_given
from une_jax.cli.sections.decoding import Decoding
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import figures
from une_jax.report.chapter import Chapter
from une_jax.report.teaching import Teacher

STRENGTHS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
SHOWN = 3
KEEPING = "conditional"  # the way of leaving others alone


def write(
    decoding: Decoding, wanted: Sequence[str], tell: Callable[[float], None]
) -> Chapter:
    """Edit grids in the first generator's noise, and in its h where that has directions.

    Args:
        wanted: attributes to draw; without, the four best-read ones.
    """
    chapter = Chapter(key="edits", title="Edits")
    teacher = decoding.teacher
    shown = [name for name in wanted or best(teacher)[:4] if name in teacher.names]
    chapter.say(
        f"Each row moves one held-out image's {decoding.generators[0].name} noise along "
        "an attribute's direction, the normal of its probe, in standard deviations of "
        "the training images along it; 0 is what the noise itself gives back. Where "
        "other attributes' directions are close to it, a second sheet leaves those "
        "alone: the likeliest move that changes none of their scores. It follows what "
        "the data do when the score rises, so that the same strength goes further."
    )
    if decoding.inside is not None:
        chapter.say(
            "The last sheet of each leaves the noise alone and moves the output of the "
            "UNet's middle block (h) at every step of sampling, in standard deviations "
            "of h along that direction."
        )
    inner = _inner(chapter, decoding.inside, shown)
    drawn = dict.fromkeys([*shown, *inner])
    for i, name in enumerate(drawn):
        if name in shown:
            _grid(chapter, decoding, teacher, name)
        if decoding.inside is not None and name in inner:
            _inside(chapter, decoding, decoding.inside, name)
        tell((i + 1) / len(drawn))
    missing = [name for name in wanted if name not in teacher.names]
    if missing:
        chapter.note(f"Not drawn, for want of both classes: {', '.join(missing)}.")
    return chapter


def best(teacher: Teacher) -> list[str]:
    """Attributes by the AUC of their reader, those unknown left out."""
    known = [name for name, auc in teacher.auc.items() if auc == auc]
    return sorted(known, key=lambda name: -teacher.auc[name])


def _inner(
    chapter: Chapter, inside: Directions | None, shown: Sequence[str]
) -> Sequence[str]:
    """What is drawn in h: what is drawn in the noise; where there is none of that, the
    first directions that there are."""
    if inside is None:
        return ()
    names = [n for n in shown if n in inside.names] or inside.names[: len(shown)]
    if missing := [n for n in shown if n not in inside.names]:
        chapter.note(f"Without a direction in h: {', '.join(missing)}.")
    return names


def _inside(
    chapter: Chapter, decoding: Decoding, inside: Directions, name: str
) -> None:
    """The same images with h moved."""
    g, rows = decoding.generators[0], decoding.test[:SHOWN]
    noise, prompts = decoding.origin(g, rows)[g.name], decoding.prompts(g, rows)
    grid = hspace_given.strip(g, inside, name, STRENGTHS, noise, prompts)
    _sheet(chapter, name, "h", "in the UNet's bottleneck", grid)


def _grid(chapter: Chapter, decoding: Decoding, teacher: Teacher, name: str) -> None:
    g, rows = decoding.generators[0], decoding.test[:SHOWN]
    plain, keep = teacher.held([name]), teacher.entangled(name)
    walks = [("plain", "along its own direction", plain)]
    if keep:
        kept = ", ".join(keep).replace("_", " ")
        try:
            held = teacher.held([name], keep, KEEPING)
            walks.append(("kept", f"the same with {kept} left alone", held))
        except UneError as e:  # nothing of it is left beside them
            chapter.note(f"{e}.")
    moves = np.concatenate([d.moves for *_, d in walks])
    amounts = np.zeros((len(rows), len(walks), len(STRENGTHS), len(walks)), np.float32)
    for w, (*_, d) in enumerate(walks):
        amounts[:, w, :, w] = d.amounts({name: 1.0}, STRENGTHS)[..., 0]
    flat = amounts.reshape(len(rows), -1, len(walks))
    grid = g.edit(
        decoding.origin(g, rows), moves, flat, prompts=decoding.prompts(g, rows)
    )
    grid = grid.reshape(*amounts.shape[:3], *grid.shape[2:])
    for w, (file, what, _) in enumerate(walks):
        _sheet(chapter, name, file, what, grid[:, w])


def _sheet(
    chapter: Chapter,
    name: str,
    file: str,
    what: str,
    grid: UInt8[np.ndarray, "n s h w 3"],
) -> None:
    columns = [f"{s:+g} sd" if s else "0" for s in STRENGTHS]
    title = name.replace("_", " ")
    chapter.sheet(
        f"edit_{name}_{file}",
        figures.sheet(grid, columns=columns),
        f"{title}: {what}.",
        f"{len(grid)} faces, each at {len(columns)} strengths of {title} from "
        f"{columns[0]} to {columns[-1]}, {what}.",
    )
