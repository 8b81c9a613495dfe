"""The compiled programs of a diffusion pipeline, weights and tables as arguments.

Models of one configuration get the same functions and so compile once: three pipelines
with equal VAEs share those halves, and a second load of a model compiles nothing.
"""

import functools as ft
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ports import vae
from une_jax import (
    asyrp,
    asyrp_training,
    consistency,
    ddim,
    dpm_encoder,
    edits,
    exact,
    fixed_point,
    guidance,
    hspace,
    image_metrics,
    images,
    parallel,
    shells,
)
from une_jax.schedule import Schedule

# Of the noise that consistency sampling draws.
FEW_SEED = 0xF3_57_E9
# Of fixed-point inversion: what a step may miss by, and the model calls it may take.
REFINE = {"tolerance": 1e-4, "max_calls": 10}
METHODS = ("ddim", "fixed-point", "exact", "dpm-encoder")
Program = Callable[[Any, Any], Any]  # (params, batch) -> out, over the mesh
Walk = Callable[[Any, jax.Array, dict[str, Any]], Any]


class Pictures(NamedTuple):
    """A VAE's two ways; params are the VAE's."""

    encode: Program  # uint8 images -> the UNet's latents x0
    decode: Program  # x0 -> float32 images about [-1, 1], unrounded


class Rule(NamedTuple):
    """How h is moved along m directions: ``shift(what(moves, amounts (b, m)), h, at)``."""

    shift: hspace.Shift
    what: Callable[[Any, jax.Array], Any]


TABLES = Rule(hspace.along, hspace.Along)  # moves (m, t, i, j, k)
FUNCTIONS = Rule(asyrp.along, asyrp.Along)  # moves are params of f_t, stacked


class Walks(NamedTuple):
    """A UNet's ways between image and noise: ``walk(params, latents, more)``.

    ``params`` are ``unet``, ``cond``, ``steps`` (a Schedule; for ``few``
    consistency.Steps), ``guidance`` (None, or ``without`` and ``scale``), ``key`` (of
    noise that is drawn) and, for ``states`` alone, ``at``; for ``inside``, ``moves`` and
    ``phases`` of :mod:`une_jax.hspace`. ``more`` are rows beside the latents' own:
    ``row``, its number, where noise is drawn; ``cond``, where each image has its own;
    ``code``, what the method keeps beside the noise; ``amounts``, of the moves. The
    latents' memory is given away, but by ``states``, ``middles`` and ``watched``.
    """

    invert: Walk  # x0 -> {x_T, residual[, code]}
    sample: Walk  # x_T -> x0; without a code, of noise that has no history
    follow: Walk | None  # code -> the code of x_T, that of ``more["origin"]`` moved
    few: Walk  # x_T -> x0 in few steps
    call: Walk  # the UNet alone, at the first timestep
    states: Walk  # x0 -> those of DDIM inversion at the timesteps ``at``
    middles: Walk  # x_T -> h of each step of DDIM sampling
    watched: Walk  # x_T -> asyrp_training.Watched of the same
    inside: Callable[[Rule, bool], Walk]  # x_T -> x0, h moved by ``amounts``


@ft.lru_cache(maxsize=8)
def pictures(apply: Callable[..., Any], config: vae.Config, mesh: Mesh) -> Pictures:
    """The programs of an ``AutoencoderKL`` port's ``apply``."""

    def encode(params, pixels):
        latents = apply(params, images.to_signed(pixels), method="encode")
        return vae.scale(config, latents)

    def decode(params, x0):
        return apply(params, vae.unscale(config, x0), method="decode")

    options = parallel.memory_schedule(mesh.devices.flat[0].platform)
    return Pictures(
        *(
            parallel.data_parallel(fn, mesh, compiler_options=options)
            for fn in (encode, decode)
        )
    )


