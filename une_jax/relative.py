"""Relative representations: a row told by its cosines to a few shared ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


@jax.default_matmul_precision("float32")
def relative(
    x: Float[Array, "n d"], anchors: Float[Array, "m d"], *, centre: bool = False
) -> Float32[Array, "n m"]:
    """Cosine of every row to every anchor (Moschella et al. 2023, arXiv 2209.15430).

    Two views of the same images can be compared through the same images as anchors,
    with nothing fitted. Rotations and one scale for all do not change it; translations
    do, unless ``centre``. In d dimensions of independent noise, cosines are about
    N(0, 1 / d): compare with shuffled pairs. Works under jit, vmap and grad.

    Args:
        centre: both about the anchors' mean.

    Returns:
        Cosines; NaN for a row, or to an anchor, that is zero.

    >>> relative(jnp.array([[2.0, 0.0]]), jnp.eye(2)).tolist()
    [[1.0, 0.0]]
    """
    x, anchors = x.astype(jnp.float32), anchors.astype(jnp.float32)
    if centre:
        mean = anchors.mean(axis=0, keepdims=True)
        x, anchors = x - mean, anchors - mean
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    anchors = anchors / jnp.linalg.norm(anchors, axis=1, keepdims=True)
    return x @ anchors.T
