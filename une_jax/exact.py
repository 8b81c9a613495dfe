"""An algebraically exact pair of sampler and inversion: O-BELM (arXiv 2410.07273).

A two-step method is linear in the sample before last, so it can be solved for it:
x_{i-1} = a x_{i+1} + b x_i + c eps(x_i) gives x_i back from either side, and what is
left of the round trip is rounding. The price is a state of two samples.
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


class _Table(NamedTuple):
    """Levels i = 0 ... n from image to noise, and a row for each but the two ends."""

    rows: Steps
    a: Float32[Array, " m"]
    b: Float32[Array, " m"]
    c: Float32[Array, " m"]
    signal: Float32[Array, " n"]  # sqrt(alphas_cumprod)
    sigma: Float32[Array, " n"]  # sqrt(1 - alphas_cumprod) / signal


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
    >>> bool(jnp.abs(again - x0).max() < 1e-4)
    True
    """
    table = _table(schedule)
    x0 = x0.astype(jnp.float32)
    eps = _eps(eps_fn, params, x0, _row(schedule.sampling, -1), cond)
    x1 = _ddim(table, x0, eps, 0, 1)

    def body(carry, step):
        x_under, x = carry
        row, a, b, c = step
        eps = _eps(eps_fn, params, x, row, cond)
        return (x, (x_under - b * x - c * eps) / a), None

    steps = (table.rows, table.a, table.b, table.c)
    (x_before, x_T), _ = jax.lax.scan(body, (x0, x1), steps)
    return Pair(x_T, x_before)


def sample(
    eps_fn: EpsFn, params: Any, noise: Pair, schedule: Schedule, cond: Any = None
) -> Float32[Array, "b h w c"]:
    """The image of a pair, with one model call less than :func:`invert`.

    Transformations and errors as in :func:`invert`; an example is there.
    """
    table = _table(schedule)

    def body(carry, step):
        x_over, x = carry
        row, a, b, c = step
        eps = _eps(eps_fn, params, x, row, cond)
        return (x, a * x_over + b * x + c * eps), None

    start = tuple(x.astype(jnp.float32) for x in noise)
    steps = (table.rows, table.a, table.b, table.c)
    (_, x0), _ = jax.lax.scan(body, start, steps, reverse=True)
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
    eps = _eps(eps_fn, params, x, _row(schedule.sampling, 0), cond)
    return Pair(x, _ddim(_table(schedule), x, eps, -1, -2))


def _table(schedule: Schedule) -> _Table:
    rows = jax.tree.map(lambda leaf: leaf[::-1], schedule.sampling)
    if schedule.x0_is_first:
        alphas, inner = rows.alpha_from, slice(1, -1)
    else:
        alphas, inner = jnp.append(rows.alpha_to[:1], rows.alpha_from), slice(0, -1)
    signal = jnp.sqrt(alphas)
    sigma = jnp.sqrt(1 - alphas) / signal
    # From each inner level, the step to the image's side and the one to the noise's.
    h, h_over = jnp.diff(sigma)[:-1], jnp.diff(sigma)[1:]
    r = h / h_over
    under, at, over = signal[:-2], signal[1:-1], signal[2:]
    return _Table(
        rows=jax.tree.map(lambda leaf: leaf[inner], rows),
        a=r**2 * under / over,
        b=(1 - r**2) * under / at,
        c=-h * (1 + r) * under,
        signal=signal,
        sigma=sigma,
    )


def _ddim(table: _Table, x: Array, eps: Array, i: int, j: int) -> Array:
    shift = table.sigma[j] - table.sigma[i]
    return table.signal[j] * (x / table.signal[i] + shift * eps)


def _eps(eps_fn: EpsFn, params: Any, x: Array, row: Steps, cond: Any) -> Array:
    return ddim_step(eps_fn, params, x, row, cond)[1]


def _row(steps: Steps, i: int) -> Steps:
    return jax.tree.map(lambda leaf: leaf[i], steps)
