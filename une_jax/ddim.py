"""DDIM sampling and inversion: one scan over a schedule's rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from une_jax.schedule import Schedule, Steps

EpsFn = Callable[[Any, Array, Array, Any], Array]
"""``eps_fn(params, x, t, cond) -> out``: the model, batch first.

``x`` is (b, h, w, c) float32, ``t`` (b,) int32, ``params`` and ``cond`` any pytrees
(``cond`` may be None). ``out`` is the raw output, shaped like ``x``, of any float dtype,
in the schedule's prediction type. Channels beyond those of ``x`` (a learned variance) are
not looked at.
"""


class Inversion(NamedTuple):
    """What :func:`invert_with_residual` gives."""

    x_T: Float32[Array, "b h w c"]
    residual: Float32[Array, " b"]


def invert(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Float32[Array, "b h w c"]:
    """The noise of ``x0``: DDIM run from image to noise (arXiv 2010.02502, Eq. 13).

    The state is float32 whatever ``x0``'s or the model's dtype. Works under jit, vmap,
    grad and shard_map; jit it with ``static_argnums=0`` and everything else as
    arguments.

    Raises:
        UneError: where the schedule's inversion is undefined (see ``Schedule``).

    >>> from une_jax.schedule import Schedule
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> def eps_fn(params, x, t, cond):
    ...     return params * x
    >>> x0 = jnp.ones((1, 2, 2, 4))
    >>> invert(eps_fn, 0.5, x0, schedule).shape
    (1, 2, 2, 4)
    """
    return _walk(eps_fn, params, x0, schedule.inversion, cond)


def sample(
    eps_fn: EpsFn,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Float32[Array, "b h w c"]:
    """The image of ``x_T``: deterministic DDIM (arXiv 2010.02502, Eq. 12, sigma = 0).

    Dtypes, transformations and errors as in :func:`invert`.

    >>> from une_jax.schedule import Schedule
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x_T = jnp.ones((1, 2, 2, 4))
    >>> sample(lambda params, x, t, cond: x, None, x_T, schedule).shape
    (1, 2, 2, 4)
    """
    return _walk(eps_fn, params, x_T, schedule.sampling, cond)


def invert_with_residual(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
) -> Inversion:
    """:func:`invert`, and for each sample how badly its worst step would be undone.

    Undoing step i, sampling evaluates the model one step later than inversion did, and
    so misses x_i by ``s_i * (eps_{i+1} - eps_i)``, with s_i the sampling step's
    coefficient of eps. ``residual`` (b,) is the largest root mean square of that over
    the steps, in units of the latent (whose own is about 1): no model call more than
    :func:`invert` needs, one latent more memory. It is exactly the drift of one step
    and back for ``eval_at="source"``; with ``"target"`` eps_{i+1} belongs to the same x
    but to the next timestep, and the residual is an indication. The last step has no
    eps_{i+1} and does not count. Dtypes, transformations and errors as in
    :func:`invert`.

    >>> from une_jax.schedule import Schedule
    >>> schedule = Schedule.from_config({}, steps=10, eval_at="source")
    >>> x0 = jnp.ones((1, 2, 2, 4))
    >>> out = invert_with_residual(lambda p, x, t, cond: x, None, x0, schedule)
    >>> out.x_T.shape, out.residual.shape
    ((1, 2, 2, 4), (1,))
    """
    steps = schedule.inversion
    sigma_from, sigma_to = (
        jnp.sqrt(1 - a) / jnp.sqrt(a) for a in (steps.alpha_from, steps.alpha_to)
    )
    undo = jnp.sqrt(steps.alpha_from) * (sigma_to - sigma_from)
    undo_previous = jnp.concatenate([jnp.zeros_like(undo[:1]), undo[:-1]])

    def body(carry, row):
        (x, eps_previous), (step, undo) = carry, row
        x_to, eps = ddim_step(eps_fn, params, x, step, cond)
        drift = undo * (eps - eps_previous)
        return (x_to, eps), jnp.sqrt(jnp.mean(drift**2, axis=(1, 2, 3)))

    x = x0.astype(jnp.float32)
    # The first row's weight is 0, so any finite eps_previous will do. x, unlike zeros,
    # is already split over the mesh where this runs inside shard_map.
    (x_T, _), drifts = jax.lax.scan(body, (x, x), (steps, undo_previous))
    return Inversion(x_T, drifts.max(axis=0))


def trajectory(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    at: Int[Array, " m"],
) -> Float32[Array, "b m h w c"]:
    """:func:`invert`, stopped over at m timesteps: the state at each of ``at``.

    One walk, whatever m is; beside the state, only what is asked for is kept. ``at`` is
    data, in any order, out of ``schedule.reached``; the state at ``terminal_t`` is what
    ``invert`` gives. A timestep at which the walk does not arrive gives NaN. Dtypes,
    transformations and errors as in :func:`invert`.

    >>> from une_jax.schedule import Schedule
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> def eps_fn(params, x, t, cond):
    ...     return params * x
    >>> x0, at = jnp.ones((1, 2, 2, 4)), jnp.array([500, 900])
    >>> states = trajectory(eps_fn, 0.5, x0, schedule, at=at)
    >>> bool((states[:, 1] == invert(eps_fn, 0.5, x0, schedule)).all())
    True
    """
    x = x0.astype(jnp.float32)

    def body(carry, row):
        (x, kept), (step, t) = carry, row
        x, _ = ddim_step(eps_fn, params, x, step, cond)
        here = (at == t)[None, :, None, None, None]
        return (x, jnp.where(here, x[:, None], kept)), None

    # From x, and not afresh: split over the mesh where this runs inside shard_map.
    kept = jnp.where(False, x[:, None], jnp.full((1, len(at), 1, 1, 1), jnp.nan))
    rows = (schedule.inversion, schedule.reached)
    return jax.lax.scan(body, (x, kept), rows)[0][1]


def _walk(eps_fn: EpsFn, params: Any, x: Array, steps: Steps, cond: Any) -> Array:
    def body(x, step):
        x_to, _ = ddim_step(eps_fn, params, x, step, cond)
        return x_to, None

    return jax.lax.scan(body, x.astype(jnp.float32), steps)[0]


def ddim_step(
    eps_fn: EpsFn, params: Any, x: Float32[Array, "b h w c"], row: Steps, cond: Any
) -> tuple[Float32[Array, "b h w c"], Float32[Array, "b h w c"]]:
    """One row of a schedule: the sample at ``alpha_to``, and its eps at ``alpha_from``.

    The brick of every walk here; ``row`` is one row of ``Schedule.sampling`` or
    ``.inversion`` (leaves without axes, as ``lax.scan`` hands them out).

    >>> from une_jax.schedule import Schedule
    >>> rows = Schedule.from_config({}, steps=10).sampling
    >>> row = jax.tree.map(lambda leaf: leaf[0], rows)
    >>> x_to, eps = ddim_step(
    ...     lambda p, x, t, cond: x, None, jnp.ones((1, 2, 2, 4)), row, None
    ... )
    >>> x_to.shape, eps.shape
    ((1, 2, 2, 4), (1, 2, 2, 4))
    """
    t = jnp.broadcast_to(row.t, x.shape[:1])
    out = eps_fn(params, x, t, cond)[..., : x.shape[-1]].astype(jnp.float32)
    return row.c_x * x + row.c_out * out, row.e_x * x + row.e_out * out
