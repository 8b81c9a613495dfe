"""How many dimensions views share: as many as agree more than unpaired views do."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from une_jax import gcca, permutation, whitening
from une_jax.errors import UneError
from une_jax.projectors import centred
from une_jax.spectral import top_eigh


class SharedDimensions(NamedTuple):
    """Of the k largest agreements of views, beside pairings by chance."""

    null: permutation.Null  # of ``agreement`` (k,), each beside chance's largest
    count: Int32[Array, ""]  # leading dimensions that chance does not reach
    samples: Float32[Array, " b"]  # the largest agreement of each permutation


@jax.default_matmul_precision("float32")
def beyond_chance(
    key: PRNGKeyArray,
    views: gcca.Views,
    k: int,
    ridge: gcca.PerView,
    *,
    weights: gcca.PerView = 1.0,
    permutations: int = 99,
    level: float = 0.05,
) -> SharedDimensions:
    """Tests every dimension of a :func:`une_jax.gcca.fit` of the same views.

    Each permutation pairs the rows of every view but the first anew and takes the
    largest agreement that it finds: what the best direction of all gets by chance from
    so many columns and rows. A later dimension is compared with that too, so that the
    count errs towards fewer. The views are whitened once; a permutation costs one Gram
    matrix of them and one eigenvector.

    Works under jit (``k``, ``permutations`` and ``level`` static) and vmap. Memory is
    that of the views twice over and of one Gram matrix.

    Raises:
        UneError: fewer than two views, or one with more columns than rows (use PCA).

    >>> z = jax.random.normal(jax.random.key(0), (200, 3))
    >>> noise = jax.random.normal(jax.random.key(1), (200, 3))
    >>> views = [z, z.at[:, 2:].set(noise[:, 2:])]
    >>> beyond_chance(jax.random.key(2), views, 3, 1.0).count.item()
    2
    """
    gcca.check(views, k, ridge, None)
    n, count = len(views[0]), len(views)
    if count < 2:
        raise UneError("shared dimensions need two views or more")
    if max(x.shape[1] for x in views) > n:
        raise UneError(
            f"a view has more columns than the {n} rows, and agrees with anything: "
            "use fewer columns (PCA)"
        )
    ridges = gcca.per_view(ridge, count, "ridge")
    w = gcca.per_view(weights, count, "weights")
    w = w / w.sum()
    there = jnp.ones(n, jnp.float32)
    qs = [
        jnp.sqrt(wi) * whitening.whiten(centred(x, there)[0], r).q
        for x, r, wi in zip(views, ridges, w, strict=True)
    ]

    def agreement(rest: list[Array], dimensions: int) -> Array:
        b = jnp.concatenate([qs[0], *rest], axis=1)
        return top_eigh(b.T @ b, dimensions).values

    def unpaired(key: PRNGKeyArray) -> Array:
        keys = jax.random.split(key, count - 1)
        rest = [jax.random.permutation(k, q) for k, q in zip(keys, qs[1:], strict=True)]
        return agreement(rest, 1)[0]

    if permutations < 1:
        raise UneError(f"{permutations} permutations; use 1 or more (99 are usual)")
    samples = jax.lax.map(unpaired, jax.random.split(key, permutations))
    observed = agreement(qs[1:], k)
    beside = jnp.broadcast_to(samples[:, None], (permutations, k))
    null = permutation.compare(observed, beside, level=level)
    return SharedDimensions(
        null, permutation.leading(null.pvalue, level=level), samples
    )
