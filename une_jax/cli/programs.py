"""The compiled programs of a diffusion pipeline, weights and tables as arguments.

Models of one configuration get the same functions and so compile once: three pipelines
with equal VAEs share those halves, and a second load of a model compiles nothing.
"""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ports import vae
from une_jax import consistency, ddim, fixed_point, images, parallel

# Of the noise that consistency sampling draws.
FEW_SEED = 0xF3_57_E9
# Of fixed-point inversion: what a step may miss by, and the model calls it may take.
REFINE = {"tolerance": 1e-4, "max_calls": 10}
Program = Callable[[Any, Any], Any]  # (params, batch) -> out, over the mesh


class Pictures(NamedTuple):
    """A VAE's two ways; params are the VAE's."""

    encode: Program  # uint8 images -> the UNet's latents x0
    decode: Program  # x0 -> uint8 images


class Walks(NamedTuple):
    """A UNet's ways between image and noise; params are ``{unet, cond, steps}``."""

    invert: Program  # x0 -> {x_T, residual}, with a Schedule as steps
    refine: Program  # the same by fixed-point inversion
    sample: Program  # x_T -> x0, with a Schedule as steps
    sample_few: Program  # {x_T, row} -> x0, with consistency.Steps as steps


@ft.lru_cache(maxsize=8)
def pictures(apply: Callable[..., Any], config: vae.Config, mesh: Mesh) -> Pictures:
    """The programs of an ``AutoencoderKL`` port's ``apply``."""

    def encode(params, pixels):
        latents = apply(params, images.to_signed(pixels), method="encode")
        return vae.scale(config, latents)

    def decode(params, x0):
        latents = vae.unscale(config, x0)
        return images.from_signed(apply(params, latents, method="decode"))

    return Pictures(*(_compiled(fn, mesh) for fn in (encode, decode)))


@ft.lru_cache(maxsize=8)
def walks(apply: Callable[..., Any], mesh: Mesh) -> Walks:
    """The programs of a ``UNet`` port's ``apply``."""

    def invert(params, x0):
        out = ddim.invert_with_residual(
            apply, params["unet"], x0, params["steps"], params["cond"]
        )
        return out._asdict()

    def refine(params, x0):
        unet, steps, cond = (params[k] for k in ("unet", "steps", "cond"))
        out = fixed_point.invert(apply, unet, x0, steps, cond, **REFINE)
        return {"x_T": out.x_T, "residual": out.residual}

    def sample(params, x_T):
        return ddim.sample(apply, params["unet"], x_T, params["steps"], params["cond"])

    def sample_few(params, batch):
        unet, steps, cond = (params[k] for k in ("unet", "steps", "cond"))
        keys = row_keys(FEW_SEED, batch["row"])
        return consistency.sample(apply, unet, batch["x_T"], steps, cond, keys)

    fns = (invert, refine, sample, sample_few)
    return Walks(*(_compiled(fn, mesh) for fn in fns))


def _compiled(fn: Program, mesh: Mesh) -> Program:
    options = parallel.memory_schedule(mesh.devices.flat[0].platform)
    return parallel.data_parallel(fn, mesh, compiler_options=options)


def row_keys(seed: int, rows: jax.Array) -> jax.Array:
    """A key for each row's number, the same whatever batch the row is in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)


@jax.jit
def forward_noised(x0: jax.Array, alpha: jax.Array, keys: jax.Array) -> jax.Array:
    """x0 (b, h, w, c) under fresh noise at level alpha, from each row's own key."""
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)
    return jnp.sqrt(alpha) * x0 + jnp.sqrt(1 - alpha) * noise
