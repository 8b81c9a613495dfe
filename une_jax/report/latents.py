"""Latents of a NoiseZoo as the analyses take them: flat, float32, finite."""

import numpy as np
from jaxtyping import Float, Int

from une_jax.errors import UneError
from une_jax.zoo import Zoo

# PCA components of the paper's probes (section 4 of the paper), by kind of view.
NOISES = ("generator", "latent", "control", "code")
COMPONENTS = {**dict.fromkeys(NOISES, 500), "encoder": 310}


def read(
    zoo: Zoo, view: str, rows: Int[np.ndarray, " n"] | slice
) -> Float[np.ndarray, "n d"]:
    """These of the zoo's ok rows.

    Raises:
        UneError: there is no such view, or a value is not finite.
    """
    x = flat(zoo[view][rows])
    require_finite(view, x)
    return x


def flat(latents: np.ndarray) -> Float[np.ndarray, "n d"]:
    """(n, ...) of any float dtype -> (n, d) float32."""
    return np.asarray(latents, np.float32).reshape(len(latents), -1)


def require_finite(view: str, x: Float[np.ndarray, "n d"]) -> None:
    """Refuses NaN and infinities, by the first column that has one.

    Raises:
        UneError: there is one.
    """
    wrong = np.flatnonzero(~np.isfinite(x).all(axis=0))
    if len(wrong):
        raise UneError(
            f"view {view!r} has values that are not finite, in {len(wrong)} columns, "
            f"first in column {wrong[0]}: build it anew, or leave it out with --view"
        )
