"""How good the scores of a classifier are, and how sure that is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, PRNGKeyArray, Shaped


class ProbeMetrics(NamedTuple):
    """Of one set of scores (or of many, on leading axes), per attribute, in [0, 1]."""

    accuracy: Float32[Array, "*many a"]  # of predicting scores > 0
    balanced_accuracy: Float32[Array, "*many a"]
    auc: Float32[Array, "*many a"]
    base_rate: Float32[Array, "*many a"]  # of always answering the larger class
    average_precision: Float32[Array, "*many a"]  # chance level: the part of positives


class _Ranked(NamedTuple):
    """One attribute's rows in rising order of score, and where each one's ties lie."""

    order: Array
    start: Array
    stop: Array


def evaluate(scores: Float[Array, "n a"], y: Shaped[Array, "n a"]) -> ProbeMetrics:
    """How good the scores are on these rows; positive where ``y > 0``.

    AUC is exact, ties counting one half (Mann-Whitney); average precision is the mean
    over the positives of the precision at their score, as in sklearn. Where an
    attribute has one class only, they and balanced accuracy are NaN, as they are where
    a score is. Works under jit and vmap.

    >>> s = jnp.array([[-1.0], [0.5], [0.5], [2.0]])
    >>> m = evaluate(s, jnp.array([[0], [0], [1], [1]]))
    >>> m.accuracy.item(), m.auc.item(), m.base_rate.item()
    (0.75, 0.875, 0.5)
    """
    scores, y = scores.astype(jnp.float32), positive(y)
    ones = jnp.ones(len(scores), jnp.float32)
    return _weighted(scores, y, jax.vmap(_ranked, in_axes=1)(scores), ones)


def bootstrap(
    key: PRNGKeyArray,
    scores: Float[Array, "n a"],
    y: Shaped[Array, "n a"],
    *,
    replicates: int = 1000,
) -> ProbeMetrics:
    """The metrics of rows drawn anew with replacement, (replicates, a) each.

    The same rows are drawn for all attributes, so that the replicates of a mean over
    attributes are the means of these. Quantiles of them are Efron's percentile
    intervals; a replicate of one class only is NaN (use nanquantile). They tell of the
    sampling of the test rows, not of the training's. Rows are sorted once, and each
    draw is a weight. Works under jit and vmap (``replicates`` static).

    >>> s = jnp.linspace(-1.0, 1.0, 50)[:, None]
    >>> drawn = bootstrap(jax.random.key(0), s, s > 0.1, replicates=20)
    >>> drawn.accuracy.shape, bool((drawn.auc == 1).all())
    ((20, 1), True)
    """
    n = len(scores)
    scores, y = scores.astype(jnp.float32), positive(y)
    ranked = jax.vmap(_ranked, in_axes=1)(scores)

    def replicate(key: Array) -> ProbeMetrics:
        drawn = jax.random.randint(key, (n,), 0, n)
        times = jnp.zeros(n, jnp.float32).at[drawn].add(1.0)
        return _weighted(scores, y, ranked, times)

    return jax.lax.map(replicate, jax.random.split(key, replicates))


def positive(y: Shaped[Array, "n a"]) -> Bool[Array, "n a"]:
    """Bool, 0/1 and CelebA's -1/1 alike."""
    return y.astype(jnp.float32) > 0


def _weighted(
    scores: Float32[Array, "n a"],
    y: Bool[Array, "n a"],
    ranked: _Ranked,
    times: Float32[Array, " n"],
) -> ProbeMetrics:
    """The metrics where row i stands ``times[i]`` times."""
    n = times.sum()
    weight = jnp.broadcast_to(times[:, None], y.shape)
    positives = jnp.sum(weight, axis=0, where=y)
    negatives = n - positives
    right = jnp.where(y == (scores > 0), weight, 0.0)
    true_positives = jnp.sum(right, axis=0, where=y)
    true_negatives = jnp.sum(right, axis=0, where=~y)
    balanced = (true_positives / positives + true_negatives / negatives) / 2
    auc, precision = jax.vmap(_curves, in_axes=(1, 0, None))(y, ranked, times)
    known = (positives > 0) & (negatives > 0) & ~jnp.isnan(scores).any(axis=0)
    return ProbeMetrics(
        accuracy=right.sum(axis=0) / n,
        balanced_accuracy=balanced,
        auc=jnp.where(known, auc, jnp.nan),
        base_rate=jnp.maximum(positives, negatives) / n,
        average_precision=jnp.where(known, precision, jnp.nan),
    )


def _ranked(score: Float32[Array, " n"]) -> _Ranked:
    # Sorting integers that order like the floats is four times faster on CPU.
    bits = jax.lax.bitcast_convert_type(jnp.where(score == 0, 0.0, score), jnp.int32)
    values = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    order = jnp.argsort(values)
    values = values[order]
    start = jnp.searchsorted(values, values, side="left")
    return _Ranked(order, start, jnp.searchsorted(values, values, side="right"))


def _curves(
    y: Bool[Array, " n"], ranked: _Ranked, times: Float32[Array, " n"]
) -> tuple[Array, Array]:
    """AUC = P(a positive scores above a negative), and average precision.

    Counts are whole numbers, which float32 sums exactly up to 2^24 rows.
    """
    order, start, stop = ranked
    weight, y = times[order], y[order]
    up_to = jnp.pad(jnp.cumsum(jnp.where(y, 0.0, weight)), (1, 0))
    negatives_below = (up_to[start] + up_to[stop]) / 2
    hits = jnp.pad(jnp.cumsum(jnp.where(y, weight, 0.0)), (1, 0))
    above = hits[-1] - hits[start]
    all_above = above + up_to[-1] - up_to[start]
    own = jnp.where(y, weight, 0.0)
    auc = jnp.sum(own * (negatives_below / up_to[-1])) / hits[-1]
    return auc, jnp.sum(own * (above / jnp.maximum(all_above, 1.0))) / hits[-1]
