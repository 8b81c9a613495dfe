"""Edits in h-space beside plain sampling, and a Jacobian's directions; prints Markdown.

    python scripts/bench_hspace.py edits       # miniature; 64 images at 9 strengths
    python scripts/bench_hspace.py jacobian    # SD 1.5's size, random weights; 5 GB

``edits``: all images at all strengths by one compiled call of ``hspace.sample``, the
strengths as rows of the batch or by ``vmap``, beside ``ddim.sample`` of as many images
with the same UNet. The calls take turns; medians of ``--rounds`` after one that is not
counted. The expected ratio is that of the operations (``une_jax.flops``): asymmetrically
the way up is walked twice while h is moved. "Of the expected" is images/s over plain
sampling's divided by that ratio: 100 % or more is all that can be asked. In brackets by
the process's seconds on all cores, by which calls compare on a busy machine.

``jacobian``: one iteration of ``jacobian.singular`` for ``--k`` directions, from the
bottleneck (8 x 8 x 1280) to eps (64 x 64 x 4), beside the size of the matrix that it
does without. Memory is what the compiled program asks for beside its arguments, and the
process's peak.
"""

import functools as ft
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ports import ddpm, stable_diffusion, unet  # noqa: E402
from ports.port import Port, define  # noqa: E402
from scripts.side import resident_peak  # noqa: E402
from une_jax import ddim, flops, hspace, jacobian, miniature, parallel  # noqa: E402
from une_jax.cli import programs  # noqa: E402
from une_jax.schedule import Schedule  # noqa: E402

MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Time edits and plain sampling in turns."""

    models: tuple[str, ...] = ("mini-sd15:5", "mini-ddpm:2")
    """NAME:STEPS of the miniature; all steps cost the same"""
    images: int = 64
    """how many"""
    strengths: int = 9
    """of each image"""
    rounds: int = 5
    """turns of each call after the first"""

    def run(self) -> None:
        print(
            "| model, steps | call | images/s | time of plain sampling's (CPU) | expected "
            "| of the expected (CPU) | memory |\n|---|---|---:|---:|---:|---:|---:|",
            flush=True,
        )
        for spec in self.models:
            name, steps = spec.split(":")
            print("\n".join(rows(name, int(steps), self)), flush=True)
        print(f"\n{self.images} images at {self.strengths} strengths, float32; {_device()}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Jacobian:
    """Time one iteration for the directions that change SD 1.5's output most."""

    k: int = 3
    """directions; the search carries two more"""
    at_once: int = 1
    """directions whose products are computed together"""
    latents: int = 64
    """edge of the latents"""
    iterations: int = 1
    """that are timed, after the first, which linearizes too"""

    def run(self) -> None:
        print(directions(self))


@dataclass(frozen=True)
class Args:
    """Time h-space."""

    do: Annotated[
        Annotated[Edits, tyro.conf.subcommand("edits")]
        | Annotated[Jacobian, tyro.conf.subcommand("jacobian")],
        tyro.conf.arg(name=""),
    ]


class Model(NamedTuple):
    """A UNet, its steps, what it is told, and the shape of what it walks."""

    port: Port
    schedule: Schedule
    cond: Any
    shape: tuple[int, ...]


def load(name: str, steps: int) -> Model:
    """A latent or pixel diffusion model of the miniature."""
    path = str(miniature.path(name))
    if name == "mini-ddpm":
        pipeline = ddpm.load_pipeline(path)
        port, cond = pipeline.unet, None
        schedule = Schedule.from_config(pipeline.scheduler, steps=steps)
    else:
        sd = stable_diffusion.load(path)
        port = sd.unet
        schedule = Schedule.from_config(sd.scheduler, steps=steps)
        said = stable_diffusion.encode_prompts(sd, [""])
        cond = port.apply(port.params, said, schedule.sampling.t, method="prepare")
    edge = port.config.sample_size
    return Model(port, schedule, cond, (edge, edge, port.config.in_channels))


