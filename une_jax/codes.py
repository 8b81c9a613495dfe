"""The whole noise of a stochastic sampler as a code of an image: its steps, both ways.

A code belongs to a path from noise to the image: it is the noise that would lead the
sampler along it. How the path is drawn is what encoders differ in
(:mod:`une_jax.dpm_encoder`, :mod:`une_jax.edit_friendly`); decoding is the sampler.
"""

import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Float32, Int, Key, UInt32

from une_jax.ddim import EpsFn, ddim_step
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.stochastic import Noisy, draw, noisy

Path = Callable[[Array, Array, Array, Noisy, Array], Array]
"""``path(keys, i, x, row, x0) -> x_to``: where step i leads from ``x``, drawn for each
sample from its own key."""
Skip = int | np.integer | Int[Array | np.ndarray, ""]
"""How many of the first steps are left out: data. A plain 0 costs nothing."""
Kind = Literal["dpm-encoder", "edit-friendly"]
ETA: dict[Kind, float] = {"dpm-encoder": 0.1, "edit-friendly": 1.0}
"""The noise of each code's sampler where none is given: its paper's."""


class Code(NamedTuple):
    """x_T, and the n steps' noise in the order in which sampling takes it.

    Where the first ``skip`` steps are left out, ``x_T`` is the sample at which the
    others start, and the noise of those is 0, or not there (:func:`trim`).
    """

    x_T: Float32[Array, "b h w c"]
    eps: Float32[Array, "b n h w c"]


class Encoding(NamedTuple):
    """A code, and for each sample how badly its worst step would be decoded."""

    code: Code
    residual: Float32[Array, " b"]


class Seed(NamedTuple):
    """All that a code is made of but the model: see :func:`seed`."""

    x0: Float32[Array, "b h w c"]
    key: UInt32[Array, "b k"]


def encode_along(
    path: Path,
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float,
    skip: Skip = 0,
) -> Encoding:
    """The code of the path that ``path`` draws to ``x0``.

    The brick of the encoders. Each step starts where decoding will have arrived, and
    not at what was drawn, from which it differs by rounding (arXiv 2304.06140, Sec. 3).
    The last leads to ``x0`` itself, so that the code gives it back.

    Raises:
        UneError: ``eta`` is not in (0, 1], ``skip`` leaves no step (unless it is traced,
            when nothing is looked at), or the schedule's sampling is undefined.

    >>> def straight(keys, i, x, row, x0):
    ...     return x + (x0 - x) / 2
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> model = (lambda params, x, t, cond: jnp.sin(x), None)
    >>> out = encode_along(straight, *model, x0, schedule, keys=keys, eta=1.0)
    >>> out.code.eps.shape, out.residual.shape
    ((1, 10, 2, 2, 4), (1,))
    """
    rows = table(schedule, eta)
    require_skip(len(rows.sigma), skip)
    x0 = x0.astype(jnp.float32)
    last = len(rows.sigma) - 1

    def body(x, step):
        i, row = step

        def walk(x):
            x_to = jnp.where(i == last, x0, path(keys, i, x, row, x0))
            eps, arrived = encode_step(eps_fn, params, x, x_to, row, cond)
            miss = jnp.sqrt(jnp.mean((arrived - x_to) ** 2, axis=(1, 2, 3)))
            return arrived, (eps, miss)

        def leave(x):
            # From x, and not afresh: split over the mesh inside shard_map, as walk's.
            none = jnp.where(False, x, 0.0)
            return x, (none, none[:, 0, 0, 0])

        return unless(i < skip, skip, walk, leave, x)

    x = start(x0, rows, keys, skip)
    _, (eps, misses) = jax.lax.scan(body, x, (jnp.arange(last + 1), rows))
    return Encoding(Code(x, jnp.moveaxis(eps, 0, 1)), misses.max(axis=0))


