"""What a UNet is told beside the noisy latents: text, timestep, guidance, sizes."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped

from ports.layers import Linear

KeysValues = tuple[Float[Array, "r s d"], Float[Array, "r s d"]]
"""What an attention's queries meet: keys and values of the text's states."""


class Condition(NamedTuple):
    """What a UNet knows beside the noisy latents.

    Each first axis has r rows, where r divides the batch: a row conditions b / r samples
    one after the other. So 1 conditions all, and b each its own.

    ``guidance_scale`` is for consistency models (LCM), which embed it: 1 means none,
    and ``None`` leaves the embedding out, as the paper's authors do when they invert.
    ``pooled`` and ``time_ids`` are SDXL's: the second text encoder's projected feature,
    and (original height, width, crop top, left, target height, width) in pixels.
    """

    context: Float[Array, "r s e"]
    guidance_scale: Float[Array, " r"] | None
    pooled: Float[Array, "r p"] | None = None
    time_ids: Float[Array, "r 6"] | None = None


class Told(NamedTuple):
    """What a condition comes down to in one layer of a UNet."""

    offset: Float[Array, "b n"]  # the timestep's, for every pixel in the resnet
    text: tuple[KeysValues, ...]  # of each block of the transformer, where there is one


class Prepared(NamedTuple):
    """A condition with all that no latents enter computed ahead, at given timesteps.

    Get one from ``UNet.prepare``. Every leaf's first axis is as a ``Condition``'s. The
    offsets in ``layers`` (by block and layer) are tables (r, timesteps, n).
    """

    t: Float[Array, "1 timesteps"]
    layers: tuple[tuple[Told, ...], ...]

    def at(
        self, t: Float[Array, " b"] | Int[Array, " b"]
    ) -> tuple[tuple[Told, ...], ...]:
        """``layers`` at each sample's timestep; NaN where it is not in the table."""
        same = t.astype(jnp.float32)[:, None] == self.t
        found, place = same.any(axis=1), same.argmax(axis=1)

        def look_up(table):
            r, b = len(table), len(t)
            if r == 1:
                rows = jnp.take(table[0], place, axis=0, mode="clip")
            else:
                rows = table[for_batch(jnp.arange(r), b), place]
            return jnp.where(found[:, None], rows, jnp.nan)

        return tuple(
            tuple(Told(look_up(layer.offset), layer.text) for layer in block)
            for block in self.layers
        )


def for_batch(rows: Shaped[Array, "r ..."], b: int) -> Shaped[Array, "b ..."]:
    """A condition's rows for b samples: each for b / r of them, one after the other."""
    if b % len(rows):
        raise ValueError(f"{len(rows)} conditions do not divide a batch of {b}")
    return jnp.repeat(rows, b // len(rows), axis=0)


def checked(config: Any, cond: Array | Condition) -> Condition:
    """The condition in full; ValueError where the network needs more, or takes less.

    ``config`` is the UNet's.
    """
    if config.time_cond_proj_dim and not isinstance(cond, Condition):
        raise ValueError(
            "this UNet embeds a guidance scale: pass Condition(context, "
            "guidance_scale=w), or guidance_scale=None to leave the embedding out"
        )
    full = cond if isinstance(cond, Condition) else Condition(cond, None)
    if full.guidance_scale is not None and not config.time_cond_proj_dim:
        raise ValueError("this UNet embeds no guidance scale: pass guidance_scale=None")
    for name in ("pooled", "time_ids"):
        if (getattr(full, name) is not None) != bool(config.addition_embed_type):
            verb = "needs" if config.addition_embed_type else "takes no"
            raise ValueError(f"this UNet {verb} Condition.{name}")
    return full


class TimeEmbedding(nnx.Module):
    """MLP from sinusoids to what every resnet adds; ``d_cond`` is LCM's guidance."""

    def __init__(self, n: int, d: int, *, d_cond: int | None = None, rngs: nnx.Rngs):
        if d_cond:
            self.cond_proj = Linear(d_cond, n, bias=False, rngs=rngs)
        self.linear_1 = Linear(n, d, rngs=rngs)
        self.linear_2 = Linear(d, d, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b n"], cond: Float[Array, "b c"] | None = None
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
