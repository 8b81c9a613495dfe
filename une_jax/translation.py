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
from une_jax.schedule import Schedule

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
    eta: float = 0.1,
    skip: Skip = 0,
) -> Float32[Array, "b h w c"]:
    """``x0`` encoded with the source and decoded with the target, each by its schedule.

    Of the stochastic codes, both walks go side by side, each step's noise from one to
    the other: what ``decode(encode(x0))`` gives, at one latent's memory and not n. With
    the target equal to the source the image comes back, up to rounding.

    Args:
        source_fn, target_fn: the two models, which see latents of one shape; static
            under jit, as ``code`` and ``eta`` are.
        source, target: their schedules have equally many steps; prediction types and
            noise levels may differ.
        keys: (b,), one for each sample, for the noise of the stochastic codes.
        code: "dpm-encoder", "edit-friendly", or "ddim": inversion, whose only noise is
            x_T.
        eta: of the stochastic codes' sampler, above 0 up to 1.
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
    x0 = x0.astype(jnp.float32)
    if code == "ddim":
        if isinstance(skip, int) and not 0 <= skip < n:
            raise UneError(f"skip is {skip}; of {n} steps, leave out 0 to {n - 1}")
        return _sampled(target_fn, _inverted(source_fn, x0, source, skip), target, skip)
    if keys is None:
        raise UneError(f"code {code} draws noise: give keys, one for each sample")
    rows, others = (codes.table(side.schedule, eta) for side in (source, target))
    codes.require_skip(rows, skip)
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

    x = codes.start(x0, rows, keys, skip)
    (_, y), _ = jax.lax.scan(body, (x, x), (jnp.arange(n), rows, others))
    return y


def _inverted(fn: EpsFn, x0: Array, side: Side, skip: Skip) -> Array:
    """DDIM inversion up to where step ``skip`` starts."""
    schedule = side.schedule
    beyond = schedule.reached > schedule.sampling.t[skip]
    return _ddim(fn, x0, side, (schedule.inversion, beyond), skip)


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
