"""CKNNA: kernel alignment of nearest neighbours only, in O(n k) memory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import neighbours
from une_jax.errors import UneError
from une_jax.neighbours import Metric, Neighbours


def cknna(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    k: int = 10,
    *,
    metric: Metric = "cosine",
    block: int | None = None,
) -> Float32[Array, ""]:
    """Unbiased CKA of which only pairs count that are neighbours in both views.

    Huh et al. (arXiv 2405.07987), appendix A, as their code has it: both kernels are
    masked with ``j in N_x(i) and j in N_y(i)``, a mask that is not symmetric, the
    norms each with its own neighbours, and the diagonal is left out. With all n - 1
    neighbours it is unbiased CKA of the kernels. ``metric`` "cosine" is theirs, whose
    rows have length 1.

    Raises:
        UneError: fewer than 4 rows, or ``k`` below 2.

    >>> x = jax.random.normal(jax.random.key(0), (50, 8))
    >>> cknna(x, 2 * x).round(3).item()
    1.0
    """
    if k < 2:
        raise UneError(f"k is {k}; CKNNA needs 2 neighbours or more")
    if len(x) < 4:
        raise UneError(f"CKNNA needs at least 4 rows; there are {len(x)}")
    a = neighbours.nearest(x, k, metric=metric, block=block)
    return score(a, neighbours.nearest(y, k, metric=metric, block=block))


def score(a: Neighbours, b: Neighbours) -> Float32[Array, ""]:
    """CKNNA of two views' neighbours; NaN where a view's own HSIC is not positive.

    >>> x = jax.random.normal(jax.random.key(0), (50, 8))
    >>> a = neighbours.nearest(x, 5)
    >>> score(a, a).round(3).item()
    1.0
    """
    return _hsic(a, b) / jnp.sqrt(_hsic(a, a) * _hsic(b, b))


def _hsic(a: Neighbours, b: Neighbours) -> Float32[Array, ""]:
    """Song et al. (2012), Eq. (5), of two masked kernels; up to 1 / (m (m - 3))."""
    m, k = a.index.shape

    # Both kernels at a's places: a's where b has the neighbour too, and b's there.
    def look_up(found, column):
        index, similarity = column
        hit = a.index == index[:, None]
        return found[0] | hit, found[1] + jnp.where(hit, similarity[:, None], 0.0)

    def step(state, column):
        return look_up(state, column), None

    start = (jnp.zeros((m, k), bool), jnp.zeros((m, k), jnp.float32))
    (both, other), _ = jax.lax.scan(step, start, (b.index.T, b.similarity.T))
    own = jnp.where(both, a.similarity, 0.0)

    # Of the pair (i, j) the second kernel counts at (j, i).
    rows = jnp.arange(m, dtype=jnp.int32)[:, None]

    def transposed(total, column):
        index, value = column
        hit = index[a.index] == rows
        return total + jnp.where(hit, value[a.index], 0.0), None

    zeros = jnp.zeros((m, k), jnp.float32)
    back, _ = jax.lax.scan(transposed, zeros, (a.index.T, other.T))

    pairs = jnp.sum(own * back)
    columns = jnp.zeros(m, jnp.float32).at[a.index].add(own)
    total = own.sum() * other.sum()
    paths = jnp.sum(columns * other.sum(axis=1))
    return pairs + total / ((m - 1) * (m - 2)) - 2 * paths / (m - 2)
