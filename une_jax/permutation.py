"""Permutation nulls: how large a statistic is when rows are paired by chance.

Scores of similarity grow with the number of dimensions, shrink with the number of rows
and grow with every choice of a best one, so that a bare number says little. Pairing the
rows anew, and doing again all that was done, the choice included, tells what it is
worth (Gröger, Wen and Brbić, arXiv 2602.14486; for many at once Westfall and Young
1993).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray

from une_jax.errors import UneError

# Of a statistic; closer ones are ties, which count against the observed one. A pairing
# that comes up again would else be larger or smaller by its rounding.
TIES = 100 * 1.2e-7


class Null(NamedTuple):
    """An observed statistic (or several, of shape ``*s``) beside its permutations."""

    observed: Float32[Array, "*s"]
    mean: Float32[Array, "*s"]  # of the permutations: what chance gives
    std: Float32[Array, "*s"]
    threshold: Float32[Array, "*s"]  # exceeded by chance with probability ``level``
    z: Float32[Array, "*s"]  # (observed - mean) / std
    pvalue: Float32[Array, "*s"]  # (1 + permutations >= observed) / (permutations + 1)
    excess: Float32[Array, "*s"]  # (observed - threshold) / (best - threshold)


def orders(key: PRNGKeyArray, n: int, count: int) -> Int32[Array, "count n"]:
    """``count`` independent permutations of n rows.

    >>> jnp.sort(orders(jax.random.key(0), 3, 2), axis=1).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    if count < 1:
        raise UneError(f"{count} permutations; use 1 or more (200 are usual)")
    rows = jnp.arange(n, dtype=jnp.int32)
    return jax.vmap(lambda k: jax.random.permutation(k, rows))(
        jax.random.split(key, count)
    )