@ft.lru_cache(maxsize=8)
def walks(
    apply: Callable[..., Any],
    mesh: Mesh,
    method: str = "ddim",
    eta: float = 0.1,
    stored: str = "float32",
) -> Walks:
    """The programs of a ``UNet`` port's ``apply``, inverting by one of ``METHODS``.

    What inversion gives is rounded to the dtype in which it will be stored, so that
    whatever is measured of it holds for the stored numbers.
    """
    eps_fn = guidance.guided(apply)

    given = ft.partial(told, apply)

    def invert(params, x0, more):
        unet, cond, steps = given(params, more)
        code = None
        if method == "ddim":
            x_T, residual = ddim.invert_with_residual(eps_fn, unet, x0, steps, cond)
        elif method == "fixed-point":
            out = fixed_point.invert(eps_fn, unet, x0, steps, cond, **REFINE)
            x_T, residual = out.x_T, out.residual
        elif method == "exact":
            out = exact.invert_with_residual(eps_fn, unet, x0, steps, cond)
            (x_T, code), residual = out.pair, out.residual
        else:
            how = {"keys": fold_in(params["key"], more["row"]), "eta": eta}
            out = dpm_encoder.encode_with_residual(eps_fn, unet, x0, steps, cond, **how)
            (x_T, code), residual = out.code, out.residual
        latents = {"x_T": x_T} if code is None else {"x_T": x_T, "code": code}
        rounded = jax.tree.map(lambda x: x.astype(stored).astype(x.dtype), latents)
        return {**rounded, "residual": residual}

    def sample(params, x_T, more):
        unet, cond, steps = given(params, more)
        code = more.get("code")
        if method == "exact":
            pair = (
                exact.begin(eps_fn, unet, x_T, steps, cond)
                if code is None
                else exact.Pair(x_T, code)
            )
            return exact.sample(eps_fn, unet, pair, steps, cond)
        if method == "dpm-encoder":
            keys = fold_in(params["key"], more["row"])
            both = (
                dpm_encoder.begin(x_T, steps, keys=keys)
                if code is None
                else dpm_encoder.Code(x_T, code)
            )
            return dpm_encoder.decode(eps_fn, unet, both, steps, cond, eta=eta)
        return ddim.sample(eps_fn, unet, x_T, steps, cond)

    def follow(params, code, more):
        unet, cond, steps = given(params, more)
        old, new = (
            exact.begin(eps_fn, unet, more[name], steps, cond).x_before
            for name in ("origin", "x_T")
        )
        return code + (new - old)

    def few(params, x_T, more):
        unet, cond, steps = given(params, more)
        keys = row_keys(FEW_SEED, more["row"])
        return consistency.sample(eps_fn, unet, x_T, steps, cond, keys)

    def call(params, x, more):
        unet, cond, steps = given(params, more)
        t = jnp.broadcast_to(timesteps(steps)[0], x.shape[:1])
        return eps_fn(unet, x, t, cond).astype(x.dtype)

    def states(params, x0, more):
        unet, cond, steps = given(params, more)
        return ddim.trajectory(eps_fn, unet, x0, steps, cond, at=params["at"])

    both = halves(apply)

    def middles(params, x_T, more):
        unet, cond, steps = given(params, more)
        return hspace.collect(both, unet, x_T, steps, cond).h

    def watched(params, x_T, more):
        unet, cond, steps = given(params, more)
        return asyrp_training.watch(both, unet, x_T, steps, cond)

    def inside(params, x_T, more, *, rule, symmetric):
        unet, cond, steps = given(params, more)
        return hspace.sample(
            both,
            unet,
            x_T,
            steps,
            cond,
            shift=rule.shift,
            what=rule.what(params["moves"], more["amounts"]),
            phases=params["phases"],
            keys=fold_in(params["key"], more["row"]),
            symmetric=symmetric,
        )

    @ft.cache
    def inside_as(rule: Rule, symmetric: bool) -> Walk:
        return _donating(ft.partial(inside, rule=rule, symmetric=symmetric), mesh)

    fns = {"invert": invert, "sample": sample, "few": few, "call": call}
    compiled = {name: _donating(fn, mesh) for name, fn in fns.items()}
    return Walks(
        follow=_donating(follow, mesh) if method == "exact" else None,
        states=_donating(states, mesh, donate=False),
        middles=_donating(middles, mesh, donate=False),
        watched=_donating(watched, mesh, donate=False),
        inside=inside_as,
        **compiled,
    )


