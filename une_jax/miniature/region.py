"""Where in a face an attribute is: the pixels that change with its score alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from une_jax.miniature import render
from une_jax.miniature.factors import NAMES, THRESHOLDS, Truth

# Scores to either side of the threshold; brightness by which a pixel has changed; and
# what a generator's blur spills beyond it, in pixels.
REACH, LEAST, SPILL = 1.5, 0.02, 2


def region(truth: Truth, attribute: str) -> Bool[np.ndarray, "n 64 64"]:
    """Of each face, painted far below and above the attribute's threshold, with all
    other scores and nuisances as they are.

    >>> from une_jax.miniature import factors
    >>> face = factors.draw(jax.random.key(0), 1)
    >>> bool(0 < region(face, "Smiling").mean() < region(face, "Wearing_Hat").mean())
    True
    """
    a = NAMES.index(attribute)
    low, high = (
        render.faces(truth.scores.at[:, a].set(THRESHOLDS[a] + by), truth.nuisance)
        for by in (-REACH, REACH)
    )
    return np.asarray(_differ(low, high))


@jax.jit
def _differ(low: Float[Array, "n h w 3"], high: Float[Array, "n h w 3"]) -> Array:
    apart = (jnp.abs(low - high).max(-1) > LEAST).astype(jnp.float32)
    wide = 2 * SPILL + 1
    grown = jax.lax.reduce_window(
        apart, 0.0, jax.lax.max, (1, wide, wide), (1, 1, 1), "SAME"
    )
    return grown > 0
