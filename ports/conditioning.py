"""What a UNet is told beside the noisy latents: text, timestep, guidance, sizes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.layers import Linear


class Condition(NamedTuple):
    """What a UNet knows beside the noisy latents; the first axes may be 1 or b.

    ``guidance_scale`` is for consistency models (LCM), which embed it: 1 means none,
    and ``None`` leaves the embedding out, as the paper's authors do when they invert.
    ``pooled`` and ``time_ids`` are SDXL's: the second text encoder's projected feature,
    and (original height, width, crop top, left, target height, width) in pixels.
    """

    context: Float[Array, "#b s e"]
    guidance_scale: Float[Array, "#b"] | None
    pooled: Float[Array, "#b p"] | None = None
    time_ids: Float[Array, "#b 6"] | None = None


def context_of(cond: Array | Condition) -> Float[Array, "#b s e"]:
    """The text's states in a condition."""
    return cond.context if isinstance(cond, Condition) else cond


class TimeEmbedding(nnx.Module):
    """MLP from sinusoids to what every resnet adds; ``d_cond`` is LCM's guidance."""

    def __init__(self, n: int, d: int, *, d_cond: int | None = None, rngs: nnx.Rngs):
        if d_cond:
            self.cond_proj = Linear(d_cond, n, bias=False, rngs=rngs)
        self.linear_1 = Linear(n, d, rngs=rngs)
        self.linear_2 = Linear(d, d, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b n"], cond: Float[Array, "#b c"] | None = None
    ) -> Float[Array, "b d"]:
        if cond is not None:
            x = x + self.cond_proj(cond)
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


def sinusoids(
    t: Array, n: int, *, cosine_first: bool, shift: int
) -> Float[Array, "b n"]:
    """Sinusoids of t (b,) at n/2 frequencies, in float32 (diffusers' Timesteps)."""
    half = n // 2
    exponent = jnp.arange(half, dtype=jnp.float32) / (half - shift)
    frequency = jnp.exp(-math.log(10000.0) * exponent)
    angle = t.astype(jnp.float32)[:, None] * frequency[None]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return jnp.concatenate((cos, sin) if cosine_first else (sin, cos), axis=-1)


def guidance_embedding(scale: Float[Array, " b"], n: int) -> Float[Array, "b n"]:
    """LCM's sinusoids of 1000 (scale - 1), as its pipeline makes them."""
    w = 1000.0 * (scale.astype(jnp.float32) - 1.0)
    return sinusoids(w, n, cosine_first=False, shift=1)