class Given(NamedTuple):
    """What every call takes; ``x_T`` are the images' own, not yet repeated."""

    params: Any
    x_T: jax.Array  # (n, h, w, c)
    schedule: Schedule
    cond: Any
    moves: jax.Array  # (1, steps, i, j, k)
    strengths: jax.Array  # (s,)
    phases: hspace.Phases


def plain(model: Model, given: Given) -> jax.Array:
    """As many images as edits, by the plain sampler."""
    x_T = jnp.repeat(given.x_T, len(given.strengths), axis=0)
    return ddim.sample(model.port.apply, given.params, x_T, given.schedule, given.cond)


def by_rows(model: Model, given: Given, *, symmetric: bool) -> jax.Array:
    x_T = jnp.repeat(given.x_T, len(given.strengths), axis=0)
    amounts = jnp.tile(given.strengths, len(given.x_T))[:, None]
    return _edited(model, given, x_T, amounts, symmetric)


def by_vmap(model: Model, given: Given, *, symmetric: bool) -> jax.Array:
    def at(strength: jax.Array) -> jax.Array:
        amounts = jnp.broadcast_to(strength, (len(given.x_T), 1))
        return _edited(model, given, given.x_T, amounts, symmetric)

    return jax.vmap(at)(given.strengths)


def _edited(
    model: Model, given: Given, x_T: jax.Array, amounts: jax.Array, symmetric: bool
) -> jax.Array:
    return hspace.sample(
        programs.halves(model.port.apply), given.params, x_T, given.schedule, given.cond,
        shift=hspace.along, what=hspace.Along(given.moves, amounts),
        phases=given.phases, symmetric=symmetric,
    )  # fmt: skip


class Call(NamedTuple):
    """A compiled call, its arguments and the operations of it."""

    compiled: Any
    given: Given
    flops: float


