"""What the report is about: a zoo, and what more than one section computes from it."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from une_jax import metrics
from une_jax.report import known, probing
from une_jax.zoo import View, Zoo

REPLICATES = 200  # of the bootstrap over the test rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A zoo, or a sample of one, and the true factors of its images where known."""

    zoo: Zoo
    truth: Path | None = None

    def views(self, *kinds: str) -> list[View]:
        """Of these kinds, in the zoo's order."""
        return [view for view in self.zoo.manifest.views if view.kind in kinds]

    def names(self, *kinds: str) -> tuple[str, ...]:
        """Their names."""
        return tuple(view.name for view in self.views(*kinds))

    @functools.cached_property
    def briefly(self) -> tuple[str, ...]:
        """Noise and embeddings; of the controls, the first generator's alone."""
        first = self.names("generator")[:1]
        controls = [n for n in self.names("control") if n.rpartition(".")[0] in first]
        shown = {*self.names("generator", "encoder"), *controls}
        return tuple(name for name in self.zoo.views if name in shown)

    @functools.cached_property
    def probed(self) -> dict[str, probing.ViewProbe]:
        """The paper's probe of each view, by its name."""
        return {v: probing.probe_view(self.zoo, v) for v in probing.spaces(self.zoo)}

    @functools.cached_property
    def drawn(self) -> dict[str, metrics.ProbeMetrics]:
        """The same on test rows drawn anew."""
        return {
            name: probing.draws(p, replicates=REPLICATES)
            for name, p in self.probed.items()
        }

    @functools.cached_property
    def scores(self) -> Float[np.ndarray, "n a"] | None:
        """The true scores of the rows and attributes, where the truth is known."""
        if self.truth is None:
            return None
        found = known.of_zoo(self.truth, self.zoo).scores
        return np.asarray(found)[:, known.columns(self.zoo.attribute_names)]
