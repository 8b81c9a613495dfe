"""DPM-Encoder: the whole noise of a stochastic sampler as an image's code.

CycleDiffusion, arXiv 2210.05559, Sec. 3: a trajectory is drawn from the forward process
that ends in the image, and the code is the noise that would have led the sampler along
it. Decoding it with the same model gives the image back; with another, a translation
(:mod:`une_jax.translation`).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Key

from une_jax import codes
from une_jax.codes import ETA, Encoding, Skip, encode_along, scale, table
from une_jax.codes import Code as Code
from une_jax.codes import begin as begin
from une_jax.ddim import EpsFn
from une_jax.schedule import Schedule
from une_jax.stochastic import Noisy, draw


def encode(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = ETA["dpm-encoder"],
    skip: Skip = 0,
) -> Code:
    """A code of ``x0`` under the sampler with noise ``eta`` (DDIM, Eq. 16).

    ``x_T`` is standard normal up to what is left of the image. ``eps`` is so only for
    many steps or a large eta: its variance is 1 + c^2 Var(e | x_t) >= 1, see
    :func:`excess` and :mod:`une_jax.code_spread`.

    Args:
        keys: (b,), one for each sample, so that a code does not depend on its
            neighbours.
        eta: above 0, where sampling would be deterministic, up to 1 (DDPM); static
            under jit.
        skip: leave out so many of the first steps and noise ``x0`` directly to where the
            next one starts: the less noise, the more of the image stays. Data: another
            one does not recompile. Decode with the same one.

    A last step to alpha 1 has no noise of its own; its code is the plain difference.
    Works under jit (``static_argnums=0``), vmap and shard_map.

    Raises:
        UneError: ``eta`` is not in (0, 1], ``skip`` leaves no step (unless it is traced,
            when nothing is looked at), or the schedule's sampling is undefined.

    >>> import jax
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> eps_fn = lambda params, x, t, cond: jnp.sin(x)
    >>> x0, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> code = encode(eps_fn, None, x0, schedule, keys=keys)
    >>> code.eps.shape
    (1, 10, 2, 2, 4)
    >>> again = decode(eps_fn, None, code, schedule)
    >>> bool(jnp.abs(again - x0).max() < 1e-4)
    True
    """
    how = {"keys": keys, "eta": eta, "skip": skip}
    return encode_with_residual(eps_fn, params, x0, schedule, cond, **how).code


def encode_with_residual(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = ETA["dpm-encoder"],
    skip: Skip = 0,
) -> Encoding:
    """:func:`encode`, and for each sample how badly its worst step would be decoded.

    ``residual`` (b,) is the root mean square by which a step's code misses the sample
    that it leads to, in units of the latent: rounding alone, for no model call more.

    >>> import jax
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0, keys = jnp.ones((1, 8, 8, 4)), jax.random.split(jax.random.key(0), 1)
    >>> out = encode_with_residual(
    ...     lambda p, x, t, c: jnp.sin(x), None, x0, schedule, keys=keys
    ... )
    >>> bool(0 < out.residual[0] < 1e-6)
    True
    """
    how = {"keys": keys, "eta": eta, "skip": skip}
    return encode_along(path, eps_fn, params, x0, schedule, cond, **how)


def decode(
    eps_fn: EpsFn,
    params: Any,
    code: Code,
    schedule: Schedule,
    cond: Any = None,
    *,
    eta: float = ETA["dpm-encoder"],
    skip: Skip = 0,
) -> Float32[Array, "b h w c"]:
    """:func:`une_jax.codes.decode` with this code's ``eta``; an example is in
    :func:`encode`."""
    how = {"eta": eta, "skip": skip}
    return codes.decode(eps_fn, params, code, schedule, cond, **how)


def path(
    keys: Key[Array, " b"],
    i: int | Int[Array, ""],
    x: Float32[Array, "b h w c"],
    row: Noisy,
    x0: Float32[Array, "b h w c"],
) -> Float32[Array, "b h w c"]:
    """A draw of q(x_s | x_t, x_0): where step i of the trajectory leads from ``x``.

    >>> import jax
    >>> rows = table(Schedule.from_config({}, steps=10), 0.1)
    >>> row, x = jax.tree.map(lambda a: a[0], rows), jnp.ones((1, 2, 2, 4))
    >>> path(jax.random.key(0)[None], 0, x, row, x).shape
    (1, 2, 2, 4)
    """
    a, a_to = row.rows.alpha_from, row.rows.alpha_to
    e = (x - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a)
    noise = row.sigma * draw(keys, i + 1, x0.shape[1:])
    return jnp.sqrt(a_to) * x0 + row.kept * e + noise


def excess(
    schedule: Schedule, *, eta: float = ETA["dpm-encoder"]
) -> Float32[Array, " n"]:
    """c of each step: ``eps`` has variance 1 + c^2 Var(e | x_t), not 1.

    Where a denoiser is optimal, a step's code is its own noise plus c times what the
    denoiser cannot know; dividing by the root of that variance whitens the code.

    At alpha 0 (zero terminal SNR) Var(e | x_t) is 0 and c times its root is not: c is
    there what eps keeps, and the image's own share is in
    :func:`une_jax.code_spread.variance`.

    >>> excess(Schedule.from_config({}, steps=10)).shape
    (10,)
    """
    rows = table(schedule, eta)
    a, a_to = rows.rows.alpha_from, rows.rows.alpha_to
    some = jnp.where(a > 0, a, 1.0)
    moved = jnp.where(a > 0, jnp.sqrt(a_to / some) * jnp.sqrt(1 - a), 0.0)
    return (rows.kept - moved) / scale(rows.sigma)
