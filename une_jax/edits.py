"""Edits: walk a latent along a direction, with other attributes held.

A direction is the normal of an attribute's linear boundary (``probes.Probe.weight``),
flattened in the same order as the latents that it moves.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.normalise import unit as unit
from une_jax.normalise import unit_rows

# Directions closer than this (relative) are one direction in float32.
RTOL = 1e-5


@jax.default_matmul_precision("float32")
def orthogonalize(
    w: Float[Array, " d"], against: Float[Array, " d"] | Float[Array, "m d"]
) -> Float32[Array, " d"]:
    """The part of ``w`` that leaves every row of ``against`` alone.

    With one vector this is the paper's Eq. (4), ``w1 - w2 (w2.w1) / (w2.w2)``; with m of
    them the span goes. Their lengths do not matter; repeated, dependent and zero rows
    are allowed. A ``w`` inside the span gives zeros.

    >>> w = jnp.array([1.0, 1.0, 1.0])
    >>> orthogonalize(w, jnp.array([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [0.0, 1.0, 1.0]
    """
    w = w.astype(jnp.float32)
    rows = unit_rows(jnp.atleast_2d(against))
    # The pseudo-inverse, unlike QR without pivoting, knows the rank, and has a gradient.
    inverse = jnp.linalg.pinv(rows, rtol=RTOL)
    rest = w - inverse @ (rows @ w)
    rest = rest - inverse @ (rows @ rest)  # twice is enough: removes the rounding
    # Of a w inside the span only rounding is left, which must not become a direction.
    return jnp.where(jnp.sum(rest**2) > RTOL**2 * jnp.sum(w**2), rest, 0.0)


@jax.default_matmul_precision("float32")
def projection_std(
    x: Float[Array, "n d"], direction: Float[Array, " d"]
) -> Float32[Array, ""]:
    """Standard deviation over the rows of ``x @ direction``: the unit of an edit.

    >>> projection_std(jnp.array([[1.0, 5.0], [3.0, 5.0]]), jnp.array([1.0, 0.0])).item()
    1.0
    """
    return jnp.std(x.astype(jnp.float32) @ direction.astype(jnp.float32))


@jax.default_matmul_precision("float32")
def displace(
    x_T: Float[Array, " *latent"],
    moves: Float[Array, "m d"],
    amounts: Float[Array, " m"],
) -> Float32[Array, " *latent"]:
    """A latent moved along one direction or several: ``x_T + amounts @ moves``, Eq. (3).

    With unit moves and amounts in :func:`projection_std`, an edit counts in standard
    deviations. No amount, no change. For a grid, vmap over ``x_T``, ``amounts``, or both.

    Raises:
        ValueError: if ``moves`` have not one number for each number of ``x_T``.

    >>> moves = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> displace(jnp.ones((2, 1)), moves, jnp.array([3.0, -1.0])).ravel().tolist()
    [4.0, 0.0]
    """
    if moves.shape[1] != x_T.size:
        raise ValueError(
            f"moves have {moves.shape[1]} numbers each, the latent {x_T.shape}"
        )
    step = amounts.astype(jnp.float32) @ moves.astype(jnp.float32)
    return x_T.astype(jnp.float32) + step.reshape(x_T.shape)


@jax.default_matmul_precision("float32")
def crossing(
    x: Float[Array, " d"],
    readers: Float[Array, "m d"],
    bias: Float[Array, " m"],
    moves: Float[Array, "m d"],
    margins: Float[Array, " m"],
) -> Float32[Array, " m"]:
    """How much of each move brings every score ``x @ readers.T + bias`` to its margin.

    One linear system, so that moves which change each other's scores end where they
    shall. For one move along its reader and margin 0 this is the signed step to the
    boundary of the authors' code, ``-(w @ z + b) / |w|^2``. NaN where the moves cannot
    set the scores.

    >>> x, readers = jnp.array([1.0, 7.0]), jnp.array([[2.0, 0.0]])
    >>> moves, one = jnp.array([[0.5, 3.0]]), jnp.ones(1)
    >>> crossing(x, readers, one, moves, 5 * one).tolist()
    [2.0]
    """
    x, readers, moves = (v.astype(jnp.float32) for v in (x, readers, moves))
    missing = margins - (readers @ x + bias)
    size, far = (jnp.linalg.norm(v, axis=1) for v in (readers, moves))
    size, far = (jnp.where(v > 0, v, 1.0) for v in (size, far))
    gain = readers @ moves.T / jnp.outer(size, far)  # cosines
    u, s, vt = jnp.linalg.svd(gain)
    # Moves that were made to leave a score alone change it by rounding only.
    able = s[-1] > RTOL
    found = vt.T @ ((u.T @ (missing / size)) / jnp.where(able, s, 1.0))
    return jnp.where(able, found / far, jnp.nan)
