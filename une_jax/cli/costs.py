"""What a model's stages cost an image, before a build runs them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from une_jax import flops as flops_
from une_jax import parallel
from une_jax.cli import programs

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator

REPEATS = 3


def seconds(generator: "Generator") -> dict[str, float]:
    """``vae``, ``unet`` (all calls of the inversion) and, if measured, ``round_trip``."""
    g = generator
    pixels, latents, more = (made(x, g.mesh) for x in _inputs(g))
    params = g.walk_params
    run = {
        "encode": lambda: g.vae.encode(g.vae_params, pixels),
        # The latents are given away, so each call needs its own.
        "call": lambda: g.walks.call(params, jnp.copy(latents), more),
        "decode": lambda: g.vae.decode(g.vae_params, latents),
    }
    return _stages(g, {name: timed(run[name]) for name in _needed(g)})


def flops(generator: "Generator") -> dict[str, float]:
    """As :func:`seconds`, counted from the programs' jaxprs."""
    g = generator
    pixels, latents, more = _inputs(g)
    count = {
        "encode": lambda: counted(g.vae.encode, g.vae_params, pixels),
        "call": lambda: counted(g.walks.call, g.walk_params, latents, more),
        "decode": lambda: counted(g.vae.decode, g.vae_params, latents),
    }
    return _stages(g, {name: count[name]() for name in _needed(g)})


def _needed(g: "Generator") -> tuple[str, ...]:
    pictures = g.settings.round_trip == "pixels"
    return ("encode", "call", "decode") if pictures else ("encode", "call")


def _stages(g: "Generator", batch: dict[str, float]) -> dict[str, float]:
    """A batch's costs of single calls -> an image's of whole stages."""
    one = {name: value / g.batch_size for name, value in batch.items()}
    there, back = programs.calls(g.settings.method, g.walk_params["steps"])
    stages = {"vae": one["encode"], "unet": there * one["call"]}
    if g.settings.round_trip != "none":
        stages["round_trip"] = back * one["call"] + one.get("decode", 0)
    return stages


def _inputs(g: "Generator") -> tuple[Any, Any, Any]:
    """Shapes of a batch: pixels, latents, and the rows beside them."""
    b, (c, h, w) = g.batch_size, g.views[0].shape
    more = {"row": jax.ShapeDtypeStruct((b,), jnp.int32)}
    if g.settings.prompt is None:
        more["cond"] = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype),
            g.walk_params["cond"],
        )
    return (
        jax.ShapeDtypeStruct((b, g.size, g.size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((b, h, w, c), jnp.float32),
        more,
    )


def counted(program: Any, *args: Any) -> float:
    """FLOPs of a compiled program for arguments of these shapes."""
    # What is under jit: with its compiler options, none can be traced inside another.
    return float(flops_.count(program.__wrapped__, *args))


def made(shapes: Any, mesh: Mesh) -> Any:
    """Random arrays of these shapes, split over the mesh."""
    rng = np.random.default_rng(0)

    def one(leaf):
        if leaf.dtype == jnp.uint8:
            return rng.integers(0, 256, leaf.shape, np.uint8)
        return rng.standard_normal(leaf.shape).astype(leaf.dtype)

    return parallel.shard_batch(jax.tree.map(one, shapes), mesh)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a warm call: the fastest of a few, so that a busy moment is none."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times[1:])
