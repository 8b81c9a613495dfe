"""What somebody at the page asks of a picture: some attributes, others left alone."""

import dataclasses
import math
from typing import Any, Literal

from une_jax.directions import Unit
from une_jax.errors import UneError
from une_jax.report.teaching import Keeping, Method
from une_jax.shells import Control

Where = Literal["noise", "h"]
# What can be chosen in some spaces, and what it is where nobody chooses.
WAYS = {"method": "probe", "how": "euclidean", "control": "off"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """An edit, as far as it does not depend on the picture.

    Attributes:
        view: the generator view in which the picture is moved.
        space: in its noise, or in its UNet's bottleneck h.
        amounts: how far along each attribute's direction, by name, in ``unit``.
        keep: attributes that are to stay as they are.
        method: how directions are learnt (``teaching.METHODS``).
        how: in what sense the kept ones are left alone (``teaching.KEEPINGS``).
        unit: of the amounts, see ``Directions.amounts``.
        control: what is kept of the noise's norm (see ``une_jax.shells``).

    Raises:
        UneError: an amount is not finite, or an attribute is both changed and kept.

    >>> Wish(view="sd15", amounts={"Smiling": 2.0}, keep=("Male",)).unit
    'sd'
    """

    view: str
    amounts: dict[str, float]
    space: Where = "noise"
    keep: tuple[str, ...] = ()
    method: Method = "probe"
    how: Keeping = "euclidean"
    unit: Unit = "sd"
    control: Control = "off"

    def __post_init__(self):
        for name, amount in self.amounts.items():
            if not math.isfinite(amount):
                raise UneError(f"{name}: {amount} is not finite")
        if both := sorted(set(self.amounts) & set(self.keep)):
            raise UneError(
                f"{', '.join(both)}: cannot be changed and kept at once; untick one"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes that are changed."""
        return tuple(self.amounts)

    @property
    def place(self) -> str:
        """The name of what is moved: of the view, or of its h.

        >>> Wish(view="sd15", space="h", amounts={}).place
        'sd15.h'
        """
        return self.view if self.space == "noise" else f"{self.view}.{self.space}"

    @property
    def taught(self) -> tuple[Any, ...]:
        """All that the directions depend on; equal wishes here share directions."""
        # Without anything to keep, the way of keeping makes no difference.
        how = self.how if self.keep else None
        return self.place, self.method, self.names, frozenset(self.keep), how

    @property
    def moved_to(self) -> dict[str, float]:
        """The amounts that change something; a score can be brought to 0 too.

        >>> Wish(view="sd15", amounts={"Smiling": 2.0, "Male": 0.0}).moved_to
        {'Smiling': 2.0}
        """
        every = self.unit == "margin"
        return {
            name: amount for name, amount in self.amounts.items() if amount or every
        }

    def moved(self, name: str, amount: float) -> "Wish":
        """The same with one attribute's slider elsewhere."""
        return dataclasses.replace(self, amounts={**self.amounts, name: amount})

    @property
    def moved_words(self) -> list[str]:
        """The amounts as the command line takes them.

        >>> Wish(view="sd15", amounts={"Smiling": 2.0, "Male": -0.5}).moved_words
        ['Smiling=2', 'Male=-0.5']
        """
        return [f"{name}={amount:g}" for name, amount in self.amounts.items()]

    def as_json(self) -> dict[str, Any]:
        """The settings file's part of this."""
        return {**dataclasses.asdict(self), "keep": list(self.keep)}
