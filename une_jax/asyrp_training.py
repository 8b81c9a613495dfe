"""How Asyrp learns its moves: at each editing step one update, the image let go of.

Kwon et al. 2023, arXiv 2210.10960. The edited walk begins at an image's
noise. At each step the predicted image P of the moved network is judged against that of
an unedited walk, the move is improved, and the walk goes on without a gradient through
its own past: a step needs memory for one way up, however many steps there are. Batched,
unlike the original. What judges is the caller's: see :mod:`une_jax.directional`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from une_jax import hspace
from une_jax.hspace import At, Halves, Shift
from une_jax.schedule import Schedule, Steps
from une_jax.stochastic import Noisy, noisy

Loss = Callable[[Float32[Array, "b h w c"], Int32[Array, ""]], tuple[Array, Any]]
"""``loss(P, i) -> (value, metrics)`` of the predicted images at step i."""
Update = Callable[[Any, Any, Any], tuple[Any, Any]]
"""``update(gradient, state, what) -> (what, state)``, optax's two calls."""


class Watched(NamedTuple):
    """What :func:`watch` gives, at each of m steps in the order of sampling."""

    x: Float32[Array, "b m h w c"]  # the sample before the step
    image: Float32[Array, "b m h w c"]  # P, the image predicted from it


class Learnt(NamedTuple):
    """What :func:`learn` gives."""

    what: Any
    state: Any  # the optimiser's
    metrics: Any  # the loss's own, each (m, ...), and its value as "loss"


def watch(
    halves: Halves,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    steps: int | None = None,
) -> Watched:
    """x_t and the predicted image P_t along plain DDIM's first steps.

    Args:
        steps: how many of the schedule's, from the noisiest; all, without.

    float32. 2 m latents in memory a sample. Works under jit, vmap, grad, shard_map.

    Raises:
        UneError: the schedule's sampling is undefined.

    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> watch(halves, None, jnp.ones((2, 4, 4, 3)), schedule, steps=6).image.shape
    (2, 6, 4, 4, 3)
    """

    def body(x, now):
        row, at = now
        h, rest = halves.down(params, x, jnp.broadcast_to(at.t, x.shape[:1]), cond)
        out = hspace.raw(halves.up(params, h, rest), x)
        seen = Watched(x, predicted(x, row.rows, out))
        return hspace.step(x, row, out, out, at.i), seen

    seen = jax.lax.scan(body, x_T.astype(jnp.float32), _first(schedule, steps))[1]
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), seen)


def learn(
    halves: Halves,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    shift: Shift,
    what: Any,
    state: Any,
    loss: Loss,
    update: Update,
    steps: int,
) -> Learnt:
    """One walk down the editing steps, with one update of ``what`` at each.

    The gradient of ``loss`` goes through P (whatever ``loss`` does to it), the way up
    and ``shift``. The walk is Asyrp's asymmetric one (Eq. 7), by the moves as they are
    before the step's own update.

    Args:
        shift: static; ``asyrp.implicit`` for f, ``hspace.add`` for a table of moves.
        what: its first argument; all of it is learnt (close over what is not).
        state: the optimiser's for ``what``.
        loss, update: static.
        steps: the m editing steps, the schedule's first; ``phases(...).edit.sum()``.

    Works under jit (functions and ``steps`` static) and shard_map, where ``update`` has
    to average the gradient.

    Raises:
        UneError: the schedule's sampling is undefined.

    >>> from une_jax.hspace import add
    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> schedule, x_T = Schedule.from_config({}, steps=10), jnp.ones((2, 4, 4, 3))
    >>> brighter = lambda image, i: (-image.mean(), {})
    >>> descend = lambda slope, state, what: (what - 0.1 * slope, state)
    >>> out = learn(
    ...     halves, None, x_T, schedule, shift=add, what=jnp.zeros((10, 4, 4, 3)),
    ...     state=None, loss=brighter, update=descend, steps=6,
    ... )
    >>> out.metrics["loss"].shape, bool((out.what[:6] < 0).all())
    ((6,), True)
    """

    def body(carry, now):
        what, state, x = carry
        row, at = now
        h, rest = halves.down(params, x, jnp.broadcast_to(at.t, x.shape[:1]), cond)

        def up(h):
            return hspace.raw(halves.up(params, h, rest), x)

        def judged(what):
            out = up(hspace.moved(shift, what, h, at, len(x)))
            value, metrics = loss(predicted(x, row.rows, out), at.i)
            return value, (out, metrics)

        judge = jax.value_and_grad(judged, has_aux=True)
        (value, (out, metrics)), slope = judge(what)
        what, state = update(slope, state, what)
        x = hspace.step(x, row, out, up(h), at.i)
        return (what, state, x), {"loss": value, **metrics}

    carry = (what, state, x_T.astype(jnp.float32))
    (what, state, _), metrics = jax.lax.scan(body, carry, _first(schedule, steps))
    return Learnt(what, state, metrics)


