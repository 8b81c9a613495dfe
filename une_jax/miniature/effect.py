"""What an edit did to a miniature face: what it should, what else, and who it is now."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from une_jax.miniature.regressor import Estimates


class Effect(NamedTuple):
    """Of n edits of one attribute; scores in standard deviations over all faces.

    change: (n, attributes) every score's change; intended: (n,) that of the edited
    one; collateral: (n,) root mean square of the others'; identity: (n,) cosine of the
    nuisance factors (pose, light, colours) before and after, which no attribute depends
    on: 1 for the same person, 0 on average for two strangers.
    """

    change: Float[Array, "n a"]
    intended: Float[Array, " n"]
    collateral: Float[Array, " n"]
    identity: Float[Array, " n"]


def measure(before: Estimates, after: Estimates, attribute: int) -> Effect:
    """The effect of an edit of ``factors.NAMES[attribute]``, face by face.

    ``before`` should be the estimates of the *decoded* unedited image, so that the
    generator's own error is not taken for the edit's. An edit that follows the planted
    correlations changes score j by ``(MIXING @ MIXING.T)[attribute, j]`` times the
    intended change: collateral, but no fault of the direction's estimate. Works under
    jit and vmap.

    >>> faces = Estimates(jnp.zeros((1, 3)), jnp.ones((1, 2)))
    >>> moved = faces._replace(scores=jnp.array([[2.0, 1.0, 1.0]]))
    >>> effect = measure(faces, moved, attribute=0)
    >>> float(effect.intended[0]), float(effect.collateral[0])
    (2.0, 1.0)
    """
    change = after.scores - before.scores
    intended = change[:, attribute]
    others = jnp.square(change).sum(1) - jnp.square(intended)
    collateral = jnp.sqrt(jnp.maximum(others, 0) / (change.shape[1] - 1))
    norms = [jnp.linalg.norm(e.nuisance, axis=1) for e in (before, after)]
    dots = (before.nuisance * after.nuisance).sum(1)
    tiny = jnp.finfo(dots.dtype).tiny
    return Effect(
        change, intended, collateral, dots / jnp.maximum(norms[0] * norms[1], tiny)
    )
