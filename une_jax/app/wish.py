"""What somebody at the page asks of a picture: some attributes, others left alone."""

import dataclasses
import math
import shlex
from typing import Any

from une_jax.directions import Unit
from une_jax.errors import UneError
from une_jax.report.teaching import Keeping, Method
from une_jax.shells import Control


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """An edit, as far as it does not depend on the picture.

    Attributes:
        view: the generator view in whose noise the picture is moved.
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
    def taught(self) -> tuple[Any, ...]:
        """All that the directions depend on; equal wishes here share directions."""
        # Without anything to keep, the way of keeping makes no difference.
        how = self.how if self.keep else None
        return self.view, self.method, self.names, frozenset(self.keep), how

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

    def command(self, zoo: str, image: str, prompt: str = "") -> str:
        """The same edit of an image file at the command line.

        >>> wish = Wish(view="sd15", amounts={"Smiling": 2.0}, keep=("Male",))
        >>> wish.command("zoo", "me.jpg")
        'une-jax edit --zoo zoo --view sd15 --image me.jpg --attribute Smiling=2 --strength 1 --keep Male --out edited'
        """
        moved = [f"{name}={amount:g}" for name, amount in self.amounts.items()]
        parts = ["une-jax", "edit", "--zoo", zoo, "--view", self.view, "--image", image]
        parts += ["--attribute", *moved, "--strength", "1"]
        if self.keep:
            parts += ["--keep", *self.keep]
        own = {"method": "probe", "how": "euclidean", "unit": "sd", "control": "off"}
        for field, usual in own.items():
            if (value := getattr(self, field)) != usual:
                parts += ["--norm" if field == "control" else f"--{field}", value]
        if prompt:
            parts += ["--prompt", prompt]
        return shlex.join([*parts, "--out", "edited"])

    def as_json(self) -> dict[str, Any]:
        """The settings file's part of this."""
        return {**dataclasses.asdict(self), "keep": list(self.keep)}
