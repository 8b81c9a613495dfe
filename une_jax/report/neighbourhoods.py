"""Whether spaces agree on which images are alike: rankings, and nearest neighbours."""

import itertools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int32

from une_jax import normalise
from une_jax.report.spaces import Space
from une_jax.report.tables import Row

BLOCK = 256  # queries at a time

_unit_rows = jax.jit(normalise.unit_rows)


def table(
    found: Sequence[Space], *, k: int = 16, neighbours: int = 10, limit: int = 4000
) -> list[Row]:
    """Every pair of spaces, on the first k dimensions of their test rows.

    Spearman: each image ranks all others by cosine in either space; the correlation of
    the two rankings, averaged over images; its chance value is 0. Overlap: the part of
    an image's nearest ``neighbours`` that the two spaces have in common; by chance
    neighbours / (rows - 1). ``z`` is by how many standard deviations the overlap is
    above that, were the pairing random; unknown where there are too few rows.
    """
    names = [space.name for space in found]
    x = [np.asarray(_unit_rows(space.test[:limit, :k])) for space in found]
    spearman, overlap, spread = agreement(x, neighbours)
    rows = len(x[0])
    chance = min(neighbours, rows - 1) / (rows - 1)
    out: list[Row] = []
    for i, j in itertools.combinations(range(len(found)), 2):
        out.append(
            {
                "space": names[i],
                "other": names[j],
                "shared views": len(set(found[i].views) & set(found[j].views)),
                "Spearman": float(spearman[i, j]),
                f"overlap@{neighbours}": float(overlap[i, j]),
                "chance": chance,
                "z": (float(overlap[i, j]) - chance) / spread if spread else None,
            }
        )
    return out


def agreement(
    x: Sequence[Float[np.ndarray, "m _"]], neighbours: int
) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"], float]:
    """(mean Spearman, mean overlap of nearest neighbours, the overlap's standard
    deviation under random pairing) of spaces given by unit rows.

    >>> x = np.eye(4)[:, :3] + 0.1
    >>> agreement([x, 2 * x], 2)[1]
    array([[1., 1.],
           [1., 1.]])
    """
    m, s = len(x[0]), len(x)
    count = min(neighbours, m - 1)
    spearman, overlap = np.zeros((s, s)), np.zeros((s, s))
    for start in range(0, m, BLOCK):
        queries = np.arange(start, min(start + BLOCK, m))
        ranks = np.stack([_ranks(space, queries) for space in x])  # (s, b, m - 1)
        near = (ranks < count).astype(np.float32)
        overlap += np.einsum("ibm,jbm->ij", near, near, optimize=True) / count
        centred = (ranks - (m - 2) / 2).astype(np.float32)
        spearman += np.einsum("ibm,jbm->ij", centred, centred, optimize=True)
    variance = ((m - 1) ** 2 - 1) / 12  # of the ranks 0 .. m - 2
    # One image's overlap is hypergeometric over its m - 1 others.
    part = count / (m - 1)
    one = part * (1 - part) * (m - 1 - count) / max(m - 2, 1) / count
    return spearman / (m * (m - 1) * variance), overlap / m, float(np.sqrt(one / m))


def _ranks(x: np.ndarray, queries: np.ndarray) -> Int32[np.ndarray, "b others"]:
    """Of every other row by cosine to each query, the nearest 0."""
    similar = x[queries] @ x.T
    places = np.arange(len(queries))
    similar[places, queries] = np.inf
    order = np.argsort(-similar, axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(len(x), dtype=np.int32)[None], axis=1)
    others = np.ones(ranks.shape, bool)
    others[places, queries] = False
    return ranks[others].reshape(len(queries), -1) - 1
