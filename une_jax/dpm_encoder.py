"""DPM-Encoder: the whole noise of a stochastic sampler as an image's code.

CycleDiffusion, arXiv 2210.05559, Sec. 3: a trajectory is drawn from the forward process
that ends in the image, and the code is the noise that would have led the sampler along
it. Decoding it with the same model gives the image back; with another, a translation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key

from une_jax.ddim import EpsFn, ddim_step
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.stochastic import Noisy, draw, noisy


class Code(NamedTuple):
    """x_T, and the n steps' noise in the order in which sampling takes it.

    x_T is standard normal. ``eps`` is so only for many steps or a large eta: its
    variance is 1 + c^2 Var(e | x_t) >= 1, see :func:`excess`.
    """

    x_T: Float32[Array, "b h w c"]
    eps: Float32[Array, "b n h w c"]


class Encoding(NamedTuple):
    """What :func:`encode_with_residual` gives."""

    code: Code
    residual: Float32[Array, " b"]


def encode(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = 0.1,
) -> Code:
    """A code of ``x0`` under the sampler with noise ``eta`` (DDIM, Eq. 16).

    Args:
        keys: (b,), one for each sample, so that a code does not depend on its
            neighbours.
        eta: above 0, where sampling would be deterministic, up to 1 (DDPM); static
            under jit.

    A last step to alpha 1 has no noise of its own; its code is the plain difference.
    Works under jit (``static_argnums=0``), vmap and shard_map.

    Raises:
        UneError: ``eta`` is not in (0, 1], or the schedule's sampling is undefined.

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
    how = {"keys": keys, "eta": eta}
    return encode_with_residual(eps_fn, params, x0, schedule, cond, **how).code


def encode_with_residual(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = 0.1,
) -> Encoding:
    """:func:`encode`, and for each sample how badly its worst step would be decoded.

    ``residual`` (b,) is the root mean square by which a step's code misses the sample
    that it leads to, in units of the latent: rounding alone, for no model call more.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0, keys = jnp.ones((1, 8, 8, 4)), jax.random.split(jax.random.key(0), 1)
    >>> out = encode_with_residual(
    ...     lambda p, x, t, c: jnp.sin(x), None, x0, schedule, keys=keys
    ... )
    >>> bool(0 < out.residual[0] < 1e-6)
    True
    """
    table = _table(schedule, eta)
    x0 = x0.astype(jnp.float32)
    last = len(table.sigma) - 1

    def body(x, step):
        i, mean = step
        row = mean.rows
        e = (x - jnp.sqrt(row.alpha_from) * x0) / jnp.sqrt(1 - row.alpha_from)
        drawn = (
            jnp.sqrt(row.alpha_to) * x0
            + mean.kept * e
            + mean.sigma * draw(keys, i + 1, x0.shape[1:])
        )
        x_to = jnp.where(i == last, x0, drawn)
        centre, scale = _centre(eps_fn, params, x, mean, cond), _scale(mean.sigma)
        eps = (x_to - centre) / scale
        miss = jnp.sqrt(jnp.mean((centre + scale * eps - x_to) ** 2, axis=(1, 2, 3)))
        return x_to, (eps, miss)

    alpha_T = table.rows.alpha_from[0]
    x_T = jnp.sqrt(alpha_T) * x0 + jnp.sqrt(1 - alpha_T) * draw(keys, 0, x0.shape[1:])
    _, (eps, misses) = jax.lax.scan(body, x_T, (jnp.arange(last + 1), table))
    return Encoding(Code(x_T, jnp.moveaxis(eps, 0, 1)), misses.max(axis=0))


def decode(
    eps_fn: EpsFn,
    params: Any,
    code: Code,
    schedule: Schedule,
    cond: Any = None,
    *,
    eta: float = 0.1,
) -> Float32[Array, "b h w c"]:
    """The image of a code, for the schedule and ``eta`` that it was encoded with.

    Transformations and errors as in :func:`encode`; an example is there.
    """

    def body(x, step):
        mean, eps = step
        centre = _centre(eps_fn, params, x, mean, cond)
        return centre + _scale(mean.sigma) * eps, None

    steps = (_table(schedule, eta), jnp.moveaxis(code.eps, 1, 0))
    return jax.lax.scan(body, code.x_T, steps)[0]


def begin(
    x_T: Float[Array, "b h w c"], schedule: Schedule, *, keys: Key[Array, " b"]
) -> Code:
    """A code for noise that has no history: each step's drawn anew, from these keys.

    No draw is one that :func:`encode` makes with the same keys.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x_T, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> begin(x_T, schedule, keys=keys).eps.shape
    (1, 10, 2, 2, 4)
    """
    n = len(schedule.sampling.t)
    others = jax.vmap(jax.random.fold_in, (0, None))(keys, n + 1)
    shape = (n, *x_T.shape[1:])
    eps = jax.vmap(lambda key: jax.random.normal(key, shape))(others)
    return Code(x_T.astype(jnp.float32), eps)


def excess(schedule: Schedule, *, eta: float = 0.1) -> Float32[Array, " n"]:
    """c of each step: ``eps`` has variance 1 + c^2 Var(e | x_t), not 1.

    Where a denoiser is optimal, a step's code is its own noise plus c times what the
    denoiser cannot know; dividing by the root of that variance whitens the code.

    >>> excess(Schedule.from_config({}, steps=10)).shape
    (10,)
    """
    table = _table(schedule, eta)
    rows = table.rows
    moved = jnp.sqrt(rows.alpha_to / rows.alpha_from) * jnp.sqrt(1 - rows.alpha_from)
    return (table.kept - moved) / _scale(table.sigma)


def _table(schedule: Schedule, eta: float) -> Noisy:
    if not 0 < eta <= 1:
        raise UneError(f"eta is {eta}; use above 0 (at 0 there is no noise), up to 1")
    return noisy(schedule, eta)


def _centre(eps_fn: EpsFn, params: Any, x: Array, mean: Noisy, cond: Any) -> Array:
    x_to, eps = ddim_step(eps_fn, params, x, mean.rows, cond)
    return x_to + mean.turn * eps


def _scale(sigma: Array) -> Array:
    return jnp.where(sigma == 0, 1.0, sigma)
