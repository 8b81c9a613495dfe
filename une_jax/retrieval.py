"""Retrieval: is a row's own partner nearer, by cosine, than everybody else's?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from une_jax.normalise import unit_rows


class Ranks(NamedTuple):
    """Of each query's partner among the gallery's rows."""

    above: Int32[Array, " n"]  # rows that are nearer than the partner
    tied: Int32[Array, " n"]  # others exactly as near


@jax.default_matmul_precision("float32")
def ranks(
    queries: Float[Array, "n d"], gallery: Float[Array, "n d"], *, block: int = 1024
) -> Ranks:
    """Row i of ``gallery`` is the partner of query i. Memory is O(block * n).

    A zero row is as near to all as orthogonal ones are. Centre both first where they
    share a mean, which every cosine feels. Works under jit (``block`` static) and vmap.

    >>> ranks(jnp.eye(3), jnp.eye(3)[jnp.array([0, 2, 1])]).above.tolist()
    [0, 1, 1]
    """
    n = len(queries)
    queries, gallery = unit_rows(queries), unit_rows(gallery)
    block = min(block, n)
    padded = jnp.pad(queries, ((0, -n % block), (0, 0)))
    own = jnp.minimum(jnp.arange(len(padded)), n - 1)

    def count(rows):
        query, i = rows
        nearness = query @ gallery.T
        partner = jnp.take_along_axis(nearness, i[:, None], axis=1)
        above = jnp.sum(nearness > partner, axis=1)
        below = jnp.sum(nearness < partner, axis=1)
        return above.astype(jnp.int32), (n - 1 - above - below).astype(jnp.int32)

    blocks = (padded.reshape(-1, block, padded.shape[1]), own.reshape(-1, block))
    above, tied = jax.lax.map(count, blocks)
    return Ranks(above.reshape(-1)[:n], tied.reshape(-1)[:n])


def top(ranks: Ranks, k: int) -> Float32[Array, ""]:
    """Part of the queries whose partner is among the k nearest; chance is k / n.

    Ties are broken at random, and this is the expected value.

    >>> top(Ranks(jnp.array([0, 4]), jnp.array([0, 0])), 1).item()
    0.5
    """
    places = (k - ranks.above).astype(jnp.float32)
    share = places / (ranks.tied + 1).astype(jnp.float32)
    return jnp.mean(jnp.clip(share, 0, 1))
