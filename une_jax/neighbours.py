"""Nearest neighbours in blocks, and how many of them two views have in common.

Memory grows as the rows times k: the n x n similarities exist a block at a time.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32

from une_jax import permutation
from une_jax.errors import UneError
from une_jax.normalise import unit_rows

Metric = Literal["cosine", "inner", "euclidean"]
BLOCK_BYTES = 2**25  # of similarities at a time


class Neighbours(NamedTuple):
    """Of each of n rows its k nearest others, the nearest first."""

    index: Int32[Array, "n k"]
    similarity: Float32[Array, "n k"]  # Euclidean: minus the squared distance


@jax.default_matmul_precision("float32")
def nearest(
    x: Float[Array, "n d"],
    k: int = 10,
    *,
    metric: Metric = "cosine",
    block: int | None = None,
) -> Neighbours:
    """Each row's ``k`` nearest other rows; of equally near ones those that come first.

    Works under jit (``k``, ``metric`` and ``block`` static) and vmap.

    Args:
        k: 10 is the usual choice (Huh et al., arXiv 2405.07987).
        metric: "cosine", which is what "inner" gives of normalised rows; "inner"
            products as they are; or "euclidean" distances.
        block: rows at a time; by default what fits in 32 MB.

    Raises:
        UneError: ``k`` is not within 1 to n - 1.

    >>> nearest(jnp.array([[0.0], [1.0], [3.0]]), 1, metric="euclidean").index.tolist()
    [[1], [0], [1]]
    """
    n = len(x)
    if not 1 <= k < n:
        raise UneError(f"k is {k}; of {n} rows each has 1 to {n - 1} neighbours")
    x = x.astype(jnp.float32)
    if metric == "cosine":
        x = unit_rows(x)
    elif metric == "euclidean":
        x = x - x.mean(axis=0)[None]  # distances stay, their rounding shrinks
    # Nearest by |x - y|^2 is largest by x.y - |y|^2 / 2.
    half = jnp.sum(x**2, axis=1) / 2 if metric == "euclidean" else jnp.zeros(n)
    block = min(n, block or max(1, BLOCK_BYTES // (4 * n)))
    count = -(-n // block)

    def of_block(i):
        # The last block starts earlier, and does some rows again.
        start = jnp.minimum(i * block, n - block)
        rows = jax.lax.dynamic_slice_in_dim(x, start, block)
        score = rows @ x.T - half[None]
        places = jnp.arange(block)
        score = score.at[places, start + places].set(-jnp.inf)
        score, index = jax.lax.top_k(score, k)
        return score, index, start + places

    score, index, places = jax.lax.map(of_block, jnp.arange(count))
    places = places.reshape(-1)
    score = jnp.zeros((n, k), jnp.float32).at[places].set(score.reshape(-1, k))
    index = jnp.zeros((n, k), jnp.int32).at[places].set(index.reshape(-1, k))
    if metric == "euclidean":
        score = jnp.minimum(2 * (score - half[:, None]), 0.0)
    return Neighbours(index, score)


def reorder(neighbours: Neighbours, order: Int[Array, " n"]) -> Neighbours:
    """The neighbours of ``x[order]``, from those of ``x``.

    >>> of_x = nearest(jnp.array([[0.0], [1.0], [3.0]]), 1, metric="euclidean")
    >>> reorder(of_x, jnp.array([2, 0, 1])).index.tolist()
    [[2], [2], [1]]
    """
    place = permutation.inverse(order)
    return Neighbours(place[neighbours.index[order]], neighbours.similarity[order])


def shared(a: Neighbours, b: Neighbours) -> Float32[Array, " n"]:
    """Of each row the part of its neighbours that is the same in both.

    The mean of it is the mutual kNN score.

    >>> one = Neighbours(jnp.array([[1, 2]]), jnp.zeros((1, 2)))
    >>> shared(one, Neighbours(jnp.array([[0, 1]]), jnp.zeros((1, 2)))).tolist()
    [0.5]
    """
    k = a.index.shape[1]

    # One neighbour of b at a time: (n, k), not (n, k, k).
    def more(count, column):
        return count + (a.index == column[:, None]).sum(axis=1, dtype=jnp.int32), None

    count, _ = jax.lax.scan(more, jnp.zeros(len(a.index), jnp.int32), b.index.T)
    return count.astype(jnp.float32) / k


def mutual_knn(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    k: int = 10,
    *,
    metric: Metric = "cosine",
    block: int | None = None,
) -> Float32[Array, ""]:
    """Mean part of a row's k nearest neighbours that is the same in both views.

    As ``mutual_knn`` of Huh et al. (arXiv 2405.07987), which calls it alignment. Views
    that have nothing to do with each other have :func:`chance`.

    >>> x = jax.random.normal(jax.random.key(0), (50, 8))
    >>> mutual_knn(x, 3 * x).item()
    1.0
    """
    a = nearest(x, k, metric=metric, block=block)
    return shared(a, nearest(y, k, metric=metric, block=block)).mean()


def chance(n: int, k: int) -> float:
    """The mean of mutual kNN over all pairings of the rows: k of n - 1, exactly.

    >>> chance(1001, 10)
    0.01
    """
    return k / (n - 1)