def decode(
    eps_fn: EpsFn,
    params: Any,
    code: Code,
    schedule: Schedule,
    cond: Any = None,
    *,
    eta: float,
    skip: Skip = 0,
) -> Float32[Array, "b h w c"]:
    """The image of a code, for the ``eta``, steps and ``skip`` that it was encoded with.

    Any model may decode it. A code of m noises, fewer than the schedule's n steps, takes
    the last m of them. ``dpm_encoder.decode`` and ``edit_friendly.decode`` are this with
    their encoder's own ``eta``.

    Transformations and errors as of :func:`une_jax.dpm_encoder.encode`; an example is
    there. Also raises UneError for more noises than the schedule has steps.
    """
    rows = table(schedule, eta)
    n, m = len(rows.sigma), code.eps.shape[1]
    require_skip(n, skip)
    if m > n:
        raise UneError(f"the code has {m} steps' noise, the schedule {n} steps")
    # The counter is no float of the schedule's, and so has its own axis.
    rows = jax.tree.map(lambda x: x[n - m :], rows)
    steps = (jnp.arange(n - m, n), rows, jnp.moveaxis(code.eps, 1, 0))

    def body(x, step):
        i, row, eps = step

        def walk(x):
            return decode_step(eps_fn, params, x, eps, row, cond)

        return unless(i < skip, skip, walk, lambda x: x, x), None

    return jax.lax.scan(body, code.x_T.astype(jnp.float32), steps)[0]