def moves(
    halves: Halves,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    shift: Shift,
    what: Any,
    steps: int,
) -> Float32[Array, "b n i j k"]:
    """By how much ``shift`` moves h at each step of the edited walk; 0 after m ``steps``.

    For ``asyrp.mean_move`` and ``asyrp.global_move``. Under guidance
    those of the branch with the prompt. n h in memory a sample. Otherwise as ``watch``.

    >>> from une_jax.hspace import add
    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> schedule, x_T = Schedule.from_config({}, steps=10), jnp.ones((2, 4, 4, 3))
    >>> table = jnp.full((10, 4, 4, 3), 0.25)
    >>> found = moves(halves, None, x_T, schedule, shift=add, what=table, steps=6)
    >>> found[0, :, 0, 0, 0].tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]
    """

    def body(x, now):
        row, at = now
        h, rest = halves.down(params, x, jnp.broadcast_to(at.t, x.shape[:1]), cond)
        h_to = hspace.moved(shift, what, h, at, len(x))
        image, noise = (hspace.raw(halves.up(params, g, rest), x) for g in (h_to, h))
        apart = h_to[-len(x) :].astype(jnp.float32) - h[-len(x) :].astype(jnp.float32)
        return hspace.step(x, row, image, noise, at.i), apart

    x = x_T.astype(jnp.float32)
    made = jax.lax.scan(body, x, _first(schedule, steps))[1]
    rest = len(schedule.sampling.t) - steps
    return jnp.moveaxis(jnp.pad(made, ((0, rest), *[(0, 0)] * 4)), 0, 1)


def predicted(
    x: Float32[Array, "b h w c"], row: Steps, out: Float32[Array, "b h w c"]
) -> Float32[Array, "b h w c"]:
    """P of Asyrp: the clean image that the raw output at one step says.

    By the row's own coefficients, so for every prediction type and at alpha 0.

    >>> rows = Schedule.from_config({}, steps=10).sampling
    >>> row = jax.tree.map(lambda leaf: leaf[0], rows)
    >>> noise = jnp.ones((1, 1, 1, 1))
    >>> x = jnp.sqrt(row.alpha_from) * 0.5 + jnp.sqrt(1 - row.alpha_from) * noise
    >>> round(predicted(x, row, noise).item(), 3)
    0.5
    """
    x_to = row.c_x * x + row.c_out * out
    eps = row.e_x * x + row.e_out * out
    return (x_to - jnp.sqrt(1 - row.alpha_to) * eps) / jnp.sqrt(row.alpha_to)


def _first(schedule: Schedule, steps: int | None) -> tuple[Noisy, At]:
    """Rows without noise, as ``hspace.sample`` walks them."""
    rows = jax.tree.map(lambda leaf: leaf[:steps], noisy(schedule, 0.0))
    return rows, At(jnp.arange(len(rows.turn), dtype=jnp.int32), rows.rows.t)