def rows(name: str, steps: int, args: Edits) -> list[str]:
    """One model's lines of the table."""
    model = load(name, steps)
    n, t = args.images, model.schedule.sampling.t
    x_T = jax.random.normal(jax.random.key(0), (n, *model.shape))
    h, _ = jax.eval_shape(
        programs.halves(model.port.apply).down,
        model.port.params,
        x_T,
        jnp.tile(t[:1], n),
        model.cond,
    )
    given = Given(
        params=model.port.params,
        x_T=x_T,
        schedule=model.schedule,
        cond=model.cond,
        moves=jax.random.normal(jax.random.key(1), (1, steps, *h.shape[1:])),
        strengths=jnp.linspace(-0.1, 0.1, args.strengths),
        phases=hspace.phases(model.schedule),
    )
    forms: dict[str, Callable[..., jax.Array]] = {
        "plain sampling": plain,
        "symmetric, rows": ft.partial(by_rows, symmetric=True),
        "symmetric, vmap": ft.partial(by_vmap, symmetric=True),
        "asymmetric, rows": ft.partial(by_rows, symmetric=False),
        "asymmetric, vmap": ft.partial(by_vmap, symmetric=False),
    }
    calls = {}
    for label, form in forms.items():
        fn = ft.partial(form, model)
        calls[label] = Call(compiled(fn, given), given, flops.count(fn, given))
    none, whole = calls["plain sampling"].flops, calls["asymmetric, rows"]
    half = hspace.phases(model.schedule, t_edit=int(t[steps // 2 - 1]))
    edited = float(half.edit.mean())
    some = none + edited * (whole.flops - none)
    calls[f"asymmetric, rows, {edited:.0%} of steps"] = whole._replace(
        given=given._replace(phases=half), flops=some
    )
    spent = taken(calls, args.rounds)
    return [
        _row(f"{name}, {steps}", label, call, calls, spent, n * args.strengths)
        for label, call in calls.items()
    ]


def _row(
    model: str,
    label: str,
    call: Call,
    calls: dict[str, Call],
    spent: dict[str, np.ndarray],
    images: int,
) -> str:
    base = "plain sampling"
    wall, cpu = spent[label] / spent[base]
    expected = call.flops / calls[base].flops
    memory = call.compiled.memory_analysis().temp_size_in_bytes
    return (
        f"| {model} | {label} | {images / spent[label][0]:.1f} | {wall:.2f}x ({cpu:.2f}x) "
        f"| {expected:.2f}x | {expected / wall:.0%} ({expected / cpu:.0%}) "
        f"| {memory / MB:.0f} MB |"
    )


def compiled(fn: Callable[..., Any], *args: Any) -> Any:
    options = parallel.memory_schedule(jax.default_backend())
    return jax.jit(fn, compiler_options=options).lower(*args).compile()


def taken(calls: dict[str, Call], rounds: int) -> dict[str, np.ndarray]:
    """Of each call the median seconds, by the clock and of all cores."""
    spent: dict[str, list[np.ndarray]] = {label: [] for label in calls}
    for turn in range(rounds + 1):
        for label, call in calls.items():
            used = timed(lambda call=call: call.compiled(call.given))
            if turn:
                spent[label].append(used)
    return {label: np.median(used, axis=0) for label, used in spent.items()}


def timed(run: Callable[[], Any]) -> np.ndarray:
    """Seconds by the clock, and of all cores."""
    before, start = _cpu(), time.perf_counter()
    jax.block_until_ready(run())
    return np.array([time.perf_counter() - start, _cpu() - before])


def directions(args: Jacobian) -> str:
    """The table's one line, with its head."""
    shapes, apply = define(unet.UNet, unet.Config(cross_attention_dim=768))
    down, up = (ft.partial(apply, method=m) for m in ("down", "up"))

    def shape(*axes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, dtype)

    edge = args.latents
    told = shape(1, 77, 768)
    h, rest = jax.eval_shape(
        down, shapes, shape(1, edge, edge, 4), shape(1, dtype=jnp.int32), told
    )

    def find(params: Any, h: jax.Array, rest: Any, tol: jax.Array) -> jacobian.Singular:
        return jacobian.singular(
            lambda h: up(params, h[None], rest)[0], h, args.k,
            tol=tol, max_iter=1 + args.iterations, at_once=args.at_once,
        )  # fmt: skip

    point = shape(*h.shape[1:])
    program = compiled(find, shapes, point, rest, shape())
    # The way down's weights are never touched: zeros, which the system hands out late.
    rng = np.random.default_rng(0)

    def drawn(path: Any, leaf: Any) -> np.ndarray:
        if path[0].key not in ("up_blocks", "conv_norm_out", "conv_out"):
            return np.zeros(leaf.shape, leaf.dtype)
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 1.0
        return np.float32(scale) * rng.standard_normal(leaf.shape, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(drawn, shapes)
    point, rest = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, leaf.dtype), (point, rest)
    )
    once, more = (
        timed(lambda tol=tol: program(params, point, rest, np.float32(tol)))
        for tol in (1e30, 0.0)  # one iteration; all
    )
    wall, cpu = (more - once) / args.iterations
    memory = program.memory_analysis()
    entries = int(np.prod(point.shape)) * edge * edge * 4
    return (
        "| h, eps | directions | one iteration (CPU) | memory beside arguments | process's "
        f"peak | the matrix |\n|---|---:|---:|---:|---:|---:|\n| {point.shape}, "
        f"{(edge, edge, 4)} | {args.k} + 2, {args.at_once} at once | {wall:.0f} s "
        f"({cpu:.0f} s) | {memory.temp_size_in_bytes / 1e9:.2f} GB "
        f"(arguments {memory.argument_size_in_bytes / 1e9:.2f} GB) "
        f"| {resident_peak() / 1e9:.1f} GB | {4 * entries / 1e9:.2f} GB |\n\n{_device()}"
    )


def _device() -> str:
    return f"jax {jax.__version__} on {jax.devices()[0].device_kind}"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    tyro.cli(Args, description=__doc__).do.run()
