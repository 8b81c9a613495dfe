"""What the app does, without its page: teach directions, move a picture, read it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from une_jax.app.bottleneck import Bottleneck
from une_jax.app.memo import Memo
from une_jax.app.meter import Meter, Reading
from une_jax.app.noise import Noise
from une_jax.app.pictures import PICTURES, Picture, Pictures, Pixels
from une_jax.app.space import Space
from une_jax.app.wish import WAYS, Wish
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import teaching
from une_jax.report.latents import flat

STRIPS = 16  # how many are kept
STILL = 1e-3  # standard deviations: less is no edit, but a slider's rounding


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
        after: the picture, moved.
        noise: what is read of the noise; None where the edit leaves that alone.
        seen: what each judge reads of the picture itself.
        left: where something is kept: how much of each step still goes the attribute's
            own way, by name.
    """

    after: Pixels
    noise: Reading | None
    seen: tuple[Reading, ...]
    left: dict[str, float]


class Studio:
    """Edits pictures of a zoo, and uploads, in the spaces of its generator views.

    Threads take turns. What was taught and drawn lately is kept.

    Args:
        pictures: of a zoo with attributes, and rows that teach them.
        judges: image encoders of the zoo's encoder views.
        inside: the file of each generator view whose bottleneck is edited as well, and
            its directions.

    Raises:
        UneError: the zoo has no attributes.
    """

    def __init__(
        self,
        pictures: Pictures,
        judges: Sequence[Judge] = (),
        inside: Mapping[str, tuple[Path, Directions]] | None = None,
    ):
        self.zoo, self.pictures, self.judges = pictures.zoo, pictures, tuple(judges)
        if not self.zoo.attribute_names:
            raise UneError(f"{self.zoo.path} has no attributes to edit: build it with --attributes")  # fmt: skip
        self.views = pictures.views
        noise = [Noise(pictures=pictures, view=v, teach=self._teacher) for v in self.views]  # fmt: skip
        h = [
            Bottleneck(pictures=pictures, view=view, file=file, directions=found)
            for view, (file, found) in (inside or {}).items()
        ]
        self.spaces: Mapping[str, Space] = {s.place: s for s in (*noise, *h)}
        """By ``Wish.place``."""
        self._teachers, self._meters = Memo[teaching.Teacher](8), Memo[Meter](8)
        self._held = Memo[Directions](32)
        self._strips, self._judged = Memo[np.ndarray](STRIPS), Memo[np.ndarray](PICTURES)  # fmt: skip

    def at(self, wish: Wish) -> Space:
        """The space of a wish.

        Raises:
            UneError: there is none, or what is asked for is not possible there.
        """
        if wish.place not in self.spaces:
            listed = ", ".join(self.spaces)
            raise UneError(f"there is no {wish.place} to edit in; there is {listed}")
        space = self.spaces[wish.place]
        if wish.unit not in space.units:
            raise UneError(f"in {space.words} amounts count in {', '.join(space.units)}, not {wish.unit}")  # fmt: skip
        for field in WAYS.keys() - set(space.ways):
            if (asked := getattr(wish, field)) != WAYS[field]:
                raise UneError(f"in {space.words} {field} is not {asked}")
        return space

    def edit(self, picture: Picture, wish: Wish) -> Edited:
        """Moves the picture, decodes and reads it.

        Raises:
            UneError: an attribute has no direction, or none beside those kept.
        """
        space = self.at(wish)
        if wish.view not in picture.origin:
            raise UneError(f"the picture has no noise in view {wish.view!r}")
        with self.pictures.lock:
            after, left, moved = picture.back, {}, None
            if wish.names:
                held = self._directions(wish)
                left = held.method.get("left", {})
                amounts = _amounts(picture, wish, held)
                if np.any(np.abs(amounts) > STILL * held.spread):
                    after = space.decode(picture, wish, held, amounts[None])[0]
                    moved = held, amounts
            noise = space.noise(picture, wish, moved)
            if noise is not None:
                start = picture.origin[wish.view][0]
                noise = self._meter(wish.view).compare(start, noise)
            seen = [self._judge(j, picture, wish.view, after) for j in self.judges]
            return Edited(after=after, noise=noise, seen=tuple(seen), left=dict(left))

    def strip(
        self, picture: Picture, wish: Wish, name: str, at: Sequence[float]
    ) -> UInt8[np.ndarray, "s h w 3"]:
        """The picture with one attribute's amount at each of ``at``, others as wished.

        Raises:
            UneError: as of ``edit``.
        """
        space = self.at(wish)

        def make() -> np.ndarray:
            held = self._directions(wish)
            amounts = [_amounts(picture, wish.moved(name, a), held) for a in at]
            return space.decode(picture, wish, held, np.stack(amounts))

        with self.pictures.lock:
            others = tuple((k, v) for k, v in wish.amounts.items() if k != name)
            how = (wish.taught, wish.unit, wish.control)
            prompts = tuple(picture.prompts or ())
            return self._strips.get((picture.id, prompts, how, others, name, tuple(at)), make)  # fmt: skip

    def warm(self, view: str, done: Callable[[str], None] = lambda what: None) -> float:
        """Does once, on a row, all that an edit does, so that the first one is quick;
        gives the seconds of the next one.

        ``done`` is told what is done next.
        """
        done(f"loading {view}")
        coder = self.pictures.coder(view)
        done("learning directions")
        spaces = [s for s in self.spaces.values() if s.view == view]
        names = [space.names()[0] for space in spaces]
        done("compiling")
        blank = np.zeros((1, coder.size, coder.size, 3), np.uint8)
        prompts = [""] if self.pictures.own_prompts(view) else None
        coder.compute(blank, np.zeros(1, int), prompts)
        picture, took = self.pictures.row(view, 0), 0.0
        for space, name in zip(spaces, names, strict=True):
            wish = Wish(view=view, space=space.where, amounts={name: 1.0})
            self.edit(picture, wish)
            self.strip(picture, wish, name, (-1.0, 0.0, 1.0))
            start = time.monotonic()
            self.edit(picture, wish.moved(name, -1.0))
            took = max(took, time.monotonic() - start)
        return took

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
        return self._held.get(wish.taught, lambda: self.at(wish).held(wish))

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
