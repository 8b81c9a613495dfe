"""The directions of an inner activation that change an output most, at one point.

They are the top right singular vectors of the Jacobian of what comes after: of the
decoder half of a UNet, from its bottleneck h to eps (Haas et al., arXiv 2303.11073, on
image-specific directions). The Jacobian, 16,384 x 81,920 numbers for SD 1.5, is never
formed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray, Shaped

from une_jax import spectral
from une_jax.errors import UneError
from une_jax.normalise import faced


class Singular(NamedTuple):
    """The k largest singular values of a Jacobian and their right vectors."""

    directions: Float32[Array, " k *h"]  # orthonormal; the largest entry is positive
    values: Float32[Array, " k"]  # descending: |change of the output| per unit of h
    iterations: Int32[Array, ""]  # products with J^T J, of all directions at once
    residual: Float32[Array, " k"]  # |J^T J v - value^2 v| / largest value^2


@jax.default_matmul_precision("float32")
def singular(
    f: Callable[[Array], Array],
    h: Float[Array, "*h"],
    k: int = 3,
    *,
    mask: Shaped[Array, "..."] | None = None,
    key: PRNGKeyArray | None = None,
    tol: float | Float[Array, ""] = 1e-5,
    max_iter: int = 50,
    oversample: int = 2,
    at_once: int | None = None,
) -> Singular:
    """The ``k`` directions at ``h`` along which ``f`` changes most.

    Subspace iteration through forward and reverse products (arXiv 2303.11073,
    Algorithm 1): ``V <- orthonormal(J^T (J V))``, with the Ritz vectors of J^T J in it,
    and with ``oversample`` columns more, which make the error fall by
    (value[k + oversample] / value[k])^2 an iteration instead of (value[k + 1] /
    value[k])^2. It ends where no squared value changes by more than ``tol`` of the
    largest. Values are then right to about ``tol``; a vector beside a close value may
    still be turned towards that one's: look at ``residual``, and use a smaller ``tol``.

    The activations of one call of ``f`` are kept, and what each direction's products
    take is bounded by ``at_once``. Works under jit (all but ``h``, ``mask``, ``key`` and
    ``tol`` static) and vmap over images; a batch goes on until its slowest is done.
    Directions found at one step may be used at all of them: see
    :func:`jax.numpy.broadcast_to`; the paper scales them by 50 to 100 times the value.

    Args:
        f: from one h to an output of any shape and float dtype; the decoder half with
            one image's skips, ``lambda h: up(params, h[None], rest)[0]``. It needs a
            forward derivative, which cuDNN's attention has not: no half precision on
            GPUs.
        h: the point, of any shape.
        mask: weights that the output is multiplied by, broadcast against it: 1 in the
            region to edit, 0 elsewhere.
        key: of the random start; ``jax.random.key(0)`` where left out.
        max_iter: iterations at most; 50 in the paper, 200 in its demo.
        at_once: directions whose products are computed together; all where left out,
            1 for the least memory.

    Raises:
        UneError: ``k`` is not within 1 and the size of h, or there is no iteration.

    >>> h = jnp.array([0.0, 0.0, 1.0])
    >>> found = singular(lambda h: h**2 + jnp.array([0.0, 3.0, 0.0]) * h, h, 2)
    >>> found.values.round().tolist()
    [3.0, 2.0]
    >>> jnp.abs(found.directions).round(2).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    d = h.size
    if not 1 <= k <= d:
        raise UneError(f"k is {k}; an h of {d} numbers has 1 to {d} directions")
    if max_iter < 1 or oversample < 0 or (at_once is not None and at_once < 1):
        raise UneError(
            f"max_iter is {max_iter}, oversample {oversample}, at_once {at_once}; "
            "use 1, 0 and 1 or more"
        )
    h = h.astype(jnp.float32)

    def seen(h):
        out = f(h).astype(jnp.float32)
        return out if mask is None else _masked(out, mask)

    _, push = jax.linearize(seen, h)
    pull = jax.linear_transpose(push, h)

    def product(v):
        return pull(push(v.reshape(h.shape)))[0].ravel()

    def products(columns):
        return jax.lax.map(product, columns.T, batch_size=at_once or block).T

    block = min(d, k + oversample)
    key = jax.random.key(0) if key is None else key
    start, _ = jnp.linalg.qr(jax.random.normal(key, (d, block), jnp.float32))
    start = start + 0 * jnp.sum(h)  # split over a mesh where h is
    none = jnp.zeros(block, jnp.float32) + 0 * jnp.sum(h)

    def going(state):
        _, _, _, change, i = state
        return (i < max_iter) & (change > tol)

    def step(state):
        before, _, image, _, i = state
        values, vectors, image = _turned(image, products)
        change = jnp.abs(values - before)[:k].max() / jnp.maximum(values[0], 1e-30)
        return values, vectors, image, change, i + 1

    state = none, start, start, none[0] + jnp.inf, jnp.int32(0)
    squares, vectors, image, _, done = jax.lax.while_loop(going, step, state)
    directions = jax.vmap(faced)(vectors.T[:k]).reshape(k, *h.shape)
    values = jnp.sqrt(jnp.maximum(squares[:k], 0.0))
    wrong = spectral.residual(image, squares, vectors)
    return Singular(directions, values, done, wrong[:k])


def _turned(columns: Array, products: Callable) -> tuple[Array, Array, Array]:
    """The Ritz values and vectors in the columns' span, and the products with them."""
    basis = spectral.orthonormal(columns)
    return spectral.rayleigh_ritz(basis, products(basis))


def _masked(out: Array, mask: Array) -> Array:
    shape = jnp.broadcast_shapes(out.shape, mask.shape)
    if shape != out.shape:
        raise UneError(f"a mask {mask.shape} does not fit an output {out.shape}")
    return out * jnp.broadcast_to(mask.astype(jnp.float32), shape)
