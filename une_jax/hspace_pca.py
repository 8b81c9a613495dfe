"""Principal components of h over images, for each step of a sampler or all together.

Haas et al., arXiv 2303.11073, take the bottleneck h_t of n samples, its largest
directions at each t, and the j-th ones of all steps as one direction of an edit. h is
(n, t, *h), steps in the order of sampling, each h of any shape; nothing here knows more
of it.

Two ways: of all samples at once (:func:`principal`), or batch by batch (:func:`begin`,
:func:`absorb`, :func:`finish`), in the memory of ``rank`` samples and with a bound on
what that costs.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import pca
from une_jax.errors import UneError
from une_jax.normalise import centred, faced, unit_rows


class Principal(NamedTuple):
    """k directions; s is t, or 1 where all steps were taken as one row.

    An edit of scale 1 adds ``moves[j, i]`` to h at step i. Moves beyond the rank are
    zero.
    """

    mean: Float32[Array, " t *h"]
    moves: Float32[Array, "k t *h"]  # sigma u of each step, signs as at the first
    deviation: Float32[Array, "k s"]  # sigma: of the samples along u
    explained: Float32[Array, " s"]  # the part of all variance that the k hold
    error: Float32[Array, " s"]  # by which a variance sigma^2 may be wrong


@jax.default_matmul_precision("float32")
def principal(h: Float[Array, "n t *h"], k: int, *, joint: bool = False) -> Principal:
    """The ``k`` principal directions of h, at each step or over all steps together.

    By the smaller Gram matrix, (n, n) where there are fewer samples than numbers in an
    h (:func:`une_jax.pca.fit`), one step after the other: beside ``h`` and the result,
    memory for one step's rows (for all steps' where ``joint``). The sign of an
    eigenvector is arbitrary: at the first step the largest entry is positive, and each
    later step's direction has a positive inner product with the first one's. Their
    order is by variance at each step; where two have nearly the same, they may change
    places from one step to the next, which ``joint`` directions cannot.

    Works under jit and vmap (``k`` and ``joint`` static).

    Args:
        h: one sample each; float16 and bfloat16 will do.
        k: how many; at most min(n - 1, numbers in a row), else as many as that.

    Raises:
        UneError: for fewer than two samples, or ``k`` below 1.

    >>> h = jnp.array([[[3.0, 0.0]], [[-3.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.0]]])
    >>> found = principal(h, 1)
    >>> found.deviation.round(3).tolist()  # of 6 = (9 + 9) / 3
    [[2.449000120162964]]
    >>> bool(jnp.allclose(found.moves, jnp.array([[[6**0.5, 0.0]]]), atol=1e-3))
    True
    """
    n, t = h.shape[:2]
    if n < 2:
        raise UneError(f"principal directions need 2 or more samples; there are {n}")
    x = h.reshape(n, 1 if joint else t, -1)
    k = pca.components((n, x.shape[2]), k)

    def one(i):
        found = pca.fit(x[:, i], k)
        error = found.residual.max() * found.variance[0]
        explained = found.explained_variance
        return found.mean, found.basis.T, found.variance, explained, error

    mean, *found = jax.lax.map(one, jnp.arange(x.shape[1]))
    return _principal(mean.reshape(h.shape[1:]), *found)


class Stream(NamedTuple):
    """Samples so far, s rows each: ``rows`` have their scatter, up to ``lost``."""

    count: Float32[Array, ""]  # exact up to 2^24
    mean: Float32[Array, " t *h"]
    rows: Float32[Array, "s rank d"]  # orthogonal, the largest first
    scatter: Float32[Array, " s"]  # sum of the squares of all samples, centred
    lost: Float32[Array, " s"]  # bound on every eigenvalue of what the rows lack


def begin(shape: tuple[int, ...], rank: int, *, joint: bool = False) -> Stream:
    """No samples yet.

    Args:
        shape: of one sample, (t, *h).
        rank: rows to keep for each step; twice the directions wanted, or more.
        joint: whether all steps are one row.

    Raises:
        UneError: ``rank`` is not within 1 and the numbers in a row.

    >>> begin((10, 4, 4, 8), 5).rows.shape
    (10, 5, 128)
    """
    s = 1 if joint else shape[0]
    d = math.prod(shape) // s
    if not 1 <= rank <= d:
        raise UneError(f"rank is {rank}; rows of {d} numbers have a rank of 1 to {d}")
    zero = jnp.zeros(s, jnp.float32)
    rows = jnp.zeros((s, rank, d), jnp.float32)
    return Stream(jnp.float32(0), jnp.zeros(shape, jnp.float32), rows, zero, zero)


@jax.default_matmul_precision("float32")
def absorb(stream: Stream, h: Float[Array, "b t *h"]) -> Stream:
    """The stream with a batch of samples more: an incremental SVD.

    The rows kept, the batch and the step between their means (Ross, Lim, Lin and Yang
    2008, as sklearn's IncrementalPCA has it) have exactly the scatter of both; of it
    the ``rank`` largest directions stay. What falls away each time is positive, so that
    every eigenvalue of the scatter is too small by at most ``lost``, the sum over
    batches of the largest that fell away (Weyl), beside the rounding of float32.
    Nothing is lost while there are no more samples than ``rank``. Large batches lose
    less. The memory is that of rank + b rows of one step, beside the stream.

    Works under jit and vmap; a batch of another size compiles anew.

    >>> h = jax.random.normal(jax.random.key(0), (8, 2, 3))
    >>> stream = begin((2, 3), 3)
    >>> for batch in (h[:5], h[5:]):
    ...     stream = absorb(stream, batch)
    >>> got, want = finish(stream, 2), principal(h, 2)
    >>> bool(jnp.allclose(got.moves, want.moves, atol=1e-4))
    True
    """
    s, rank, d = stream.rows.shape
    x, mean = h.reshape(len(h), s, d), stream.mean.reshape(s, d)
    count = stream.count + len(h)
    part = len(h) / count

    def one(i):
        z, new = centred(x[:, i])
        step = new - mean[i]
        between = jnp.sqrt(stream.count * part) * step
        fresh = jnp.concatenate([z, between[None]])
        middle = mean[i] + part * step
        rows = jnp.concatenate([stream.rows[i], fresh])
        found = pca.fit_centred(rows, middle, rank)
        sizes = found.variance * (len(rows) - 1)
        # No eigenvalue that falls away is above the last kept one, nor the rest's sum.
        rest = jnp.maximum(jnp.sum(rows**2) - sizes.sum(), 0.0)
        largest = jnp.maximum(sizes[-1], pca.RANK_TOL * sizes[0])
        wrong = found.residual.max() * sizes[0]
        lost = stream.lost[i] + jnp.minimum(rest, largest) + wrong
        kept = jnp.sqrt(sizes)[:, None] * found.basis.T
        return middle, kept, stream.scatter[i] + jnp.sum(fresh**2), lost

    mean, *found = jax.lax.map(one, jnp.arange(s))
    return Stream(count, mean.reshape(stream.mean.shape), *found)


@jax.default_matmul_precision("float32")
def finish(stream: Stream, k: int) -> Principal:
    """The ``k`` principal directions of all samples absorbed, as :func:`principal`.

    ``error`` says by how much each variance may be too small; a direction is turned by
    about that over the gap to the next variance. An example is at :func:`absorb`.
    Works under jit and vmap (``k`` static).

    Raises:
        UneError: ``k`` is not within 1 and the stream's rank.
    """
    rank = stream.rows.shape[1]
    if not 1 <= k <= rank:
        raise UneError(f"k is {k}; the stream keeps {rank} directions: use 1 to {rank}")
    rows = stream.rows[:, :k]
    sizes = jnp.sum(rows**2, axis=2)
    degrees = jnp.maximum(stream.count - 1, 1)
    explained = sizes.sum(axis=1) / jnp.maximum(stream.scatter, 1e-30)
    basis = jax.vmap(unit_rows)(rows)
    return _principal(
        stream.mean, basis, sizes / degrees, explained, stream.lost / degrees
    )


def _principal(
    mean: Float32[Array, " t *h"],
    basis: Float32[Array, "s k d"],
    variance: Float32[Array, "s k"],
    explained: Float32[Array, " s"],
    error: Float32[Array, " s"],
) -> Principal:
    first = jax.vmap(faced)(basis[0])
    along = jnp.einsum("skd,kd->sk", basis, first)
    deviation = jnp.sqrt(variance)
    signed = jnp.where(along < 0, -deviation, deviation)
    moves = jnp.moveaxis(signed[..., None] * basis, 0, 1)
    moves = moves.reshape(basis.shape[1], *mean.shape)
    return Principal(mean, moves, deviation.T, explained, error)