def inverse(order: Int[Array, " n"]) -> Int32[Array, " n"]:
    """Where each row went: ``x[order][inverse(order)]`` is ``x``.

    >>> inverse(jnp.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    places = jnp.arange(len(order), dtype=jnp.int32)
    return jnp.zeros(len(order), jnp.int32).at[order].set(places, unique_indices=True)


def compare(
    observed: Float[Array, "*s"],
    samples: Float[Array, " b *s"],
    *,
    level: float = 0.05,
    best: float = 1.0,
) -> Null:
    """Each statistic beside its own permutations; larger is more.

    The p-value is that of a valid test for any number of permutations (Phipson and
    Smyth 2010), so never 0, and significant exactly where the excess is positive.
    Works under jit (``level`` static) and vmap.

    Args:
        samples: of ``b`` permutations, each computed as ``observed`` was.
        level: of the threshold.
        best: the statistic of identical views, at which the excess is 1.

    Returns:
        The comparison; NaN where ``observed`` or one of its samples is. With too few
        permutations for ``level`` (19 for 0.05) the threshold is infinite, and the
        excess NaN.

    Raises:
        UneError: ``level`` is not within (0, 1).

    >>> null = compare(jnp.array(0.5), jnp.linspace(0.0, 0.2, 99))
    >>> null.pvalue.item(), round(null.threshold.item(), 3), round(null.excess.item(), 3)
    (0.009999999776482582, 0.192, 0.381)
    """
    if not 0 < level < 1:
        raise UneError(f"level is {level}; use a number between 0 and 1")
    observed, samples = observed.astype(jnp.float32), samples.astype(jnp.float32)
    b = len(samples)
    mean = samples.mean(axis=0)
    std = jnp.std(samples, axis=0, ddof=min(1, b - 1))
    known = ~(jnp.isnan(observed) | jnp.isnan(samples).any(axis=0))
    reached = _at_least(samples, observed).sum(axis=0).astype(jnp.float32)
    # Significant: 1 + #(samples >= observed) <= level (b + 1). So the threshold is the
    # sample that may just be passed: that many from the top.
    allowed = int(level * (b + 1) + 1e-9)
    if allowed:
        threshold = jax.lax.top_k(jnp.moveaxis(samples, 0, -1), allowed)[0][..., -1]
    else:
        threshold = jnp.full(observed.shape, jnp.inf, jnp.float32)
    threshold = jnp.where(known, threshold, jnp.nan)
    excess = (observed - threshold) / (best - threshold)
    return Null(
        observed=observed,
        mean=mean,
        std=std,
        threshold=threshold,
        z=(observed - mean) / std,
        pvalue=jnp.where(known, (1 + reached) / (b + 1), jnp.nan),
        excess=jnp.where(jnp.isfinite(threshold), excess, jnp.nan),
    )


def compare_largest(
    observed: Float[Array, "*s"],
    samples: Float[Array, " b *s"],
    *,
    level: float = 0.05,
    best: float = 1.0,
) -> Null:
    """The largest of several statistics beside the largest of each permutation.

    For a number that was selected: the best pair of layers, the first of many
    correlations. Each permutation must have been of all of them alike. As
    :func:`compare`, of shape ().

    >>> samples = jax.random.normal(jax.random.key(0), (99, 50))
    >>> float(compare(jnp.full(50, 2.5), samples).pvalue.max()) < 0.05
    True
    >>> float(compare_largest(jnp.full(50, 2.5), samples).pvalue) > 0.2
    True
    """
    flat = samples.reshape(len(samples), -1)
    return compare(observed.max(), flat.max(axis=1), level=level, best=best)


def familywise(
    observed: Float[Array, "*s"], samples: Float[Array, " b *s"]
) -> Float32[Array, "*s"]:
    """p-values of many statistics with the choice among them paid for.

    Each one's z beside the largest z of every permutation: the probability that chance
    makes *any* of them so large (Westfall and Young 1993, single-step maxT). Here z is
    taken from the mean and deviation of the permutations and the observed one together:
    from those of the permutations alone, the observed one would not be as likely the
    largest as any of them, and the test too easily passed. The statistics may be of
    different kinds and scales. Statistics without variance, or NaN, have NaN and do not
    count for the others. Works under jit and vmap.

    >>> samples = jax.random.normal(jax.random.key(0), (99, 2)) * jnp.array([[1.0, 9.0]])
    >>> familywise(jnp.array([5.0, 5.0]), samples).round(2).tolist()
    [0.009999999776482582, 0.44999998807907104]
    """
    every = jnp.concatenate([observed[None], samples]).astype(jnp.float32)
    z = (every - every.mean(axis=0)[None]) / jnp.std(every, axis=0)[None]
    known = jnp.isfinite(z).all(axis=0)
    largest = jnp.where(known[None], z, -jnp.inf).reshape(len(z), -1).max(axis=1)
    largest = largest[1:].reshape((-1,) + (1,) * observed.ndim)
    reached = _at_least(largest, z[0]).sum(axis=0).astype(jnp.float32)
    return jnp.where(known, (1 + reached) / len(z), jnp.nan)


def leading(
    pvalue: Float[Array, " k"], *, level: float | Float[Array, ""] = 0.05
) -> Int32[Array, ""]:
    """How many statistics from the first on are significant, up to one that is not.

    For statistics in an order: the number of dimensions that views share. Testing in
    order and stopping needs no further correction.

    >>> leading(jnp.array([0.01, 0.02, 0.3, 0.01])).item()
    2
    """
    return jnp.cumprod((pvalue <= level).astype(jnp.int32)).sum(dtype=jnp.int32)


def sample(
    statistic: Callable[[Int32[Array, " n"]], Float32[Array, "*s"]],
    orders: Int[Array, "b n"],
    *,
    batch: int | None = None,
) -> Float32[Array, " b *s"]:
    """The statistic of every permutation, one after the other or ``batch`` at a time.

    >>> x = jnp.arange(3.0)
    >>> sample(lambda order: x @ x[order], jnp.array([[0, 1, 2], [2, 1, 0]])).tolist()
    [5.0, 1.0]
    """
    return jax.lax.map(statistic, orders, batch_size=batch)


def test(
    statistic: Callable[[Int32[Array, " n"]], Float32[Array, "*s"]],
    key: PRNGKeyArray,
    n: int,
    *,
    permutations: int = 200,
    level: float = 0.05,
    best: float = 1.0,
    batch: int | None = None,
) -> Null:
    """The statistic as the rows are, beside ``permutations`` random pairings of them.

    ``statistic(order)`` is to pair row i of one view with row ``order[i]`` of another,
    and to do all that leads to the number, a selection included.

    >>> x = jax.random.normal(jax.random.key(1), (50,))
    >>> null = test(lambda order: x @ x[order], jax.random.key(0), 50, best=50.0)
    >>> round(null.pvalue.item(), 3)
    0.005
    """
    pairings = orders(key, n, permutations)
    observed = statistic(jnp.arange(n, dtype=jnp.int32))
    samples = sample(statistic, pairings, batch=batch)
    return compare(observed, samples, level=level, best=best)


def _at_least(samples: Array, observed: Array) -> Array:
    """Which samples are as large, ties by rounding included."""
    return samples >= (observed - TIES * jnp.abs(observed))[None]
