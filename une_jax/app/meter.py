"""How much of each attribute a latent has, as the probes of its view read it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32

from une_jax.directions import Directions
from une_jax.report.latents import flat

if TYPE_CHECKING:
    from une_jax.report.teaching import Teacher


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One picture before and after an edit: log odds of every attribute.

    Attributes:
        view: what was read: the noise, or an encoder's embedding of the picture.
        names: of the a attributes.
        before, after: log odds; above 0 the probe says yes.
        spread: standard deviation of the training rows' log odds: what is much.
        auc: of each probe on the test rows: how far to trust it.
    """

    view: str
    names: tuple[str, ...]
    before: Float32[np.ndarray, " a"]
    after: Float32[np.ndarray, " a"]
    spread: Float32[np.ndarray, " a"]
    auc: Float32[np.ndarray, " a"]


@dataclass(frozen=True, kw_only=True)
class Meter:
    """All probes of one view."""

    view: str
    directions: Directions
    spread: Float32[np.ndarray, " a"]
    auc: Float32[np.ndarray, " a"]

    @classmethod
    def of(cls, view: str, teacher: "Teacher") -> "Meter":
        """The probes that a teacher learnt, and how its training rows spread."""
        found = teacher.directions
        scores = found.scores(teacher.train)
        auc = [teacher.auc.get(name, np.nan) for name in found.names]
        return cls(
            view=view,
            directions=found,
            spread=np.maximum(scores.std(axis=0), 1e-12).astype(np.float32),
            auc=np.asarray(auc, np.float32),
        )

    def read(self, latents: Float[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n a"]:
        """Log odds of each attribute in each of n latents."""
        return self.directions.scores(flat(latents))

    def compare(
        self, before: Float[np.ndarray, "..."], after: Float[np.ndarray, "..."]
    ) -> Reading:
        """One latent before and after."""
        a, b = self.read(np.stack([before, after]))
        return Reading(
            view=self.view,
            names=self.directions.names,
            before=a,
            after=b,
            spread=self.spread,
            auc=self.auc,
        )
