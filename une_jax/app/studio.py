"""What the app does, without its page: teach directions, move a picture, read it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from une_jax import edits, shells
from une_jax.app.memo import Memo
from une_jax.app.meter import Meter, Reading
from une_jax.app.pictures import PICTURES, Picture, Pictures, Pixels
from une_jax.app.wish import Wish
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import teaching
from une_jax.report.latents import flat

STRIPS = 16  # how many are kept
STILL = 1e-3  # standard deviations: less is no edit, but a slider's rounding

_displace = jax.jit(edits.displace)
_restore = jax.jit(shells.restore, static_argnames="control")


@runtime_checkable
class Judge(Protocol):
    """An image encoder of the zoo, which reads the edited picture itself."""

    @property
    def name(self) -> str: ...

    def prepare(self, image: Image.Image) -> np.ndarray: ...

    def compute(self, pixels: np.ndarray, rows: np.ndarray) -> Any:
        """One prepared image -> something with ``arrays``, rows of its view."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Edited:
    """An edit of a picture.

    Attributes:
        after: the picture with its noise moved.
        readings: of the noise, and of the picture by each judge.
        left: where something is kept: how much of each step still goes the attribute's
            own way (the cosine of its move and its reader), by name.
    """

    after: Pixels
    readings: tuple[Reading, ...]
    left: dict[str, float]


