"""Unpaired translation: one model's code of an image, decoded by another model.

CycleDiffusion, arXiv 2210.05559, Sec. 3.3: models that were trained apart, on related
images, share the noise that they start from. What one encodes another one decodes, and
no pair of images was ever needed. Two prompts or guidance scales of one model are two
models here.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key

from une_jax import codes, dpm_encoder, edit_friendly
from une_jax.codes import Skip
from une_jax.ddim import EpsFn, ddim_step
from une_jax.errors import UneError
from une_jax.schedule import Schedule, Steps

Kind = Literal["dpm-encoder", "edit-friendly", "ddim"]
PATHS = {"dpm-encoder": dpm_encoder.path, "edit-friendly": edit_friendly.path}
KINDS = (*PATHS, "ddim")


class Side(NamedTuple):
    """A model as translation calls it, but for its function: a pytree.

    ``cond`` may hold guidance (:mod:`une_jax.guidance`).
    """

    params: Any
    schedule: Schedule
    cond: Any = None


def translate(
    source_fn: EpsFn,
    target_fn: EpsFn,
    x0: Float[Array, "b h w c"],
    source: Side,
    target: Side,
    *,
    keys: Key[Array, " b"] | None = None,
    code: Kind = "dpm-encoder",
    eta: float | None = None,
    skip: Skip = 0,
) -> Float32[Array, "b h w c"]:
    """``x0`` encoded with the source and decoded with the target, each by its schedule.

    Of the stochastic codes, both walks go side by side, each step's noise from one to
    the other: what ``decode(encode(x0))`` gives, at one latent's memory and not n. With
    the target equal to the source the image comes back, up to rounding.

    Where the two schedules' levels differ, each walk starts at its own, as its model
    expects: from one draw of noise or, by "ddim", after one more step, at one more call
    of the source, from its level to the target's.

    Args:
        source_fn, target_fn: the two models, which see latents of one shape; static
            under jit, as ``code`` and ``eta`` are.
        source, target: their schedules have equally many steps; prediction types and
            noise levels may differ.
        keys: (b,), one for each sample, for the noise of the stochastic codes.
        code: "dpm-encoder", "edit-friendly", or "ddim": inversion, whose only noise is
            x_T.
        eta: of the stochastic codes' sampler, above 0 up to 1; None: the code's own,
            0.1 of "dpm-encoder" and 1 of "edit-friendly" (``codes.ETA``).
        skip: leave out so many of the first steps of both: the image is noised (or
            inverted) only so far, and keeps more of itself. Data: no other compilation.

    Works under jit, vmap and shard_map. n model calls each, less skip.

    Raises:
        UneError: for another ``code``, ``eta`` or ``skip`` (as of
            :func:`une_jax.dpm_encoder.encode`), no ``keys`` where they are needed,
            schedules that differ in steps, or a schedule that cannot sample (or invert).

    Source: arXiv 2210.05559, Alg. 1 and 2; for "ddim", DDIB (arXiv 2203.08382).

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> def model(params, x, t, cond):
    ...     return params * jnp.sin(x)
    >>> x0, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> one, other = (Side(jnp.float32(p), schedule) for p in (1.0, 0.5))
    >>> back = translate(model, model, x0, one, one, keys=keys)
    >>> there = translate(model, model, x0, one, other, keys=keys)
    >>> bool(jnp.abs(back - x0).max() < 1e-4), bool(jnp.abs(there - x0).max() > 0.01)
    (True, True)
    """
    if code not in KINDS:
        raise UneError(f"code is {code!r}; use one of {', '.join(KINDS)}")
    n, m = (len(side.schedule.sampling.t) for side in (source, target))
    if n != m:
        raise UneError(f"the source has {n} steps and the target {m}; use equally many")
    codes.require_skip(n, skip)
    x0 = x0.astype(jnp.float32)
    if code == "ddim":
        x = _inverted(source_fn, x0, source, target.schedule, skip)
        return _sampled(target_fn, x, target, skip)
    if keys is None:
        raise UneError(f"code {code} draws noise: give keys, one for each sample")
    if eta is None:
        eta = codes.ETA[code]
    rows, others = (codes.table(side.schedule, eta) for side in (source, target))
    path = PATHS[code]

    def body(both, step):
        i, row, other = step

        def walk(both):
            x, y = both
            x_to = jnp.where(i == n - 1, x0, path(keys, i, x, row, x0))
            args = (source.params, x, x_to, row, source.cond)
            eps, arrived = codes.encode_step(source_fn, *args)
            args = (target.params, y, eps, other, target.cond)
            return arrived, codes.decode_step(target_fn, *args)

        return codes.unless(i < skip, skip, walk, lambda both: both, both), None

    both = tuple(codes.start(x0, own, keys, skip) for own in (rows, others))
    (_, y), _ = jax.lax.scan(body, both, (jnp.arange(n), rows, others))
    return y


def _inverted(fn: EpsFn, x0: Array, side: Side, other: Schedule, skip: Skip) -> Array:
    """DDIM inversion up to where the other schedule's step ``skip`` starts."""
    schedule = side.schedule
    beyond = schedule.reached > schedule.sampling.t[skip]
    # The own schedule's level first, and from there by a row more to the other's.
    row, a = _across(schedule.sampling, skip, other), other.sampling.alpha_from[skip]
    rows = jax.tree.map(
        lambda leaf, one: jnp.append(leaf, one), schedule.inversion, row
    )
    left_out = jnp.append(beyond, row.alpha_from == a)
    # skip as data: the last row may be left out whatever skip is.
    return _ddim(fn, x0, side, (rows, left_out), jnp.asarray(skip))


def _across(rows: Steps, skip: Skip, other: Schedule) -> Steps:
    """A DDIM step from where step ``skip`` starts to where the other schedule's does."""
    row = jax.tree.map(lambda leaf: leaf[skip], rows)
    a = other.sampling.alpha_from[skip]

    def to(c, e):  # the image that c says, with a's share of the noise that e says
        image = (c - jnp.sqrt(1 - row.alpha_to) * e) / jnp.sqrt(row.alpha_to)
        return jnp.sqrt(a) * image + jnp.sqrt(1 - a) * e

    c_x, c_out = to(row.c_x, row.e_x), to(row.c_out, row.e_out)
    return row._replace(alpha_to=a, c_x=c_x, c_out=c_out)


def _sampled(fn: EpsFn, x: Array, side: Side, skip: Skip) -> Array:
    """DDIM sampling from step ``skip`` on."""
    rows = side.schedule.sampling
    return _ddim(fn, x, side, (rows, jnp.arange(len(rows.t)) < skip), skip)


def _ddim(fn: EpsFn, x: Array, side: Side, steps: Any, skip: Skip) -> Array:
    def body(x, step):
        row, left_out = step

        def walk(x):
            return ddim_step(fn, side.params, x, row, side.cond)[0]

        return codes.unless(left_out, skip, walk, lambda x: x, x), None

    return jax.lax.scan(body, x, steps)[0]
