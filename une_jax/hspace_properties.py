"""What is claimed of h-space, as numbers: homogeneous, linear, robust, steady over time.

Kwon et al. 2023, arXiv 2210.10960, Sec. 5: one move has the same effect on different
images; twice the move has twice the effect, and two moves the sum of theirs; a random
move of the same size does little; moves at different timesteps are alike, so that their
mean serves as well. An effect is a row of changes of one image: of a judge's scores, or
of anything else that is measured before and after. Each number is of one image, so that
an interval over images says how sure it is. All work under jit and vmap.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key

TINY = 1e-12  # below this a length is none


class Line(NamedTuple):
    """A line through 0: ``y = slope x``."""

    slope: Float32[Array, "*b"]
    r2: Float32[Array, "*b"]  # 1 where all is on the line; below 0 where 0 fits better


@jax.default_matmul_precision("float32")
def line(x: Float[Array, "*b k"], y: Float[Array, "*b k"]) -> Line:
    """Least squares of y on x along the last axis, through 0.

    R² is of the squares about 0, as the line is: 1 - |y - slope x|² / |y|². Where x or
    y is all 0, both are 0.

    >>> found = line(jnp.array([1.0, 2.0, -1.0]), jnp.array([2.0, 4.0, -2.0]))
    >>> found.slope.item(), found.r2.item()
    (2.0, 1.0)
    """
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    xx, xy, yy = (jnp.sum(a * b, -1) for a, b in ((x, x), (x, y), (y, y)))
    some = (xx > TINY) & (yy > TINY)
    slope = jnp.where(some, xy / jnp.where(some, xx, 1.0), 0.0)
    left = jnp.sum((y - slope[..., None] * x) ** 2, -1)
    return Line(slope, jnp.where(some, 1 - left / jnp.where(some, yy, 1.0), 0.0))


def cosine(a: Float[Array, "*b k"], b: Float[Array, "*b k"]) -> Float32[Array, "*b"]:
    """Along the last axis; 0 where one has no length.

    >>> cosine(jnp.array([3.0, 0.0]), jnp.array([-1.0, 0.0])).item()
    -1.0
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    size = jnp.sqrt(jnp.sum(a * a, -1) * jnp.sum(b * b, -1))
    some = size > TINY
    return jnp.where(some, jnp.sum(a * b, -1) / jnp.where(some, size, 1.0), 0.0)


def homogeneity(effects: Float[Array, "n k"]) -> Float32[Array, " n"]:
    """How much one move did to each image what it did to the others.

    The cosine of an image's effect and the mean effect on the other images: 1 where all
    are changed alike, about 0 where each is changed in a way of its own.

    >>> homogeneity(jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])).tolist()
    [1.0, 1.0, 1.0]
    """
    effects = effects.astype(jnp.float32)
    others = jnp.sum(effects, 0, keepdims=True) - effects
    return cosine(effects, others)


def over_time(moves: Float[Array, "t ..."]) -> Float32[Array, "t t"]:
    """Cosines of the moves at every two timesteps; 0 where nothing is moved.

    >>> over_time(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 1.0, 0.0]
    """
    rows = moves.reshape(len(moves), -1)
    each = jax.vmap(cosine, (None, 0))
    return jax.vmap(each, (0, None))(rows, rows)


def off_diagonal(square: Float[Array, "n n"]) -> Float32[Array, ""]:
    """The mean of what is not on the diagonal.

    >>> off_diagonal(jnp.array([[1.0, 0.5], [0.25, 1.0]])).item()
    0.375
    """
    n = len(square)
    square = square.astype(jnp.float32)
    return (jnp.sum(square) - jnp.trace(square)) / max(n * (n - 1), 1)


def steady(moves: Float[Array, "t ..."]) -> Float32[Array, "t ..."]:
    """The mean over time, at every step that is moved (Asyrp's global move), unscaled.

    >>> steady(jnp.array([[1.0], [3.0], [0.0]])).ravel().tolist()
    [2.0, 2.0, 0.0]
    """
    moves = moves.astype(jnp.float32)
    used = jnp.any(moves != 0, tuple(range(1, moves.ndim)), keepdims=True)
    count = jnp.maximum(jnp.sum(used.astype(jnp.float32)), 1.0)
    mean = jnp.sum(moves, 0, keepdims=True) / count
    return jnp.where(used, mean, 0.0)


def sized(moves: Float[Array, "t ..."], like: Float[Array, "t ..."]) -> Float32[Array, "t ..."]:  # fmt: skip
    """Moves brought, at each step, to the length of another table's.

    >>> sized(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 10.0]])).tolist()
    [[6.0, 8.0]]
    """
    moves, axes = moves.astype(jnp.float32), tuple(range(1, moves.ndim))

    def length(x):
        return jnp.sqrt(jnp.sum(x.astype(jnp.float32) ** 2, axes, keepdims=True))

    own = length(moves)
    return jnp.where(own > TINY, moves * length(like) / jnp.where(own > TINY, own, 1.0), 0.0)  # fmt: skip


def random_like(key: Key[Array, ""], moves: Float[Array, "t ..."]) -> Float32[Array, "t ..."]:  # fmt: skip
    """A random direction, the same at all steps, of each step's own length.

    The control of a move: as far, anywhere.

    >>> moves = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    >>> jnp.linalg.norm(random_like(jax.random.key(0), moves), axis=1).round(4).tolist()
    [5.0, 1.0]
    """
    one = jax.random.normal(key, moves.shape[1:])
    return sized(jnp.broadcast_to(one[None], moves.shape), moves)