class Studio:
    """Edits pictures of a zoo, and uploads, in its generator views.

    Threads take turns. What was taught and drawn lately is kept.

    Args:
        pictures: of a zoo with attributes, and rows that teach them.
        judges: image encoders of the zoo's encoder views.

    Raises:
        UneError: the zoo has no attributes.
    """

    def __init__(self, pictures: Pictures, judges: Sequence[Judge] = ()):
        self.zoo, self.pictures, self.judges = pictures.zoo, pictures, tuple(judges)
        if not self.zoo.attribute_names:
            raise UneError(f"{self.zoo.path} has no attributes to edit: build it with --attributes")  # fmt: skip
        self.views = pictures.views
        self._teachers, self._meters = Memo[teaching.Teacher](8), Memo[Meter](8)
        self._held = Memo[Directions](32)
        self._strips, self._judged = Memo[np.ndarray](STRIPS), Memo[np.ndarray](PICTURES)  # fmt: skip

    def names(self, view: str, method: teaching.Method = "probe") -> tuple[str, ...]:
        """The attributes that have a direction in a view."""
        return self._teacher(view, method).names

    def auc(self, view: str) -> dict[str, float]:
        """How well each attribute is read off the noise of test rows."""
        return self._teacher(view, "probe").auc

    def edit(self, picture: Picture, wish: Wish) -> Edited:
        """Moves the picture's noise, decodes and reads it.

        Raises:
            UneError: an attribute has no direction, or none beside those kept.
        """
        if wish.view not in picture.origin:
            raise UneError(f"the picture has no noise in view {wish.view!r}")
        with self.pictures.lock:
            noise = start = picture.origin[wish.view][0]
            after, left = picture.back, {}
            if wish.names:
                held = self._directions(wish)
                left = held.method.get("left", {})
                amounts = _amounts(picture, wish, held)
                if np.any(np.abs(amounts) > STILL * held.spread):
                    after = self._decoded(picture, wish, amounts[None])[0]
                    noise = _moved(start, held, amounts, wish.control)
            readings = [self._meter(wish.view).compare(start, noise)]
            readings += [self._judge(j, picture, wish.view, after) for j in self.judges]
            return Edited(after=after, readings=tuple(readings), left=dict(left))

    def strip(
        self, picture: Picture, wish: Wish, name: str, at: Sequence[float]
    ) -> UInt8[np.ndarray, "s h w 3"]:
        """The picture with one attribute's amount at each of ``at``, others as wished.

        Raises:
            UneError: as of ``edit``.
        """

        def make() -> np.ndarray:
            held = self._directions(wish)
            amounts = [_amounts(picture, wish.moved(name, a), held) for a in at]
            return self._decoded(picture, wish, np.stack(amounts))

        with self.pictures.lock:
            others = tuple((k, v) for k, v in wish.amounts.items() if k != name)
            how = (wish.taught, wish.unit, wish.control)
            prompts = tuple(picture.prompts or ())
            return self._strips.get((picture.id, prompts, how, others, name, tuple(at)), make)  # fmt: skip

    def rest(self, picture: Picture, wish: Wish, name: str) -> float:
        """Where an attribute's slider stands while nothing is changed."""
        if wish.unit != "margin":
            return 0.0
        found = self._teacher(wish.view, wish.method).directions
        scores = found.scores(flat(picture.origin[wish.view]))
        return float(scores[0, found.index(name)])

    def span(self, wish: Wish, name: str, deviations: float) -> tuple[float, float]:
        """From where to where an attribute's slider goes, in the wish's unit: so many
        standard deviations either way of the average training row."""
        if wish.unit == "sd":
            return -deviations, deviations
        teacher = self._teacher(wish.view, wish.method)
        found, m = teacher.directions, teacher.directions.index(name)
        if wish.unit == "raw":
            far = deviations * float(found.spread[m] / max(found.length[m], 1e-12))
            return -far, far
        scores = found.scores(teacher.train)[:, m]
        middle, far = float(scores.mean()), deviations * float(scores.std())
        return middle - far, middle + far

    def entangled(self, view: str, name: str) -> tuple[str, ...]:
        """The attributes that an edit of this one carries along, the most so first."""
        return self._teacher(view, "probe").entangled(name)

    def warm(self, view: str, done: Callable[[str], None] = lambda what: None) -> float:
        """Does once, on a row, all that an edit does, so that the first one is quick;
        gives the seconds of the next one.

        ``done`` is told what is done next.
        """
        done(f"loading {view}")
        coder = self.pictures.coder(view)
        done("learning directions")
        name = self.names(view)[0]
        done("compiling")
        blank = np.zeros((1, coder.size, coder.size, 3), np.uint8)
        prompts = [""] if self.pictures.own_prompts(view) else None
        coder.compute(blank, np.zeros(1, int), prompts)
        picture = self.pictures.row(view, 0)
        wish = Wish(view=view, amounts={name: 1.0})
        self.edit(picture, wish)
        self.strip(picture, wish, name, (-1.0, 0.0, 1.0))
        start = time.monotonic()
        self.edit(picture, wish.moved(name, -1.0))
        return time.monotonic() - start

    def _teacher(self, view: str, method: teaching.Method) -> teaching.Teacher:
        with self.pictures.lock:
            return self._teachers.get(
                (view, method), lambda: teaching.teach(self.zoo, view, method=method)
            )

    def _meter(self, view: str) -> Meter:
        return self._meters.get(
            view, lambda: Meter.of(view, self._teacher(view, "probe"))
        )

    def _directions(self, wish: Wish) -> Directions:
        teacher = self._teacher(wish.view, wish.method)
        return self._held.get(
            wish.taught, lambda: teacher.held(wish.names, wish.keep, wish.how)
        )

    def _decoded(self, picture: Picture, wish: Wish, amounts: np.ndarray) -> np.ndarray:
        """(s, m) amounts -> (s, h, w, 3)."""
        return self.pictures.coder(wish.view).edit(
            picture.origin,
            self._directions(wish).moves,
            amounts[None],
            control=wish.control,
            prompts=picture.prompts,
        )[0]

    def _judge(
        self, judge: Judge, picture: Picture, view: str, after: Pixels
    ) -> Reading:
        def look(pixels: Pixels) -> np.ndarray:
            prepared = judge.prepare(Image.fromarray(pixels))[None]
            return judge.compute(prepared, np.zeros(1, int)).arrays[judge.name][0]

        key = (judge.name, view, picture.id, tuple(picture.prompts or ()))
        before = self._judged.get(key, lambda: look(picture.back))
        seen = before if after is picture.back else look(after)
        return self._meter(judge.name).compare(before, seen)


def _amounts(picture: Picture, wish: Wish, held: Directions) -> Float32[np.ndarray, " m"]:  # fmt: skip
    x = flat(picture.origin[wish.view])
    return held.amounts(wish.amounts, (1.0,), wish.unit, x)[0, 0]


def _moved(
    noise: np.ndarray, held: Directions, amounts: np.ndarray, control: shells.Control
) -> np.ndarray:
    start = np.asarray(noise, np.float32)
    moved = _displace(start, held.moves, amounts)
    return np.asarray(_restore(moved, start, control=control))
