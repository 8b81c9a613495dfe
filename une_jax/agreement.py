"""Do probes say of mapped latents what they say of a model's own?

``own`` are the answers to the model's own latents, ``mapped`` those to latents that
came from another model through a map; True (or 1) for yes, one column an attribute.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray, Shaped

from une_jax.errors import UneError
from une_jax.metrics import positive


class Agreement(NamedTuple):
    """Of two sets of answers (or of many, on leading axes), per attribute."""

    match: Float32[Array, "*many a"]  # part of equal answers, in [0, 1]
    chance: Float32[Array, "*many a"]  # what their frequencies alone would match
    constant: Float32[Array, "*many a"]  # of answering own's more frequent one always
    kappa: Float32[Array, "*many a"]  # (match - chance) / (1 - chance), in [-1, 1]


def match(own: Shaped[Array, "n a"], mapped: Shaped[Array, "m b"]) -> Float32[Array, " a"]:  # fmt: skip
    """The part of rows with equal answers, in [0, 1]; the paper's match % over 100.

    >>> match(jnp.array([[True], [False]]), jnp.array([[True], [True]])).item()
    0.5
    """
    return compare(own, mapped).match


def chance(own: Shaped[Array, "n a"], mapped: Shaped[Array, "m b"]) -> Float32[Array, " a"]:  # fmt: skip
    """The match of answers as frequent as these, given to rows by chance.

    >>> chance(jnp.array([[True], [False]]), jnp.array([[True], [True]])).item()
    0.5
    """
    return compare(own, mapped).chance


def kappa(own: Shaped[Array, "n a"], mapped: Shaped[Array, "m b"]) -> Float32[Array, " a"]:  # fmt: skip
    """Cohen's kappa (1960): 0 for chance, 1 for equal answers.

    NaN where ``own`` has one answer only, on which nothing can be told; 0 where only
    ``mapped`` has.

    >>> own = jnp.array([[True], [False], [True]])
    >>> [kappa(a, b).item() for a, b in ((own, own), (own, own | True), (own | True, own))]
    [1.0, 0.0, nan]
    """
    return compare(own, mapped).kappa


def compare(own: Shaped[Array, "n a"], mapped: Shaped[Array, "m b"]) -> Agreement:
    """All of it at once. Works under jit and vmap.

    Args:
        own, mapped: answers to the same rows; positive where ``> 0``.

    Raises:
        UneError: for answers of different shapes.

    >>> own = jnp.array([[True], [True], [False], [False]])
    >>> found = compare(own, own.at[0].set(False))
    >>> found.match.item(), found.chance.item(), found.kappa.item()
    (0.75, 0.5, 0.5)
    """
    own, mapped = _answers(own, mapped)
    return _weighted(own, mapped, jnp.ones(len(own), jnp.float32))


def bootstrap(
    key: PRNGKeyArray,
    own: Shaped[Array, "n a"],
    mapped: Shaped[Array, "m b"],
    *,
    replicates: int = 1000,
) -> Agreement:
    """The agreement on rows drawn anew with replacement, (replicates, a) each.

    As :func:`metrics.bootstrap`, also in which rows are drawn: the same for all
    attributes; kappas may be NaN (use nanquantile). Works under jit and vmap
    (``replicates`` static).

    >>> own = jnp.arange(50)[:, None] % 2
    >>> drawn = bootstrap(jax.random.key(0), own, own, replicates=20)
    >>> drawn.match.shape, bool((drawn.match == 1).all())
    ((20, 1), True)
    """
    own, mapped = _answers(own, mapped)
    n = len(own)

    def replicate(key: Array) -> Agreement:
        drawn = jax.random.randint(key, (n,), 0, n)
        times = jnp.zeros(n, jnp.float32).at[drawn].add(1.0)
        return _weighted(own, mapped, times)

    return jax.lax.map(replicate, jax.random.split(key, replicates))


def accuracy_change(
    own: Shaped[Array, "n a"], mapped: Shaped[Array, "m b"], y: Shaped[Array, "k c"]
) -> Float32[Array, " a"]:
    """By what part of it the probe's accuracy changes on mapped latents.

    ``(accuracy of mapped - accuracy of own) / accuracy of own``; above 0 where the
    source tells the attribute better. The paper's accuracy change % over 100. NaN where
    no own answer is right. Works under jit and vmap.

    Args:
        y: the truth; positive where ``> 0``.

    Raises:
        UneError: for answers of different shapes.

    >>> y = jnp.array([[1], [1], [0], [0]])
    >>> accuracy_change(y, jnp.ones_like(y), y).item()
    -0.5
    """
    own, mapped = _answers(own, mapped)
    y = _answers(y, mapped)[0]
    before = (own == y).mean(axis=0, dtype=jnp.float32)
    after = (mapped == y).mean(axis=0, dtype=jnp.float32)
    return jnp.where(before > 0, (after - before) / jnp.maximum(before, 1e-30), jnp.nan)


def _answers(own: Array, mapped: Array) -> tuple[Array, Array]:
    if own.shape != mapped.shape:
        raise UneError(f"answers are {own.shape} and {mapped.shape}: give pairs")
    return positive(own), positive(mapped)


def _weighted(own: Array, mapped: Array, times: Float32[Array, " n"]) -> Agreement:
    """Where row i stands ``times[i]`` times."""
    n = times.sum()
    each = jnp.broadcast_to(times[:, None], own.shape)
    equal = jnp.sum(each, axis=0, where=own == mapped) / n
    p, q = (jnp.sum(each, axis=0, where=of) / n for of in (own, mapped))
    by_chance = p * q + (1 - p) * (1 - q)
    varies = (p > 0) & (p < 1)
    over = (equal - by_chance) / jnp.where(varies, 1 - by_chance, 1.0)
    return Agreement(
        match=equal,
        chance=by_chance,
        constant=jnp.maximum(p, 1 - p),
        kappa=jnp.where(varies, over, jnp.nan),
    )
