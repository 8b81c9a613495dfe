"""Rows about their mean and vectors at length 1, as float32 can hold them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def centred(
    x: Float[Array, "n d"],
) -> tuple[Float32[Array, "n d"], Float32[Array, " d"]]:
    """The rows less their mean, and the mean.

    Twice: the first mean is rounded in units of the mean, the second in those of what
    is left.

    >>> rows, mean = centred(jnp.array([[1.0, 4.0], [3.0, 4.0]]))
    >>> rows.tolist(), mean.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [2.0, 4.0])
    """
    x = x.astype(jnp.float32)
    mean = x.mean(axis=0)
    x = x - mean[None]
    left = x.mean(axis=0)
    return x - left[None], mean + left


def unit(w: Float[Array, " d"]) -> Float32[Array, " d"]:
    """``w`` at length 1; zeros stay zeros (an attribute that was never seen).

    >>> unit(jnp.array([3.0, 4.0])).round(1).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    w = w.astype(jnp.float32)
    # Divided by the largest entry first: squares of tiny weights would underflow.
    largest = jnp.max(jnp.abs(w))
    w = w / jnp.where(largest > 0, largest, 1.0)
    # A zero vector has no gradient of its norm: replace it before, not after.
    square = jnp.sum(w**2)
    return w / jnp.sqrt(jnp.where(square > 0, square, 1.0))


def unit_rows(x: Float[Array, "n d"]) -> Float32[Array, "n d"]:
    """:func:`unit` of every row.

    >>> unit_rows(jnp.array([[0.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return jax.vmap(unit)(x)


def faced(w: Float[Array, " d"]) -> Float32[Array, " d"]:
    """``w`` or ``-w``: that whose entry of largest magnitude is positive.

    Eigenvectors come with either sign; this makes it the same on every machine.

    >>> faced(jnp.array([1.0, -3.0])).tolist()
    [-1.0, 3.0]
    """
    w = w.astype(jnp.float32)
    return w * jnp.sign(w[jnp.argmax(jnp.abs(w))])
