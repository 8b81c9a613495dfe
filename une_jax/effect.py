"""What an edit did to images: what it should, what else, and who it is now.

A judge reads every image's scores off its pixels: a network that never saw the generator
or the probes that made the edit. The miniature ships one
(:mod:`une_jax.miniature.regressor`); on photographs an encoder with probes of its own
does (:mod:`une_jax.report.judges`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from une_jax.normalise import unit


class Reading(NamedTuple):
    """What a judge sees in n images.

    scores: (n, a) of each attribute, in standard deviations over many images;
    identity: (n, k) what says who it is, about 0 for the average of them.
    """

    scores: Float[Array, "n a"]
    identity: Float[Array, "n k"]


class Effect(NamedTuple):
    """Of n edits of one attribute; scores in standard deviations over many images.

    change: (n, a) every score's change; intended: (n,) that of the edited one;
    collateral: (n,) root mean square of the others'; identity: (n,) cosine of what says
    who it is before and after: 1 for the same person, 0 on average for two strangers.
    """

    change: Float[Array, "n a"]
    intended: Float[Array, " n"]
    collateral: Float[Array, " n"]
    identity: Float[Array, " n"]


def measure(
    before: Reading,
    after: Reading,
    attribute: int,
    own: Float[Array, " k"] | None = None,
) -> Effect:
    """The effect of an edit of attribute number ``attribute``, image by image.

    Of the miniature, an edit that follows the planted correlations changes score j by
    ``(MIXING @ MIXING.T)[attribute, j]`` times the intended change: collateral, but no
    fault of the direction's estimate. Works under jit and vmap.

    Args:
        before: the *decoded* unedited image, so that the generator's own error is not
            taken for the edit's.
        after: of the edited one.
        attribute: a column of the scores, of two or more.
        own: what of ``identity`` the edit is to change, taken out of both; of any
            length, and zeros take out nothing.

    >>> faces = Reading(jnp.zeros((1, 3)), jnp.ones((1, 2)))
    >>> moved = faces._replace(scores=jnp.array([[2.0, 1.0, 1.0]]))
    >>> effect = measure(faces, moved, attribute=0)
    >>> float(effect.intended[0]), float(effect.collateral[0])
    (2.0, 1.0)
    """
    change = after.scores - before.scores
    intended = change[:, attribute]
    others = jnp.square(change).at[:, attribute].set(0).sum(1)
    collateral = jnp.sqrt(others / (change.shape[1] - 1))
    old, new = before.identity, after.identity
    if own is not None:
        axis = unit(own)
        old, new = (x - jnp.outer((x * axis[None]).sum(1), axis) for x in (old, new))
    norms = jnp.linalg.norm(old, axis=1) * jnp.linalg.norm(new, axis=1)
    dots = (old * new).sum(1)
    tiny = jnp.finfo(dots.dtype).tiny
    return Effect(change, intended, collateral, dots / jnp.maximum(norms, tiny))