def begin(
    x_T: Float[Array, "b h w c"], schedule: Schedule, *, keys: Key[Array, " b"]
) -> Code:
    """A code for noise that has no history: each step's drawn anew, from these keys.

    No draw is one that an encoder makes with the same keys.

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


def trim(code: Code, skip: int) -> Code:
    """Without the noise of the first ``skip`` steps, for which an encoder left zeros.

    What is left decodes as before, with no ``skip``: a shape instead of a number.

    >>> code = Code(jnp.ones((1, 2, 2, 4)), jnp.ones((1, 10, 2, 2, 4)))
    >>> trim(code, 3).eps.shape
    (1, 7, 2, 2, 4)
    """
    return code._replace(eps=code.eps[:, skip:])


def seed(x0: Float[Array, "b h w c"], keys: Key[Array, " b"]) -> Seed:
    """What to store of a code instead of it: one latent, not one a step, and two ints.

    With the model, :func:`recover` has the code again (SD, 100 steps: 66 KB an image
    for 6.6 MB).

    >>> seed(jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)).key.shape
    (1, 2)
    """
    return Seed(x0.astype(jnp.float32), jax.random.key_data(keys))


def recover(
    encode: Callable[..., Code],
    eps_fn: EpsFn,
    params: Any,
    seed: Seed,
    schedule: Schedule,
    cond: Any = None,
    *,
    eta: float | None = None,
    skip: Skip = 0,
) -> Code:
    """The code of a :func:`seed`: n model calls, as it took at first.

    The same as long as the model, the schedule, ``cond``, ``eta`` (None: what ``encode``
    takes where none is given), ``skip`` and ``encode`` (of ``dpm_encoder`` or
    ``edit_friendly``) are. Transformations and errors are those of ``encode``.

    >>> from une_jax import dpm_encoder
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> model = (lambda params, x, t, cond: jnp.sin(x), None)
    >>> code = dpm_encoder.encode(*model, x0, schedule, keys=keys)
    >>> again = recover(dpm_encoder.encode, *model, seed(x0, keys), schedule)
    >>> bool((again.eps == code.eps).all())
    True
    """
    x0, key = (jnp.asarray(leaf) for leaf in seed)  # as a file gives them: of numpy
    how = {"keys": jax.random.wrap_key_data(key), "skip": skip}
    if eta is not None:
        how["eta"] = eta
    return encode(eps_fn, params, x0, schedule, cond, **how)


def table(schedule: Schedule, eta: float) -> Noisy:
    """The rows of a sampler whose every step has noise.

    Raises:
        UneError: ``eta`` is not in (0, 1], or the schedule's sampling is undefined.

    >>> len(table(Schedule.from_config({}, steps=10), 0.1).sigma)
    10
    """
    if not 0 < eta <= 1:
        raise UneError(f"eta is {eta}; use above 0 (at 0 there is no noise), up to 1")
    return noisy(schedule, eta)


def require_skip(n: int, skip: Skip) -> None:
    """That ``skip`` leaves one of n steps: an integer of any kind, unless it is traced.

    Raises:
        UneError: it does not.

    >>> require_skip(10, 9)
    """
    if isinstance(skip, Tracer):
        return
    if not 0 <= operator.index(skip) < n:
        raise UneError(f"skip is {skip}; of {n} steps, leave out 0 to {n - 1}")


def start(
    x0: Float32[Array, "b h w c"], rows: Noisy, keys: Key[Array, " b"], skip: Skip
) -> Float32[Array, "b h w c"]:
    """``x0`` noised directly to where step ``skip`` starts.

    >>> rows, keys = table(Schedule.from_config({}, steps=10), 0.1), jax.random.key(0)
    >>> start(jnp.ones((1, 2, 2, 4)), rows, keys[None], 3).shape
    (1, 2, 2, 4)
    """
    alpha = rows.rows.alpha_from[skip]
    # Its own draw, 0, whatever skip is: draw i + 1 is that of step i.
    return jnp.sqrt(alpha) * x0 + jnp.sqrt(1 - alpha) * draw(keys, 0, x0.shape[1:])


def encode_step(
    eps_fn: EpsFn, params: Any, x: Array, x_to: Array, row: Noisy, cond: Any
) -> tuple[Float32[Array, "b h w c"], Float32[Array, "b h w c"]]:
    """The noise that leads from ``x`` to ``x_to``, and where it leads when rounded.

    >>> rows = table(Schedule.from_config({}, steps=10), 0.1)
    >>> row, x = jax.tree.map(lambda a: a[0], rows), jnp.ones((1, 2, 2, 4))
    >>> model = (lambda params, x, t, cond: x, None)
    >>> eps, arrived = encode_step(*model, x, 0.9 * x, row, None)
    >>> bool(jnp.allclose(arrived, 0.9 * x)), eps.shape
    (True, (1, 2, 2, 4))
    """
    centre = _centre(eps_fn, params, x, row, cond)
    eps = (x_to - centre) / scale(row.sigma)
    return eps, centre + scale(row.sigma) * eps


def decode_step(
    eps_fn: EpsFn, params: Any, x: Array, eps: Array, row: Noisy, cond: Any
) -> Float32[Array, "b h w c"]:
    """Where ``eps`` leads from ``x``.

    >>> rows = table(Schedule.from_config({}, steps=10), 0.1)
    >>> row, x = jax.tree.map(lambda a: a[0], rows), jnp.ones((1, 2, 2, 4))
    >>> decode_step(lambda params, x, t, cond: x, None, x, 0 * x, row, None).shape
    (1, 2, 2, 4)
    """
    return _centre(eps_fn, params, x, row, cond) + scale(row.sigma) * eps


def unless(
    left_out: Array,
    skip: Skip,
    walk: Callable[[Any], Any],
    leave: Callable[[Any], Any],
    x: Any,
) -> Any:
    """``leave(x)`` for a step that is left out, at no model call; ``walk(x)`` else.

    Under vmap over ``skip`` both are computed.

    >>> unless(jnp.array(True), jnp.array(3), lambda x: x + 1, lambda x: x, 5).item()
    5
    """
    if isinstance(skip, int) and skip == 0:
        return walk(x)
    return jax.lax.cond(left_out, leave, walk, x)


def scale(sigma: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """By what a step's noise counts. A last step to alpha 1 has none: its code is the
    plain difference.

    >>> scale(jnp.array([0.0, 0.5])).tolist()
    [1.0, 0.5]
    """
    return jnp.where(sigma == 0, 1.0, sigma)


def _centre(eps_fn: EpsFn, params: Any, x: Array, row: Noisy, cond: Any) -> Array:
    x_to, eps = ddim_step(eps_fn, params, x, row.rows, cond)
    return x_to + row.turn * eps
