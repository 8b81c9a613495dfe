"""Two diffusion models as ``une-jax translate`` uses them: one's code, the other's."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, UInt8

from une_jax import guidance, parallel, translation
from une_jax.cli import programs
from une_jax.cli.batches import batched
from une_jax.cli.diffusion import Diffusion
from une_jax.cli.pictures import in_pixels
from une_jax.errors import UneError
from une_jax.translation import Side


@dataclass(frozen=True, kw_only=True, eq=False)
class Translator:
    """A source and a target whose latents and images have one shape.

    Raises:
        UneError: they have not.
    """

    source: Diffusion = field(repr=False)
    target: Diffusion = field(repr=False)
    code: translation.Kind
    eta: float | None  # None: the code's own

    def __post_init__(self):
        one, other = self.source, self.target
        kinds = ["pixels" if in_pixels(m.views[0]) else "latents" for m in (one, other)]
        if len(set(kinds)) > 1:
            raise UneError(
                f"{one.name} walks in {kinds[0]}, {other.name} in {kinds[1]}: one's code "
                "is none of the other's; choose two of a kind"
            )
        for what, a, b in (
            ("latents of shape", one.views[0].shape, other.views[0].shape),
            ("images of", f"{one.size} pixels", f"{other.size} pixels"),
        ):
            if a != b:
                raise UneError(
                    f"{one.name} has {what} {a}, {other.name} of {b}: one's code is none of "
                    "the other's; choose another model or, where the edges differ, --size"
                )

    @ft.cached_property
    def shares_vae(self) -> bool:
        """Whether the two VAEs are one: else the target reads latents of another's."""
        one, other = self.source, self.target
        if one.vae != other.vae:  # of another configuration
            return False
        same = jax.tree.map(np.array_equal, one.vae_params, other.vae_params)
        return all(jax.tree.leaves(same))

    def translate(
        self,
        pixels: UInt8[np.ndarray, "b size size 3"],
        rows: Int[np.ndarray, " b"],
        *,
        skip: int,
        guidance_to: float,
    ) -> UInt8[np.ndarray, "b size size 3"]:
        """Images with their rows' numbers (each draws its own noise), as the target
        paints them at this guidance."""
        return self._run(self.target, pixels, rows, skip, guidance_to)

    def reconstruct(
        self,
        pixels: UInt8[np.ndarray, "b size size 3"],
        rows: Int[np.ndarray, " b"],
        *,
        skip: int,
    ) -> UInt8[np.ndarray, "b size size 3"]:
        """Images as the source gives them back by the same noise, and its own guidance."""
        scale = self.source.settings.guidance
        return self._run(self.source, pixels, rows, skip, scale)

    def _run(
        self,
        target: Diffusion,
        pixels: np.ndarray,
        rows: np.ndarray,
        skip: int,
        scale: float,
    ) -> np.ndarray:
        source = self.source
        args = (source.unet.apply, target.unet.apply, source.mesh)
        walk = program(*args, self.code, self.eta)
        data = {"skip": jnp.int32(skip), "key": source.walk_params["key"]}
        params = parallel.replicate(data, source.mesh) | {
            "source": told(source, source.settings.guidance),
            "target": told(target, scale),
        }

        def run(batch):
            x0 = source.vae.encode(source.vae_params, batch["pixels"])
            x0 = walk(params, {"x0": x0, "row": batch["row"]})
            return programs.rounded(target.vae.decode(target.vae_params, x0))

        batch = {"pixels": pixels, "row": np.asarray(rows, np.int32)}
        return batched(run, batch, source.mesh, source.batch_size)


@ft.lru_cache(maxsize=8)
def program(
    source: Callable[..., Any],
    target: Callable[..., Any],
    mesh: Mesh,
    code: translation.Kind,
    eta: float | None,
) -> programs.Program:
    """``(params, {x0 (b, h, w, c), row (b,)}) -> x0`` of two UNet ports' ``apply``.

    ``params`` are ``source`` and ``target`` (of ``programs.walks``), ``key`` of the noise
    and ``skip``: guidance and skip are data.
    """

    def side(apply, params):
        unet, cond, steps = programs.told(apply, params, {})
        return Side(unet, steps, cond)

    def run(params, batch):
        return translation.translate(
            guidance.guided(source),
            guidance.guided(target),
            batch["x0"],
            side(source, params["source"]),
            side(target, params["target"]),
            keys=programs.fold_in(params["key"], batch["row"]),
            code=code,
            eta=eta,
            skip=params["skip"],
        )

    options = parallel.memory_schedule(mesh.devices.flat[0].platform)
    return parallel.data_parallel(run, mesh, compiler_options=options)


def told(generator: Diffusion, scale: float) -> dict[str, Any]:
    """A generator's parameters of a walk, at this guidance scale and its own prompt."""
    prompt, guide = generator.settings.prompt or "", None
    # Else the two branches are the same, or the scale is embedded.
    if scale != 1 and prompt and not generator.samples_in_few_steps:
        without = generator.condition("", scale)
        guide = {"without": without, "scale": jnp.full(1, scale, jnp.float32)}
    told = {"cond": generator.condition(prompt, scale), "guidance": guide}
    own = {name: generator.walk_params[name] for name in ("unet", "steps")}
    return own | parallel.replicate(told, generator.mesh)