@ft.lru_cache(maxsize=8)
def mover(mesh: Mesh, control: shells.Control) -> Program:
    """``(moves (m, d), {x_T, amounts (b, m)}) -> x_T`` (b, c, h, w), moved by
    ``amounts @ moves`` and brought back to the shell."""

    def move(moves, batch):
        moved = jax.vmap(edits.displace, (0, None, 0))(batch["x_T"], moves, batch["amounts"])  # fmt: skip
        return shells.restore(moved, batch["x_T"], control)

    return parallel.data_parallel(move, mesh)


def told(
    apply: Callable[..., Any], params: Mapping[str, Any], more: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """What a walk calls the UNet with: its weights, the condition, the steps.

    Arguments as of :class:`Walks`; with guidance the condition is for both branches.
    """
    cond, guide = more.get("cond", params["cond"]), params["guidance"]
    if guide is not None:
        cond = guidance.guide(cond, guide["without"], guide["scale"])
    return params["unet"], prepared(apply, params, cond), params["steps"]


def halves(apply: Callable[..., Any]) -> hspace.Halves:
    """A UNet port's two halves, under guidance too."""
    return hspace.guided(
        hspace.Halves(ft.partial(apply, method="down"), ft.partial(apply, method="up"))
    )


def prepared(apply: Callable[..., Any], params: Any, cond: Any) -> Any:
    """The condition with what all steps have in common computed, once for all.

    A network that is told nothing has nothing to prepare.
    """
    if cond is None:
        return None

    def prepare(cond):
        t = timesteps(params["steps"])
        return apply(params["unet"], cond, t, method="prepare")

    if isinstance(cond, guidance.Guided):
        return cond._replace(both=prepare(cond.both))
    return prepare(cond)


def timesteps(steps: Schedule | consistency.Steps) -> jax.Array:
    """Those at which any walk along ``steps`` calls the model."""
    return steps.down.t if isinstance(steps, Schedule) else steps.t


def calls(method: str, schedule: Schedule) -> tuple[int, int]:
    """The model calls of an inversion (at most) and of sampling."""
    n, source = len(schedule.down.t), len(schedule.down.t) - len(schedule.up.t)
    if method == "exact":
        ends = int(schedule.x0_is_first)
        return n - ends, n - ends - 1
    if method == "dpm-encoder":
        return n, n
    each = REFINE["max_calls"] if method == "fixed-point" else 1
    return each * (n - source), n


def _donating(fn: Walk, mesh: Mesh, *, donate: bool = True) -> Walk:
    """``fn`` over the mesh; its result takes the memory of its second argument."""
    split = PartitionSpec(parallel.AXIS)
    specs = (PartitionSpec(), split, split)
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=split)
    options = parallel.memory_schedule(mesh.devices.flat[0].platform)
    argnums = (1,) if donate else ()
    return jax.jit(mapped, donate_argnums=argnums, compiler_options=options)


def row_keys(seed: int, rows: jax.Array) -> jax.Array:
    """A key for each row's number, the same whatever batch the row is in."""
    return fold_in(jax.random.key(seed), rows)


def fold_in(key: jax.Array, rows: jax.Array) -> jax.Array:
    """(b,) keys of the rows' numbers."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


@jax.jit
def forward_noised(x0: jax.Array, alpha: jax.Array, keys: jax.Array) -> jax.Array:
    """x0 (b, h, w, c) under fresh noise at level alpha, from each row's own key."""
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)
    return jnp.sqrt(alpha) * x0 + jnp.sqrt(1 - alpha) * noise


@jax.jit
def missed(again: jax.Array, x0: jax.Array) -> jax.Array:
    """The root mean square (b,) by which latents (b, h, w, c) differ."""
    return jnp.sqrt(jnp.mean((again - x0) ** 2, axis=(1, 2, 3)))


@jax.jit
def psnr(again: jax.Array, pixels: jax.Array) -> jax.Array:
    """dB (b,) between decoded floats, unrounded, and uint8 images; at most 120."""
    unit = jnp.clip((again + 1) / 2, 0, 1)
    return image_metrics.psnr(unit, pixels.astype(jnp.float32) / 255)


rounded = jax.jit(images.from_signed)  # decoded floats -> uint8 images
