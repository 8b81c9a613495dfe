"""Where pictures are moved: what can be changed there, in which units and ways."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from une_jax.app.pictures import Picture
from une_jax.app.wish import Where, Wish
from une_jax.directions import Directions, Unit
from une_jax.report.teaching import Method


@runtime_checkable
class Space(Protocol):
    """The noise of a generator view (``noise``), or its UNet's bottleneck
    (``bottleneck``). A studio asks with the devices locked.
    """

    where: ClassVar[Where]
    words: ClassVar[str]
    """What people call it."""
    units: ClassVar[tuple[Unit, ...]]
    """Those that amounts can count in, the usual one first."""
    ways: ClassVar[tuple[str, ...]]
    """The fields of a wish that can be chosen besides: method, how, control."""

    @property
    def view(self) -> str:
        """The generator view, whose pictures are moved."""
        ...

    @property
    def place(self) -> str:
        """As of ``Wish.place``."""
        ...

    def names(self, method: Method = "probe") -> tuple[str, ...]:
        """What has a direction."""
        ...

    def auc(self) -> dict[str, float]:
        """How well each is read off this space in test rows, where that is known."""
        ...

    def entangled(self, name: str) -> tuple[str, ...]:
        """The others that an edit of this one carries along, the most so first."""
        ...

    def held(self, wish: Wish) -> Directions:
        """Those of a wish, with what it keeps left alone.

        Raises:
            UneError: something has no direction, or none beside those kept.
        """
        ...

    def decode(
        self,
        picture: Picture,
        wish: Wish,
        held: Directions,
        amounts: Float32[np.ndarray, "s m"],
    ) -> UInt8[np.ndarray, "s h w 3"]:
        """The picture at s places, which lie on one line."""
        ...

    def noise(
        self,
        picture: Picture,
        wish: Wish,
        moved: tuple[Directions, Float32[np.ndarray, " m"]] | None,
    ) -> Float32[np.ndarray, "c h w"] | None:
        """The picture's noise, ``moved`` by amounts of the held directions if at all;
        None where no edit moves the noise."""
        ...

    def rest(self, picture: Picture, wish: Wish, name: str) -> float:
        """Where a slider stands while nothing is changed."""
        ...

    def span(self, wish: Wish, name: str, deviations: float) -> tuple[float, float]:
        """From where to where a slider goes, in the wish's unit: so many standard
        deviations either way of the average training row."""
        ...

    def settings(self, wish: Wish) -> dict[str, Any]:
        """The settings file's part of a wish: what it means here."""
        ...

    def command(self, wish: Wish, image: str, prompt: str = "") -> str | None:
        """What does the same to an image file at the command line, if anything does."""
        ...
