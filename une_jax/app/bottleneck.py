"""A generator's bottleneck h as a space: directions come from a file, noise stays."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, UInt8

from une_jax import hspace_files, hspace_keeping
from une_jax.app.noise import reach
from une_jax.app.pictures import Picture, Pictures
from une_jax.app.wish import Where, Wish
from une_jax.directions import Directions, Unit
from une_jax.report.teaching import Method


@dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck:
    """Moves h at every step of sampling; a ``Space``.

    Attributes:
        pictures: of the zoo.
        view: the generator view whose UNet it is.
        directions: of ``hspace_files``, of that view.
        file: where they are from.
    """

    pictures: Pictures
    view: str
    directions: Directions
    file: Path
    where: ClassVar[Where] = "h"
    words: ClassVar[str] = "the UNet's bottleneck (h)"
    units: ClassVar[tuple[Unit, ...]] = ("sd", "raw")
    ways: ClassVar[tuple[str, ...]] = ()

    @property
    def place(self) -> str:
        """What files call an h."""
        return f"{self.view}.h"

    def names(self, method: Method = "probe") -> tuple[str, ...]:
        """Those of the file."""
        return self.directions.names

    def auc(self) -> dict[str, float]:
        """A file does not say."""
        return {}

    def entangled(self, name: str) -> tuple[str, ...]:
        """Those whose moves are close."""
        return self.directions.entangled(name)

    def held(self, wish: Wish) -> Directions:
        """By linear projection."""
        return hspace_keeping.held(self.directions, wish.names, wish.keep)

    def decode(
        self,
        picture: Picture,
        wish: Wish,
        held: Directions,
        amounts: Float32[np.ndarray, "s m"],
    ) -> UInt8[np.ndarray, "s h w 3"]:
        """The noise as it is, sampled with h moved."""
        own, combined = factors(amounts / held.length)
        moves = np.tensordot(combined, hspace_files.unpack(held), 1)
        return self.pictures.coder(self.view).edit_inside(
            picture.origin, moves, own[None], prompts=picture.prompts
        )[0]

    def noise(
        self,
        picture: Picture,
        wish: Wish,
        moved: tuple[Directions, Float32[np.ndarray, " m"]] | None,
    ) -> None:
        """It stays as it is."""

    def rest(self, picture: Picture, wish: Wish, name: str) -> float:
        """Always 0."""
        return 0.0

    def span(self, wish: Wish, name: str, deviations: float) -> tuple[float, float]:
        """About where the picture is."""
        return reach(self.directions, name, wish.unit, deviations)

    def settings(self, wish: Wish) -> dict[str, Any]:
        """Without what means nothing here, and with the directions' origin."""
        own = ("view", "space", "amounts", "keep", "unit")
        told = {name: value for name, value in wish.as_json().items() if name in own}
        return {**told, "directions": str(self.file), "found by": self.directions.method}  # fmt: skip

    def command(self, wish: Wish, image: str, prompt: str = "") -> str | None:
        """``une-jax hspace edit`` with the file; none where something is kept, which is
        decided there when directions are found."""
        if wish.keep:
            return None
        parts = ["une-jax", "hspace", "edit", "--directions", str(self.file)]
        parts += ["--image", image, "--attribute", *wish.moved_words, "--strength", "1"]
        if wish.unit != "sd":
            parts += ["--unit", wish.unit]
        if prompt:
            parts += ["--prompt", prompt]
        return shlex.join([*parts, "--out", "edited"])


def factors(
    amounts: Float32[np.ndarray, "s m"],
) -> tuple[Float32[np.ndarray, "s 2"], Float32[np.ndarray, "2 m"]]:
    """Amounts of m moves as those of two: the same program serves any number of sliders.

    The first is where the first place is, the second the way from there; all places of
    a strip lie on one line.

    >>> own, combined = factors(np.array([[1, 2], [1, 5], [1, 8]], np.float32))
    >>> own.tolist(), combined.tolist()
    ([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]], [[1.0, 2.0], [0.0, 6.0]])
    """
    start, way = amounts[0], amounts[-1] - amounts[0]
    length = float(way @ way)
    along = (amounts - start) @ way / length if length else np.zeros(len(amounts))
    own = np.stack([np.ones(len(amounts)), along], axis=1)
    return own.astype(np.float32), np.stack([start, way]).astype(np.float32)
