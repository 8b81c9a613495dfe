"""Directions of h that examples teach: differences of means, held apart from others.

Haas et al., arXiv 2303.11073, on supervised directions and on disentangling them by linear
projection. A direction is (t, *h), one move for each step of the sampler. It is a
weighted sum of samples, and what each weighs is decided by scores alone: :func:`contrast` and :func:`balanced` give the weights, :func:`difference`
the direction. Sums add: the direction of samples that come in batches is the sum of the
batches' differences, each with its part of the weights.

Unsupervised ones are in ``hspace_pca`` and ``jacobian``.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from une_jax import edits
from une_jax.errors import UneError


def contrast(
    score: Float[Array, " n"], count: int, *, within: Bool[Array, " n"] | None = None
) -> Float32[Array, " n"]:
    """Weights of the mean of the ``count`` highest scores less that of the lowest.

    Each side sums to 1 and -1. Equal scores are taken in the order of the samples, NaN
    never. Within a stratum of fewer than 2 ``count`` samples, half of them are high and
    half low; where there is none or one, all weights are 0.

    Of pairs of images that differ in one thing (the paper's expressions), give the score
    1 to one half, -1 to the other, and all of them as ``count``. Works under jit and
    vmap (``count`` static); over ``within`` for the same direction in each of some
    strata, the paper's conditional manipulation.

    Args:
        score: how much of the attribute a sample has.
        count: of each side; the paper takes 100 of 10,000.
        within: the samples to choose from; all, where left out.

    Raises:
        UneError: ``count`` is not within 1 and half the samples.

    >>> contrast(jnp.array([0.1, 0.9, 0.8, 0.2, 0.5]), 2).tolist()
    [-0.5, 0.5, 0.5, -0.5, 0.0]
    >>> contrast(jnp.arange(4.0), 1, within=jnp.array([True, True, True, False])).tolist()
    [-1.0, 0.0, 1.0, 0.0]
    """
    n = len(score)
    if not 1 <= count <= n // 2:
        raise UneError(f"count is {count}; of {n} samples use 1 to {n // 2} a side")
    inside = ~jnp.isnan(score)
    inside = inside if within is None else inside & within
    # From the lowest up; those outside come last.
    order = jnp.lexsort((score, ~inside))
    rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    total = inside.sum(dtype=jnp.int32)
    each = jnp.minimum(count, total // 2)
    low, high = rank < each, (rank >= total - each) & inside
    sides = high.astype(jnp.float32) - low.astype(jnp.float32)
    return sides / jnp.maximum(each, 1).astype(jnp.float32)


def balanced(
    score: Float[Array, " n"], strata: Int[Array, " n"], count: int, *, levels: int
) -> Float32[Array, " n"]:
    """:func:`contrast` within each stratum, averaged: what else differs cancels.

    Both sides then have the strata in equal parts, so that a second attribute which
    defines them (gender, for glasses) is not in the difference. Works under jit and
    vmap (``count`` and ``levels`` static).

    Args:
        strata: of each sample, from 0 up to ``levels`` - 1. Others belong to none, as
            -1 for a sample whose second attribute is undecided.
        count: of each side, over all strata together.
        levels: how many strata. One of fewer than two samples does not count.

    Raises:
        UneError: ``count`` does not give every stratum 1, or more than half the samples.

    >>> score, strata = jnp.arange(6.0), jnp.array([0, 0, 0, 1, 1, -1])
    >>> balanced(score, strata, 2, levels=2).tolist()
    [-0.5, 0.0, 0.5, -0.5, 0.5, 0.0]
    """
    if levels < 1 or count < levels:
        raise UneError(f"count is {count} for {levels} strata; use 1 or more for each")
    each = jax.vmap(
        lambda level: contrast(score, count // levels, within=strata == level)
    )(jnp.arange(levels, dtype=strata.dtype))
    there = jnp.any(each != 0, axis=1).sum(dtype=jnp.int32)
    return each.sum(axis=0) / jnp.maximum(there, 1).astype(jnp.float32)


@jax.default_matmul_precision("float32")
def difference(
    h: Float[Array, "n t *h"], weights: Float[Array, " n"]
) -> Float32[Array, " t *h"]:
    """The direction: the samples' weighted sum at each step.

    With weights of :func:`contrast`, arXiv 2303.11073's v_t = mean(h+) - mean(h-).

    One step after the other, so that h may be float16. An edit adds it times a
    strength. Works under jit, vmap and grad.

    >>> h = jnp.array([[[1.0, 5.0]], [[4.0, 5.0]], [[2.0, 5.0]]])
    >>> difference(h, contrast(jnp.array([0.0, 1.0, 0.5]), 1)).tolist()
    [[3.0, 0.0]]
    """
    n, t = h.shape[:2]
    x, weights = h.reshape(n, t, -1), weights.astype(jnp.float32)
    steps = jnp.arange(t)
    found = jax.lax.map(lambda i: weights @ x[:, i].astype(jnp.float32), steps)
    return found.reshape(h.shape[1:])


def project(
    v: Float[Array, " t *h"], against: Float[Array, "..."]
) -> Float32[Array, " t *h"]:
    """The part of a direction that is orthogonal to others (linear projection).

    arXiv 2303.11073: with the others as columns of V, [I - V inv(V'V) V'] v.
    In the inner product over all steps, channels and pixels, as the paper has it; so a
    single step's moves need not be orthogonal. ``v`` less its least-squares fit by
    ``against``, as :func:`une_jax.edits.orthogonalize`: dependent and zero directions
    are allowed, and a ``v`` within their span gives zeros. Works under jit, vmap and
    grad.

    Args:
        against: one direction, (t, *h), or several, (m, t, *h).

    Raises:
        UneError: the shapes differ.

    >>> v, other = jnp.array([[1.0], [1.0]]), jnp.array([[0.0], [2.0]])
    >>> project(v, other).tolist()
    [[1.0], [0.0]]
    """
    if against.shape[-v.ndim :] != v.shape or against.ndim > v.ndim + 1:
        raise UneError(f"a direction {v.shape} cannot be held apart of {against.shape}")
    return edits.orthogonalize(v.ravel(), against.reshape(-1, v.size)).reshape(v.shape)


def spread(h: Float[Array, "n t *h"], v: Float[Array, " t *h"]) -> Float32[Array, ""]:
    """Standard deviation of the samples along a direction, over all steps together.

    What "one standard deviation" of an edit means in a file of directions. Works under
    jit and vmap (over ``v``).

    >>> h = jnp.array([[[1.0], [0.0]], [[5.0], [4.0]]])
    >>> round(spread(h, jnp.array([[1.0], [1.0]])).item(), 3)  # of +-4 / sqrt(2)
    2.828
    """
    return edits.projection_std(h.reshape(len(h), -1), edits.unit(v.ravel()))
