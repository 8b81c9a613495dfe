"""Directions that leave attributes alone, where "alone" knows how the data vary.

``edits.orthogonalize`` keeps an attribute's score by the shortest correction in latent
space. The ones here correct along what the data do: among all moves that keep the
scores, the most likely one (``conditional``), or what is left of a move once every
linear trace of the labels is out of it (``Eraser``). All are linear in the direction.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Shaped

from une_jax.edits import RTOL
from une_jax.normalise import centred, unit_rows


@jax.default_matmul_precision("float32")
def conditional(
    w: Float[Array, " d"],
    against: Float[Array, " d"] | Float[Array, "m d"],
    x: Float[Array, "n d"],
) -> Float32[Array, " d"]:
    """The likeliest move that raises ``w``'s score and none of ``against``'s.

    Of all moves v with ``w @ v`` given and ``against @ v = 0``, that of the least
    Mahalanobis length ``v @ inv(cov) @ v``, with cov the covariance of the rows of
    ``x``: the way in which the average row changes with the one score while the others
    stay (the mean of a Gaussian given its scores). With nothing to keep it is
    ``cov @ w``, the pattern of a linear filter (Haufe et al. 2014, Eq. 6). Without it,
    cov may be singular: only products with the rows are taken. The length is not
    meaningful (use ``edits.unit``); a ``w`` in the span of ``against`` gives zeros.
    Works under jit, vmap and grad.

    Raises:
        ValueError: if the widths differ.

    >>> x = jnp.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> conditional(jnp.array([2.0, 1.0]), jnp.array([0.0, 1.0]), x).tolist()
    [2.0, 0.0]
    """
    x, _ = centred(x)
    rows = unit_rows(jnp.atleast_2d(against))
    root_n = jnp.sqrt(jnp.float32(len(x)))
    moved, kept = x @ w.astype(jnp.float32) / root_n, x @ rows.T / root_n
    # In the space of the rows the constraint is Euclidean: take out the span of kept.
    q = _orthonormal(kept)
    rest = moved - q @ (q.T @ moved)
    rest = rest - q @ (q.T @ rest)  # twice is enough: removes the rounding
    whole = jnp.sum(rest**2) > RTOL**2 * jnp.sum(moved**2)
    return x.T @ jnp.where(whole, rest, 0.0) / root_n


class Eraser(NamedTuple):
    """LEACE's projection ``v - traces @ (readers.T @ v)``, for moves and centred rows."""

    traces: Float32[Array, "d m"]
    readers: Float32[Array, "d m"]  # readers.T @ traces is the identity, of their rank


@jax.default_matmul_precision("float32")
def eraser(x: Float[Array, "n d"], z: Shaped[Array, "n m"]) -> Eraser:
    """The least-squares concept erasure of labels ``z`` from latents ``x``.

    After :func:`erase`, no linear classifier of the rows tells anything of ``z``, and
    the rows have changed as little as that allows (LEACE, Belrose et al. 2023,
    arXiv 2306.03819, Theorem 4.3). As a projection of a direction it takes out the
    class-mean differences of ``z``, along lines that the covariance chooses.

    Where d is larger than n - 1 (or nearly), every label is linear in the rows and what
    is erased is noise as well: project ``x`` onto its principal components first.

    >>> z = jnp.array([[0.0], [0.0], [1.0], [1.0]])
    >>> x = jnp.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> (erase(eraser(x, z), jnp.array([3.0, 2.0])) + 1).round().tolist()
    [1.0, 3.0]
    """
    (x, _), (z, _) = centred(x), centred(z.astype(jnp.float32))
    # x = u s v': whitened rows are u, so that whitening is least squares from u.
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    known = s > RTOL * s[0]
    inside = jnp.where(known[:, None], u.T @ z, 0.0)  # z as whitened directions
    q = _orthonormal(inside)
    weight = jnp.where(known, s, 0.0)
    inverse = jnp.where(known, 1.0 / jnp.where(known, s, 1.0), 0.0)
    return Eraser(vt.T @ (weight[:, None] * q), vt.T @ (inverse[:, None] * q))


@jax.default_matmul_precision("float32")
def erase(eraser: Eraser, v: Float[Array, " d"]) -> Float32[Array, " d"]:
    """A direction, or a row minus the mean, without the erased labels' traces.

    >>> out = Eraser(jnp.array([[1.0], [0.0]]), jnp.array([[1.0], [1.0]]))
    >>> erase(out, jnp.array([1.0, 1.0])).tolist()
    [-1.0, 1.0]
    """
    v = v.astype(jnp.float32)
    return v - eraser.traces @ (eraser.readers.T @ v)


def _orthonormal(columns: Float32[Array, "r m"]) -> Float32[Array, "r _"]:
    """An orthonormal basis of the columns' span; zeros where they depend."""
    u, s, _ = jnp.linalg.svd(columns, full_matrices=False)
    return jnp.where((s > RTOL * jnp.maximum(s[0], 1e-30))[None], u, 0.0)
