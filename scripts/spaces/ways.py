"""The ways to edit: each paints strips of any of the case's images at its own strengths.

============================  ========================================================
noise: line                   along the probe's direction in the noise
noise: orthogonalised         the same, the entangled attributes' readers projected out
noise: random (control)       as far, in a direction of chance
h: class means                every step's h moved along the difference of class means
h: means, others out          the same, the entangled attributes' means projected out
h: principal component        the one of ten that is closest to the class means
Asyrp                         a trained function of h, seen by the predicted image only
text: DDIM                    inverted under the caption, sampled under the edited one
text: DPM-Encoder             the same by CycleDiffusion's code, eta 0.1
text: edit-friendly           the same by edit-friendly DDPM's code, eta 1
============================  ========================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.spaces import texts
from scripts.spaces.case import Case
from une_jax import hspace, hspace_files, hspace_keeping, translation
from une_jax.cli import hspace_moves, inside, pictures
from une_jax.cli.hspace_fit import Fit
from une_jax.cli.programs import TABLES
from une_jax.directions import Directions
from une_jax.directions import load as load_directions
from une_jax.report import effects
from une_jax.report.effects import Walk

IN_NOISE = (0.05, 0.1, 0.2, 0.35, 0.55, 0.8)  # mean lengths of the noise
IN_H = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)  # standard deviations of the sampled h
LEARNT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # times what was learnt
GUIDED = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0)  # scale of classifier-free guidance
COMPONENTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """One way: ``walks`` has one an attribute, ``steps`` are its strengths."""

    name: str
    unit: str
    steps: tuple[float, ...]
    walks: tuple[Walk, ...] = field(repr=False)
    strips: effects.Strips = field(repr=False)
    learns: str  # what has to be done before the first edit

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(walk.attribute for walk in self.walks)


Paint = Callable[[np.ndarray, str, np.ndarray], np.ndarray]
"""Rows of the zoo, an attribute and strengths (0 first) to images (n, s, h, w, 3)."""


def each(case: Case, paint: Paint) -> effects.Strips:
    """Of the case's own images, which differ between attributes."""

    def strips(rows: np.ndarray, walks: Sequence[Walk], steps: np.ndarray) -> Any:
        (walk,) = walks
        at = case.rows[walk.attribute][rows]
        return paint(at, walk.attribute, np.concatenate([np.zeros(1, np.float32), steps]))  # fmt: skip

    return strips


def in_noise(case: Case) -> list[Way]:
    kinds = {
        effects.PLAIN: "noise: line",
        "euclidean": "noise: orthogonalised",
        effects.RANDOM: "noise: random (control)",
    }
    walks = effects.walks_of(case.teacher, case.attributes, tuple(kinds))
    length = effects.mean_length(case.teacher.train)
    found = []
    for kind, name in kinds.items():
        # With nothing entangled there is nothing to project out.
        own = {w.attribute: w for w in walks if w.way == effects.PLAIN}
        own |= {w.attribute: w for w in walks if w.way == kind}

        def paint(rows, attribute, steps, own=own):
            origin = pictures.origin_of(case.generator, case.opened, rows)
            amounts = np.broadcast_to(length * steps[None, :, None], (len(rows), len(steps), 1))  # fmt: skip
            return case.generator.edit(origin, own[attribute].move[None], amounts)

        found.append(
            Way(
                name=name,
                unit="mean lengths of the noise",
                steps=IN_NOISE,
                walks=_walks(name, case.attributes),
                strips=each(case, paint),
                learns="a probe on the zoo",
            )
        )
    return found


def in_h(case: Case, folder: Path, limit: int) -> list[Way]:
    """Means and components, fitted by ``une-jax hspace fit`` into ``folder``."""
    files = {}
    for method in ("means", "pca"):
        files[method] = folder / f"h_{method}.safetensors"
        if not files[method].is_file():
            how = {"method": method, "components": COMPONENTS, "limit": limit}
            Fit(zoo=case.opened.path, out=files[method], view=case.generator.name, **how).run()  # fmt: skip
    means, pca = (load_directions(file) for file in files.values())
    plain, kept, closest = {}, {}, {}
    for name in case.attributes:
        plain[name] = _one_sd(means, name)
        others = means.entangled(name)
        kept[name] = _one_sd(hspace_keeping.held(means, [name], others), name)
        cosines = pca.moves @ means.moves[means.index(name)]
        best = int(np.argmax(np.abs(cosines)))
        closest[name] = np.sign(cosines[best]) * _one_sd(pca, pca.names[best])
    made = {
        "h: class means": (plain, f"h of {limit} labelled images"),
        "h: means, others out": (kept, f"h of {limit} labelled images"),
        "h: principal component": (closest, f"h of {limit} images"),
    }
    return [
        Way(
            name=name,
            unit="standard deviations of h along the move",
            steps=IN_H,
            walks=_walks(name, case.attributes),
            strips=each(case, _moved(case, moves, symmetric=True)),
            learns=learns,
        )
        for name, (moves, learns) in made.items()
    ]


def by_asyrp(case: Case, folder: Path) -> list[Way]:
    """Functions of scripts/train_asyrp.py, in files named after the attributes."""
    files = {name: folder / f"{name}.safetensors" for name in case.attributes}
    held = {n: hspace_moves.load([f]) for n, f in files.items() if f.is_file()}
    for one in held.values():
        one.require(case.generator)
    schedule = case.generator.walk_params["steps"]

    def paint(rows: np.ndarray, attribute: str, steps: np.ndarray) -> np.ndarray:
        one = held[attribute]
        amounts = np.broadcast_to(steps[None, :, None], (len(rows), len(steps), 1))
        phases = hspace.phases(schedule, t_edit=one.t_edit)
        return inside.edit(
            case.generator, case.noise(rows), one.moves, amounts, phases,
            symmetric=False, rule=one.rule,
        )  # fmt: skip

    way = Way(
        name="Asyrp",
        unit="times what was learnt",
        steps=LEARNT,
        walks=_walks("Asyrp", held),
        strips=each(case, paint),
        learns="a training for each attribute, by text",
    )
    return [way] if held else []


def by_text(case: Case) -> list[Way]:
    kinds: dict[translation.Kind, str] = {
        "ddim": "text: DDIM",
        "dpm-encoder": "text: DPM-Encoder",
        "edit-friendly": "text: edit-friendly",
    }
    return [
        Way(
            name=name,
            unit="scale of guidance",
            steps=GUIDED,
            walks=_walks(name, case.attributes),
            strips=each(case, texts.painter(case, code)),
            learns="captions",
        )
        for code, name in kinds.items()
    ]


def _walks(way: str, attributes: Any) -> tuple[Walk, ...]:
    return tuple(Walk(attribute=name, way=way) for name in attributes)


def _moved(case: Case, moves: dict[str, np.ndarray], *, symmetric: bool) -> Paint:
    phases = hspace.phases(case.generator.walk_params["steps"])

    def paint(rows: np.ndarray, attribute: str, steps: np.ndarray) -> np.ndarray:
        amounts = np.broadcast_to(steps[None, :, None], (len(rows), len(steps), 1))
        return inside.edit(
            case.generator, case.noise(rows), moves[attribute][None], amounts, phases,
            symmetric=symmetric, rule=TABLES,
        )  # fmt: skip

    return paint


def _one_sd(held: Directions, name: str) -> np.ndarray:
    """The move of one standard deviation, (t, i, j, k)."""
    i = held.index(name)
    return hspace_files.unpack(held, [name])[0] * (held.spread[i] / held.length[i])
