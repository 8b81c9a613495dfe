"""Sampling while the UNet's bottleneck is moved: h-space edits.

Asyrp (Kwon et al. 2023, arXiv 2210.10960) moves the middle block's output h and lets
only the predicted image of each step see it, Eq. 7; Haas et al. (arXiv 2303.11073) let
the whole step see it. ``sample`` does both, for a network cut in two at h, by
any rule of moving h: the same move at every step, a table, a small network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Float32, Int32, Key

from une_jax import guidance
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.stochastic import Noisy, draw, noisy


class Halves(NamedTuple):
    """A network cut at its bottleneck: ``up(params, *down(params, x, t, cond))`` is the
    raw output of :data:`une_jax.ddim.EpsFn`.

    ``down`` gives h (b, i, j, c) and any pytree of what else ``up`` takes. h may have
    2 b samples, those of guidance's two branches: see :func:`guided`.
    """

    down: Callable[[Any, Array, Array, Any], tuple[Array, Any]]
    up: Callable[[Any, Array, Any], Array]


class At(NamedTuple):
    """Where in the walk a step is."""

    i: Int32[Array, ""]  # its number, in the order of sampling
    t: Int32[Array, ""]  # the timestep that the network sees


Shift = Callable[[Any, Array, At], Array]
"""``shift(what, h, at) -> h``, moved: h is (b, i, j, c) float32, ``what`` any pytree."""


class Phases(NamedTuple):
    """What happens at each of the n sampling steps; make them with :func:`phases`."""

    edit: Bool[Array, " n"]  # h is moved
    eta: Float32[Array, " n"]  # noise: 0 is DDIM, 1 DDPM


class Walked(NamedTuple):
    """What :func:`collect` gives."""

    x0: Float32[Array, "b h w c"]
    h: Float32[Array, "b n i j k"]


def phases(
    schedule: Schedule, *, t_edit: int = 0, t_boost: int = 0, eta: float = 0.0
) -> Phases:
    """h is moved at timesteps from ``t_edit`` up; below ``t_boost`` steps are DDPM's.

    Asyrp's three phases: editing, denoising, quality boosting, where h is left alone.
    Without the two every step edits. ``eta`` is the noise of the steps that do not boost.

    Raises:
        UneError: boosting would begin before editing ends, or eta is not in [0, 1].

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> found = phases(schedule, t_edit=500, t_boost=200)
    >>> found.edit.sum().item(), found.eta.sum().item()
    (5, 2.0)
    """
    if not 0 <= eta <= 1:
        raise UneError(f"eta is {eta}; use 0 (DDIM) to 1 (DDPM)")
    if t_boost > t_edit > 0:
        raise UneError(
            f"t_boost {t_boost} is above t_edit {t_edit}: edits end before noise begins"
        )
    t = np.asarray(schedule.sampling.t)
    boost = t < t_boost
    return Phases(
        jnp.asarray((t >= t_edit) & ~boost),
        jnp.asarray(np.where(boost, 1.0, eta), jnp.float32),
    )


def sample(
    halves: Halves,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    shift: Shift,
    what: Any,
    phases: Phases | None = None,
    keys: Key[Array, " b"] | None = None,
    symmetric: bool = False,
) -> Float32[Array, "b h w c"]:
    """The image of ``x_T`` with its bottleneck moved (Asyrp, Eq. 7).

    The way down is walked once a step. Asymmetrically the way up is walked twice while
    h is moved, since the noise that a step keeps is that of the network left alone;
    once otherwise. Under guidance h is moved in both branches, and what is kept is the
    guided noise of the network left alone.

    Args:
        shift: static; :func:`add` for a table of moves.
        what: its first argument.
        phases: of :func:`phases`; without, every step edits and none has noise.
        keys: (b,), where a phase has noise: samples with the same keys get the same.
        symmetric: the moved h enters the noise that is kept as well; static.

    float32 whatever the network's dtype. Works under jit (functions static), vmap over
    ``x_T`` or ``what``, grad and shard_map.

    Raises:
        UneError: the schedule's sampling is undefined; a phase has noise, and there are
            no keys (not told under jit with traced phases, where there is no noise then).

    >>> halves = Halves(
    ...     down=lambda params, x, t, cond: (x[:, ::2, ::2], x),
    ...     up=lambda params, h, rest: rest + jnp.mean(h, (1, 2, 3), keepdims=True),
    ... )
    >>> schedule, x_T = Schedule.from_config({}, steps=10), jnp.ones((1, 4, 4, 3))
    >>> moves = jnp.zeros((10, 2, 2, 3))
    >>> still = sample(halves, None, x_T, schedule, shift=add, what=moves)
    >>> moved = sample(halves, None, x_T, schedule, shift=add, what=moves - 0.1)
    >>> still.shape, bool((moved > still).all())
    ((1, 4, 4, 3), True)
    """
    n = len(schedule.sampling.t)
    if phases is None:
        phases = Phases(jnp.ones(n, bool), jnp.zeros(n, jnp.float32))
    table = noisy(schedule, _eta(phases, keys))

    def body(x, now):
        row, edit, at = now
        t = jnp.broadcast_to(at.t, x.shape[:1])
        h, rest = halves.down(params, x, t, cond)

        def up(h):
            return raw(halves.up(params, h, rest), x)

        def shifted():
            return moved(shift, what, h, at, len(x))

        if symmetric:
            image = noise = up(jax.lax.cond(edit, shifted, lambda: h))
        else:
            noise = up(h)
            # Waits for it: two ways up side by side take the memory of both, and the
            # cache's.
            image = jax.lax.cond(edit, lambda: up(shifted()), lambda: noise)
        return step(x, row, image, noise, at.i, keys), None

    at = At(jnp.arange(n, dtype=jnp.int32), table.rows.t)
    return jax.lax.scan(body, x_T.astype(jnp.float32), (table, phases.edit, at))[0]


def collect(
    halves: Halves,
    params: Any,
    x_T: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    phases: Phases | None = None,
    keys: Key[Array, " b"] | None = None,
) -> Walked:
    """The image of ``x_T``, and h at each step, in the order of sampling.

    Under guidance h is that of the branch with the prompt. n h in memory a sample: SD's
    at 50 steps are 16 MB. Otherwise as :func:`sample`.

    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> collect(halves, None, jnp.ones((2, 4, 4, 3)), schedule).h.shape
    (2, 10, 4, 4, 3)
    """
    n = len(schedule.sampling.t)
    table = noisy(schedule, jnp.zeros(n) if phases is None else _eta(phases, keys))

    def body(x, now):
        row, i = now
        t = jnp.broadcast_to(row.rows.t, x.shape[:1])
        h, rest = halves.down(params, x, t, cond)
        out = raw(halves.up(params, h, rest), x)
        return step(x, row, out, out, i, keys), h[-len(x) :].astype(jnp.float32)

    steps = (table, jnp.arange(n, dtype=jnp.int32))
    x0, h = jax.lax.scan(body, x_T.astype(jnp.float32), steps)
    return Walked(x0, jnp.moveaxis(h, 0, 1))


def guided(halves: Halves) -> Halves:
    """The halves whose ``cond`` may be a :class:`une_jax.guidance.Guided`; another one
    is passed through. Both branches go through as one batch, h of 2 b samples.

    >>> halves = Halves(lambda p, x, t, c: (x, ()), lambda p, h, rest: h)
    >>> cond = guidance.guide(jnp.ones(1), jnp.zeros(1), jnp.full(1, 7.5))
    >>> x, t = jnp.ones((3, 2, 2, 4)), jnp.ones(3, jnp.int32)
    >>> h, rest = guided(halves).down(None, x, t, cond)
    >>> h.shape, guided(halves).up(None, h, rest).shape
    ((6, 2, 2, 4), (3, 2, 2, 4))
    """

    def down(params, x, t, cond):
        if not isinstance(cond, guidance.Guided):
            h, rest = halves.down(params, x, t, cond)
            return h, (rest, None)
        x, t = guidance.twice(x), guidance.twice(t)
        h, rest = halves.down(params, x, t, cond.both)
        return h, (rest, cond.scale)

    def up(params, h, rest):
        inner, scale = rest
        out = halves.up(params, h, inner)
        return out if scale is None else guidance.combine(out, scale)

    return Halves(down, up)


def raw(
    out: Float[Array, "b h w o"], x: Float32[Array, "b h w c"]
) -> Float32[Array, "b h w c"]:
    """What ``up`` gives for the sample x, without a learned variance, in float32.

    >>> raw(jnp.ones((1, 2, 2, 6), jnp.bfloat16), jnp.ones((1, 2, 2, 3))).shape
    (1, 2, 2, 3)
    """
    return out[..., : x.shape[-1]].astype(jnp.float32)


def moved(
    shift: Shift, what: Any, h: Float[Array, "kb ..."], at: At, b: int
) -> Float[Array, "kb ..."]:
    """h with each branch's b samples moved by ``shift``, in h's own dtype.

    Sampling and training (``asyrp_training``) both move h by this.

    >>> at = At(jnp.int32(0), jnp.int32(900))
    >>> both = jnp.zeros((4, 1, 1, 2), jnp.bfloat16)  # guidance's, of two samples
    >>> own = jnp.array([1.0, 2.0]).reshape(1, 2, 1, 1, 1)  # each sample has its move
    >>> moved(add, own, both, at, 2)[:, 0, 0, 0].tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    parts = jnp.split(h, len(h) // b)
    return jnp.concatenate(
        [shift(what, part.astype(jnp.float32), at).astype(h.dtype) for part in parts]
    )


def step(
    x: Float32[Array, "b h w c"],
    row: Noisy,
    image: Float32[Array, "b h w c"],
    noise: Float32[Array, "b h w c"],
    i: Int32[Array, ""],
    keys: Key[Array, " b"] | None = None,
) -> Float32[Array, "b h w c"]:
    """A step towards the image that one raw output names, along the noise of another.

    Asyrp's Eq. 7; of one and the same output it is the sampler's own step. ``row`` is
    step ``i``'s of ``stochastic.noisy``, whose noise is drawn where there are ``keys``.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> row = jax.tree.map(lambda leaf: leaf[0], noisy(schedule, 0.0))
    >>> x, out = jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 3))
    >>> ddim = row.rows.c_x * x + row.rows.c_out * out
    >>> bool((step(x, row, out, out, jnp.int32(0)) == ddim).all())
    True
    """
    rows = row.rows
    x_to = rows.c_x * x + rows.c_out * image
    image_eps, eps = (rows.e_x * x + rows.e_out * out for out in (image, noise))
    root = jnp.sqrt(1 - rows.alpha_to)  # of x_to's own share of noise
    x_to = x_to + root * (eps - image_eps) + row.turn * eps
    if keys is None:
        return x_to
    return x_to + row.sigma * draw(keys, i, x.shape[1:])


def _eta(phases: Phases, keys: Array | None) -> Array:
    """None without keys: a step must not lose the noise that is not drawn."""
    if keys is not None:
        return phases.eta
    if not isinstance(phases.eta, Tracer) and np.any(np.asarray(phases.eta)):
        raise UneError("these phases draw noise: give keys, one for each image")
    return jnp.zeros_like(phases.eta)


def add(
    what: Float[Array, "n ..."], h: Float32[Array, "b i j c"], at: At
) -> Float32[Array, "b i j c"]:
    """h plus step ``at.i``'s move; ``what`` is (n, i, j, c), or (n, b, i, j, c)."""
    move = what[at.i].astype(jnp.float32)
    return h + move.reshape((1,) * (4 - move.ndim) + move.shape)


class Along(NamedTuple):
    """How :func:`along` moves h."""

    moves: Float[Array, "m n i j c"]
    amounts: Float[Array, "b m"]


@jax.default_matmul_precision("float32")
def along(
    what: Along, h: Float32[Array, "b i j c"], at: At
) -> Float32[Array, "b i j c"]:
    """h moved along m directions, by each sample's own amounts."""
    moves = what.moves[:, at.i].astype(jnp.float32)
    return h + jnp.tensordot(what.amounts.astype(jnp.float32), moves, 1)


class Turned(NamedTuple):
    """How :func:`turn` moves h."""

    moves: Float[Array, "n i j c"]
    amount: Float[Array, " n"]


def turn(
    what: Turned, h: Float32[Array, "b i j c"], at: At
) -> Float32[Array, "b i j c"]:
    """h turned towards step ``at.i``'s move by ``amount`` of the angle, its norm kept.

    Spherical interpolation with the move brought to h's norm: what Asyrp's code does
    with a given move, unlike its paper, which adds (``add``).
    """
    to = what.moves[at.i].astype(jnp.float32)[None]
    axes = (1, 2, 3)
    size = jnp.sqrt(jnp.sum(h**2, axes, keepdims=True))
    a = h / jnp.maximum(size, 1e-12)
    b = to / jnp.maximum(jnp.sqrt(jnp.sum(to**2, axes, keepdims=True)), 1e-12)
    cosine = jnp.sum(a * b, axes, keepdims=True)
    across = b - cosine * a  # what of the goal is not along h
    length = jnp.sqrt(jnp.sum(across**2, axes, keepdims=True))
    angle = what.amount[at.i].astype(jnp.float32) * jnp.arctan2(length, cosine)
    return size * (jnp.cos(angle) * a + jnp.sin(angle) * across / jnp.maximum(length, 1e-12))  # fmt: skip


def compose(
    moves: Float[Array, "k n ..."], weights: Float[Array, " k"] | Float[Array, "k n"]
) -> Float32[Array, "n ..."]:
    """Several tables of moves as one: their weighted sum over the root of k.

    As in Asyrp: k moves at once, at about the length of one. ``weights`` are one a
    table, or one for each of its steps.

    >>> compose(jnp.ones((4, 10, 2, 2, 3)), jnp.array([1.0, 1.0, 1.0, -1.0]))[0, 0, 0]
    Array([1., 1., 1.], dtype=float32)
    """
    moves = moves.astype(jnp.float32)
    weights = weights.astype(jnp.float32)
    weights = weights.reshape(weights.shape + (1,) * (moves.ndim - weights.ndim))
    return (weights * moves).sum(0) / jnp.sqrt(jnp.float32(len(moves)))


def retime(
    moves: Float[Array, "n ..."],
    t_from: Int32[Array, " n"],
    t_to: Int32[Array, " m"],
) -> Float32[Array, "m ..."]:
    """A table found at n timesteps, for a walk of m: the nearest one's move times n / m.

    So the sum of all moves stays what it was, as in Asyrp, up to which timesteps are
    nearest.

    >>> moves = retime(jnp.ones((2, 1, 1, 3)), jnp.array([9, 0]), jnp.arange(4) * 3)
    >>> moves[:, 0, 0, 0].tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    nearest = jnp.argmin(jnp.abs(t_to[:, None] - t_from[None]), axis=1)
    return moves.astype(jnp.float32)[nearest] * (len(t_from) / len(t_to))


def gains(schedule: Schedule) -> tuple[Float32[Array, " n"], Float32[Array, " n"]]:
    """By how much each step answers a shift of eps: symmetrically, asymmetrically.

    Asyrp, Theorem 1: moved on both sides of a step the shift nearly cancels, the more
    so the shorter the steps. In one walk the ratio tells what asymmetry is worth there.
    At alpha 0 (zero terminal SNR) eps is the sample itself, which no output shifts: both
    are 0.

    >>> linear = Schedule.from_config({"steps_offset": 1}, steps=50)
    >>> at = linear.sampling.t.tolist().index(501)
    >>> [round(g[at].item(), 4) for g in gains(linear)]
    [-0.1093, -1.0611]
    """
    rows = schedule.sampling
    a, a_to = rows.alpha_from, rows.alpha_to
    some = jnp.where(a > 0, a, 1.0)
    image = jnp.where(a > 0, -jnp.sqrt(a_to / some) * jnp.sqrt(1 - a), 0.0)
    return jnp.where(a > 0, jnp.sqrt(1 - a_to) + image, 0.0), image
