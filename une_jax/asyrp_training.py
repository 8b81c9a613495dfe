"""How Asyrp learns its moves: at each editing step one update, the image let go of.

Kwon et al. 2023, arXiv 2210.10960, Sec. 3. The edited walk begins at an image's
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

from une_jax.hspace import At, Halves, Shift
from une_jax.schedule import Schedule, Steps

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
    """x_t and the predicted image P_t (Asyrp, Sec. 2) along plain DDIM's first steps.

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

    def body(x, row):
        h, rest = halves.down(params, x, jnp.broadcast_to(row.t, x.shape[:1]), cond)
        out = _raw(halves.up(params, h, rest), x)
        return row.c_x * x + row.c_out * out, Watched(x, predicted(x, row, out))

    rows = jax.tree.map(lambda leaf: leaf[:steps], schedule.sampling)
    seen = jax.lax.scan(body, x_T.astype(jnp.float32), rows)[1]
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

    def body(carry, step):
        what, state, x = carry
        row, i = step
        h, rest = halves.down(params, x, jnp.broadcast_to(row.t, x.shape[:1]), cond)

        def judged(what):
            moved = _moved(shift, what, h, At(i, row.t), len(x))
            image = predicted(x, row, _raw(halves.up(params, moved, rest), x))
            value, metrics = loss(image, i)
            return value, (image, metrics)

        judge = jax.value_and_grad(judged, has_aux=True)
        (value, (image, metrics)), slope = judge(what)
        what, state = update(slope, state, what)
        x = _next(x, row, image, _raw(halves.up(params, h, rest), x))
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

    For ``asyrp.mean_move`` and ``asyrp.global_move`` (Asyrp, Sec. 5.3). Under guidance
    those of the branch with the prompt. n h in memory a sample. Otherwise as ``watch``.

    >>> from une_jax.hspace import add
    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> schedule, x_T = Schedule.from_config({}, steps=10), jnp.ones((2, 4, 4, 3))
    >>> table = jnp.full((10, 4, 4, 3), 0.25)
    >>> found = moves(halves, None, x_T, schedule, shift=add, what=table, steps=6)
    >>> found[0, :, 0, 0, 0].tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]
    """

    def body(x, step):
        row, i = step
        h, rest = halves.down(params, x, jnp.broadcast_to(row.t, x.shape[:1]), cond)
        moved = _moved(shift, what, h, At(i, row.t), len(x))
        image = predicted(x, row, _raw(halves.up(params, moved, rest), x))
        apart = moved[-len(x) :].astype(jnp.float32) - h[-len(x) :].astype(jnp.float32)
        return _next(x, row, image, _raw(halves.up(params, h, rest), x)), apart

    x = x_T.astype(jnp.float32)
    made = jax.lax.scan(body, x, _first(schedule, steps))[1]
    rest = len(schedule.sampling.t) - steps
    return jnp.moveaxis(jnp.pad(made, ((0, rest), *[(0, 0)] * 4)), 0, 1)


def predicted(
    x: Float32[Array, "b h w c"], row: Steps, out: Float32[Array, "b h w c"]
) -> Float32[Array, "b h w c"]:
    """P (Asyrp, Sec. 2): the clean image that the raw output at one step says.

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


def _next(x: Array, row: Steps, image: Array, out: Array) -> Array:
    """Eq. 7: towards the moved network's image, along the noise of the one left alone."""
    eps = row.e_x * x + row.e_out * out
    return jnp.sqrt(row.alpha_to) * image + jnp.sqrt(1 - row.alpha_to) * eps


def _raw(out: Array, x: Array) -> Array:
    """Without a learned variance."""
    return out[..., : x.shape[-1]].astype(jnp.float32)


def _moved(shift: Shift, what: Any, h: Array, at: At, b: int) -> Array:
    """h with each branch's b samples moved, in h's own dtype."""
    parts = jnp.split(h, len(h) // b)
    return jnp.concatenate(
        [shift(what, part.astype(jnp.float32), at).astype(h.dtype) for part in parts]
    )


def _first(schedule: Schedule, steps: int) -> tuple[Steps, Array]:
    rows = jax.tree.map(lambda leaf: leaf[:steps], schedule.sampling)
    return rows, jnp.arange(len(rows.t), dtype=jnp.int32)
