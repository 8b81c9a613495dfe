"""Classifier-free guidance as a model: both branches in one call of twice the batch.

Guided sampling walks along ``without + scale * (with - without)``, two outputs of one
model (arXiv 2207.12598, Eq. 6, with ``scale`` its 1 + w, as diffusers counts). Their
weights sum to 1, and eps is affine in the raw output at the same sample, so the formula
holds for the raw outputs of every prediction type.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.ddim import EpsFn


class Guided(NamedTuple):
    """A condition with guidance.

    ``both`` conditions 2 b samples, the first b without the prompt and the last b with
    it: its leaves' first axes have r rows, where r divides 2 b, and a row conditions
    2 b / r samples one after the other (two rows are two prompts for the whole batch).
    """

    both: Any
    scale: Float[Array, " r"]  # 1 for the batch, or b


def guide(cond: Any, without: Any, scale: Float[Array, " r"]) -> Guided:
    """The two conditions as one; their leaves' first axes may be 1 or b.

    >>> guide(jnp.ones((4, 3)), jnp.zeros((1, 3)), jnp.full(1, 7.5)).both.shape
    (8, 3)
    """

    def join(a, b):
        rows = max(len(a), len(b))
        parts = (jnp.repeat(x, rows // len(x), axis=0) for x in (a, b))
        return jnp.concatenate(list(parts))

    return Guided(jax.tree.map(join, without, cond), scale)


def guided(eps_fn: EpsFn) -> EpsFn:
    """The model whose ``cond`` may be a :class:`Guided`; another one is passed through.

    So a scale of 1 costs nothing: leave ``Guided`` out. The two outputs are combined in
    float32, each sample at its own scale. Works under jit, vmap, grad and shard_map.

    >>> def eps_fn(params, x, t, cond):
    ...     return x * jnp.repeat(cond, len(x) // len(cond))[:, None, None, None]
    >>> cond = guide(jnp.full(1, 3.0), jnp.full(1, 2.0), jnp.full(1, 5.0))
    >>> x, t = jnp.ones((2, 1, 1, 1)), jnp.ones(2, jnp.int32)
    >>> guided(eps_fn)(None, x, t, cond).ravel().tolist()  # 2 + 5 (3 - 2)
    [7.0, 7.0]
    """

    def run(params: Any, x: Array, t: Array, cond: Any) -> Array:
        if not isinstance(cond, Guided):
            return eps_fn(params, x, t, cond)
        return combine(eps_fn(params, twice(x), twice(t), cond.both), cond.scale)

    return run


def twice(x: Array) -> Array:
    """A batch for both branches: the samples, and the same once more."""
    return jnp.concatenate([x, x])


def combine(out: Array, scale: Float[Array, " r"]) -> Float32[Array, "b h w c"]:
    """The guided output, of both branches' (2 b, h, w, c)."""
    without, with_prompt = jnp.split(out.astype(jnp.float32), 2)
    by = scale.astype(jnp.float32)[:, None, None, None]
    return without + by * (with_prompt - without)
