"""An algebraically exact pair of sampler and inversion: BDIA (arXiv 2307.10829).

With its gamma at 1, a step reads one sample and leaps over it:
x_{i-1} = x_{i+1} + (s_{i-1} - s_{i+1}) clean(x_i) + (n_{i-1} - n_{i+1}) eps(x_i), where
s and n are the levels' signal and noise. Turned round, it is its own inverse, and what
is left of the round trip is rounding. The price is a state of two samples.

Why this one: both terms are added, and none is multiplied, so that rounding does not
grow with the steps, as it does in O-BELM (arXiv 2410.07273); EDICT (arXiv 2211.12446)
needs twice the model calls. ``scripts/bench_round_trips.py`` measures all three.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.ddim import EpsFn, ddim_step
from une_jax.schedule import Schedule, Steps


class Pair(NamedTuple):
    """The noise, and the sample one step nearer to the image: both are needed."""

    x_T: Float32[Array, "b h w c"]
    x_before: Float32[Array, "b h w c"]


class Inversion(NamedTuple):
    """What :func:`invert_with_residual` gives."""

    pair: Pair
    residual: Float32[Array, " b"]


class _Leaps(NamedTuple):
    """A row for each level but the two ends, and what its leap to more noise adds."""

    rows: Steps
    signal: Float32[Array, " m"]
    noise: Float32[Array, " m"]


def invert(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Pair:
    """The pair from which :func:`sample` gives ``x0`` back, up to rounding.

    As many model calls as ``ddim.invert``; every eps is taken at its own sample. With
    ``eval_at="source"`` x0 stands for the sample at the earliest timestep, as there.
    Works under jit, vmap, grad and shard_map.

    Raises:
        UneError: where the schedule's sampling is undefined.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> eps_fn = lambda params, x, t, cond: jnp.sin(x)
    >>> x0 = jnp.ones((1, 2, 2, 4))
    >>> again = sample(eps_fn, None, invert(eps_fn, None, x0, schedule), schedule)
    >>> bool(jnp.abs(again - x0).max() < 1e-5)
    True
    """
    return invert_with_residual(eps_fn, params, x0, schedule, cond).pair


def invert_with_residual(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Inversion:
    """:func:`invert`, and for each sample how badly its worst step would be undone.

    ``residual`` (b,) is the root mean square by which sampling's step misses, in units
    of the latent: rounding alone, for no model call more. The steps' roundings add up;
    a round trip is within their sum, about 1e-6 for 50 steps.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0 = jax.random.normal(jax.random.key(0), (1, 8, 8, 4))
    >>> out = invert_with_residual(lambda p, x, t, c: jnp.sin(x), None, x0, schedule)
    >>> bool(0 < out.residual[0] < 1e-6)
    True
    """
    x0 = x0.astype(jnp.float32)
    signal, noise = _levels(schedule)
    first = jax.tree.map(lambda leaf: leaf[-1], schedule.sampling)
    _, eps = ddim_step(eps_fn, params, x0, first, cond)
    x1 = signal[1] * (x0 - noise[0] * eps) / signal[0] + noise[1] * eps

    def body(carry, leap):
        (x_under, x), worst = carry
        across = _leap(eps_fn, params, x, leap, cond)
        x_over = x_under + across
        miss = jnp.sqrt(jnp.mean((x_over - across - x_under) ** 2, axis=(1, 2, 3)))
        return ((x, x_over), jnp.maximum(worst, miss)), None

    # Made from x1, so that it is split over the mesh as that is inside shard_map; NaN
    # stays NaN.
    none = 0 * x1.mean((1, 2, 3))
    start = ((x0, x1), none)
    ((x_before, x_T), worst), _ = jax.lax.scan(body, start, _leaps(schedule))
    return Inversion(Pair(x_T, x_before), worst)


def sample(
    eps_fn: EpsFn, params: Any, noise: Pair, schedule: Schedule, cond: Any = None
) -> Float32[Array, "b h w c"]:
    """The image of a pair, with one model call less than :func:`invert`.

    Transformations and errors as in :func:`invert`; an example is there.
    """

    def body(carry, leap):
        x_over, x = carry
        return (x, x_over - _leap(eps_fn, params, x, leap, cond)), None

    start = (noise.x_T.astype(jnp.float32), noise.x_before.astype(jnp.float32))
    (_, x0), _ = jax.lax.scan(body, start, _leaps(schedule), reverse=True)
    return x0


def begin(
    eps_fn: EpsFn,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Pair:
    """A pair for noise that has no history: one DDIM step (one model call).

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> eps_fn = lambda params, x, t, cond: x
    >>> begin(eps_fn, None, jnp.ones((1, 2, 2, 4)), schedule).x_before.shape
    (1, 2, 2, 4)
    """
    x = x_T.astype(jnp.float32)
    row = jax.tree.map(lambda leaf: leaf[0], schedule.sampling)
    return Pair(x, ddim_step(eps_fn, params, x, row, cond)[0])


def _leap(eps_fn: EpsFn, params: Any, x: Array, leap: _Leaps, cond: Any) -> Array:
    """What lies between the samples on either side of ``x``."""
    row = leap.rows
    x_to, eps = ddim_step(eps_fn, params, x, row, cond)
    clean = (x_to - jnp.sqrt(1 - row.alpha_to) * eps) / jnp.sqrt(row.alpha_to)
    return leap.signal * clean + leap.noise * eps


def _leaps(schedule: Schedule) -> _Leaps:
    rows = jax.tree.map(lambda leaf: leaf[::-1], schedule.sampling)
    inner = slice(1, -1) if schedule.x0_is_first else slice(0, -1)
    return _Leaps(
        jax.tree.map(lambda leaf: leaf[inner], rows),
        *(level[2:] - level[:-2] for level in _levels(schedule)),
    )


def _levels(schedule: Schedule) -> tuple[Array, Array]:
    """Signal and noise of every sample, from the image's to x_T's."""
    rows = schedule.sampling
    alphas = rows.alpha_from[::-1]
    if not schedule.x0_is_first:
        alphas = jnp.append(rows.alpha_to[-1:], alphas)
    return jnp.sqrt(alphas), jnp.sqrt(1 - alphas)
