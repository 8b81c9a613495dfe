"""Where Gaussian noise lies, and how an edit stays there.

Noise of d dimensions has a norm near sqrt(d), and a generator has seen no other. A long
walk along a line leaves that shell; these bring it back, or never leave it.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

Control = Literal["off", "sphere", "channel"]


def restore(
    moved: Float[Array, "*batch c h w"],
    origin: Float[Array, "*#batch c h w"],
    control: Control = "off",
) -> Float32[Array, "*batch c h w"]:
    """``moved`` with the norm (or each channel's mean and deviation) of ``origin``.

    Args:
        moved: edited latents, channels first.
        origin: what they were moved from; broadcast against them.
        control: ``"off"``: nothing, as the paper; ``"sphere"``: the whole latent's
            norm; ``"channel"``: each channel's mean and standard deviation.

    >>> origin = jnp.ones((1, 2, 2)) * 2
    >>> jnp.linalg.norm(restore(origin * 3, origin, "sphere")).item()
    4.0
    """
    moved, origin = moved.astype(jnp.float32), origin.astype(jnp.float32)
    if control == "off":
        return moved
    if control == "sphere":
        axes = (-3, -2, -1)
        size = jnp.sqrt(jnp.sum(moved**2, axes, keepdims=True))
        wanted = jnp.sqrt(jnp.sum(origin**2, axes, keepdims=True))
        return moved * (wanted / jnp.where(size > 0, size, 1.0))
    if control != "channel":
        raise ValueError(f"control is {control!r}; use off, sphere or channel")
    axes = (-2, -1)
    spread = moved.std(axes, keepdims=True)
    standard = (moved - moved.mean(axes, keepdims=True)) / jnp.where(
        spread > 0, spread, 1.0
    )
    return standard * origin.std(axes, keepdims=True) + origin.mean(axes, keepdims=True)


def slerp(
    a: Float[Array, "*latent"], b: Float[Array, "*latent"], t: Float[Array, " s"]
) -> Float32[Array, " s *latent"]:
    """From ``a`` (t = 0) to ``b`` (t = 1) along the great circle, norms interpolated.

    The usual way between two noises (Shoemake 1985): a straight line would cut through
    the shell. Directions that coincide are interpolated straight; opposite ones have no
    great circle of their own, and give NaN.

    >>> a, b = jnp.array([2.0, 0.0]), jnp.array([0.0, 2.0])
    >>> slerp(a, b, jnp.array([0.5]))[0].round(3).tolist()
    [1.4140000343322754, 1.4140000343322754]
    """
    shape = a.shape
    a, b = a.astype(jnp.float32).ravel(), b.astype(jnp.float32).ravel()
    norm_a, norm_b = jnp.linalg.norm(a), jnp.linalg.norm(b)
    u = a / jnp.where(norm_a > 0, norm_a, 1.0)
    v = b / jnp.where(norm_b > 0, norm_b, 1.0)
    # Of the half angles: arccos of the product loses small angles to rounding.
    apart, along = jnp.linalg.norm(u - v), jnp.linalg.norm(u + v)
    angle = 2 * jnp.arctan2(apart, along)
    close, sine = angle < 1e-4, jnp.sin(angle)
    sine = jnp.where(close, 1.0, sine)
    t = t.astype(jnp.float32)[:, None]
    from_a = jnp.where(close, 1 - t, jnp.sin((1 - t) * angle) / sine)
    from_b = jnp.where(close, t, jnp.sin(t * angle) / sine)
    path = from_a * u[None] + from_b * v[None]
    path = jnp.where(along < 1e-4, jnp.nan, path)
    return ((1 - t) * norm_a + t * norm_b).reshape(-1, *([1] * len(shape))) * (
        path.reshape(-1, *shape)
    )
