"""DDIM inversion refined step by step until sampling would undo it.

DDIM inversion guesses the model's output at the next sample from the present one. The
next sample is the fixed point of "the sample whose sampling step leads here", so the
guess can be iterated (fixed-point inversion: AIDI, arXiv 2309.04907; ReNoise, arXiv
2403.14602).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from une_jax.ddim import EpsFn, ddim_step
from une_jax.schedule import Schedule, Steps


class Refined(NamedTuple):
    """What :func:`invert` gives.

    ``residual`` is each sample's worst step: the root mean square by which the sampling
    step from x_{i+1} misses x_i, in units of the latent. ``calls`` counts the model
    calls after which a sample had converged, over all steps.
    """

    x_T: Float32[Array, "b h w c"]
    residual: Float32[Array, " b"]
    calls: Int32[Array, " b"]


def invert(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    tolerance: float = 1e-4,
    max_calls: int = 10,
) -> Refined:
    """The noise whose DDIM sampling gives ``x0`` back, to ``tolerance`` a step.

    Each sample stops by itself: once its step misses by less than ``tolerance`` it is
    frozen, and keeps its bits whatever its neighbours still do. Where the iteration
    does not contract, the best sample seen is kept, and ``residual`` says how good it
    is; where it is not finite, ``residual`` is NaN, and no other sample waits. With the schedule's ``eval_at="source"`` x0 stands for the sample at the
    earliest timestep, as in ``ddim.invert``. Works under jit, vmap and shard_map; jit
    it with ``static_argnums=0``.

    Args:
        tolerance: root mean square, in units of the latent (whose own is about 1).
        max_calls: of the model for each step, at least 1; 1 is DDIM inversion with
            ``eval_at="target"``, and measures no residual (it is NaN).

    Raises:
        UneError: where the schedule's sampling is undefined.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0 = jnp.ones((1, 2, 2, 4))
    >>> out = invert(lambda p, x, t, cond: 0.1 * x, None, x0, schedule)
    >>> bool(out.residual[0] < 1e-4)
    True
    """
    rows = jax.tree.map(lambda leaf: leaf[::-1], schedule.sampling)
    if schedule.eval_at == "source":
        rows = jax.tree.map(lambda leaf: leaf[1:], rows)

    def body(x, row):
        refined = _undo(eps_fn, params, x, row, cond, tolerance, max_calls)
        return refined.x_T, (refined.residual, refined.calls)

    x_T, (residuals, calls) = jax.lax.scan(body, x0.astype(jnp.float32), rows)
    return Refined(x_T, residuals.max(axis=0), calls.sum(axis=0))


def _undo(
    eps_fn: EpsFn,
    params: Any,
    x: Array,
    row: Steps,
    cond: Any,
    tolerance: float,
    max_calls: int,
) -> Refined:
    """The sample from which the sampling step ``row`` leads to ``x``."""

    def proposal(guess):
        """How badly ``guess`` misses, and the next guess."""
        x_to, _ = ddim_step(eps_fn, params, guess, row, cond)
        # x_to = c_x guess + c_out out: the same out, but solved for the sample.
        better = guess + (x - x_to) / row.c_x
        return _rms(x_to - x), better

    def unfinished(guess, least):
        """Whose next call may help: NaN and infinity have gone for good."""
        return (least > tolerance) & jnp.isfinite(_rms(guess))

    def going_on(state):
        call, guess, _, least, _ = state
        return (call < max_calls) & jnp.any(unfinished(guess, least))

    def refine(state):
        call, guess, best, least, calls = state
        active = unfinished(guess, least)
        miss, better = proposal(guess)
        improved = active & (miss < least)
        return (
            call + 1,
            _where(active, better, guess),
            _where(improved, guess, best),
            jnp.where(improved, miss, least),
            calls + active.astype(jnp.int32),
        )

    # The first guess takes the model's output at x itself, one level too early.
    _, first = proposal(x)
    # Made from x, so that they are split over the mesh as it is inside shard_map.
    zero = jnp.zeros_like(x[:, 0, 0, 0])
    state = (1, first, first, zero + jnp.inf, zero.astype(jnp.int32) + 1)
    _, _, best, least, calls = jax.lax.while_loop(going_on, refine, state)
    return Refined(best, jnp.where(jnp.isinf(least), jnp.nan, least), calls)


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(x**2, axis=(1, 2, 3)))


def _where(rows: Array, x: Array, y: Array) -> Array:
    return jnp.where(rows[:, None, None, None], x, y)
