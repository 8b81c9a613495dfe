"""The noise of a generator view as a space: the zoo itself teaches its directions."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from une_jax import edits, shells
from une_jax.app.pictures import Picture, Pictures
from une_jax.app.wish import WAYS, Where, Wish
from une_jax.directions import UNITS, Directions, Unit
from une_jax.report.latents import flat
from une_jax.report.teaching import Method, Teacher

_displace = jax.jit(edits.displace)
_restore = jax.jit(shells.restore, static_argnames="control")


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Moves the noise itself; a ``Space``.

    Attributes:
        pictures: of the zoo.
        view: the generator view.
        teach: gives the teacher of a view by a method.
    """

    pictures: Pictures
    view: str
    teach: Callable[[str, Method], Teacher]
    where: ClassVar[Where] = "noise"
    words: ClassVar[str] = "the noise"
    units: ClassVar[tuple[Unit, ...]] = UNITS
    ways: ClassVar[tuple[str, ...]] = tuple(WAYS)

    @property
    def place(self) -> str:
        """The view's own name."""
        return self.view

    def names(self, method: Method = "probe") -> tuple[str, ...]:
        """The attributes that have a direction."""
        return self.teach(self.view, method).names

    def auc(self) -> dict[str, float]:
        """Of each attribute's probe."""
        return self.teach(self.view, "probe").auc

    def entangled(self, name: str) -> tuple[str, ...]:
        """Those whose probes are close."""
        return self.teach(self.view, "probe").entangled(name)

    def held(self, wish: Wish) -> Directions:
        """In the way of the wish."""
        teacher = self.teach(self.view, wish.method)
        return teacher.held(wish.names, wish.keep, wish.how)

    def decode(
        self,
        picture: Picture,
        wish: Wish,
        held: Directions,
        amounts: Float32[np.ndarray, "s m"],
    ) -> UInt8[np.ndarray, "s h w 3"]:
        """The moved noise, sampled."""
        return self.pictures.coder(self.view).edit(
            picture.origin,
            held.moves,
            amounts[None],
            control=wish.control,
            prompts=picture.prompts,
        )[0]

    def noise(
        self,
        picture: Picture,
        wish: Wish,
        moved: tuple[Directions, Float32[np.ndarray, " m"]] | None,
    ) -> Float32[np.ndarray, "c h w"]:
        """As it is sampled."""
        start = np.asarray(picture.origin[self.view][0], np.float32)
        if moved is None:
            return start
        held, amounts = moved
        there = _displace(start, held.moves, amounts)
        return np.asarray(_restore(there, start, control=wish.control))

    def rest(self, picture: Picture, wish: Wish, name: str) -> float:
        """0, or the score that the noise has."""
        if wish.unit != "margin":
            return 0.0
        found = self.teach(self.view, wish.method).directions
        scores = found.scores(flat(picture.origin[self.view]))
        return float(scores[0, found.index(name)])

    def span(self, wish: Wish, name: str, deviations: float) -> tuple[float, float]:
        """In scores, about their mean."""
        teacher = self.teach(self.view, wish.method)
        found = teacher.directions
        if wish.unit != "margin":
            return reach(found, name, wish.unit, deviations)
        scores = found.scores(teacher.train)[:, found.index(name)]
        middle, far = float(scores.mean()), deviations * float(scores.std())
        return middle - far, middle + far

    def settings(self, wish: Wish) -> dict[str, Any]:
        """All of it."""
        return wish.as_json()

    def command(self, wish: Wish, image: str, prompt: str = "") -> str:
        """``une-jax edit`` with the zoo."""
        parts = ["une-jax", "edit", "--zoo", str(self.pictures.zoo.path)]
        parts += ["--view", self.view, "--image", image]
        parts += ["--attribute", *wish.moved_words, "--strength", "1"]
        if wish.keep:
            parts += ["--keep", *wish.keep]
        for field, usual in {**WAYS, "unit": "sd"}.items():
            if (value := getattr(wish, field)) != usual:
                parts += ["--norm" if field == "control" else f"--{field}", value]
        if prompt:
            parts += ["--prompt", prompt]
        return shlex.join([*parts, "--out", "edited"])


def reach(
    directions: Directions, name: str, unit: Unit, deviations: float
) -> tuple[float, float]:
    """So many standard deviations either way of where a picture is, in ``unit``."""
    if unit == "sd":
        return -deviations, deviations
    m = directions.index(name)
    far = deviations * float(
        directions.spread[m] / max(float(directions.length[m]), 1e-12)
    )
    return -far, far
