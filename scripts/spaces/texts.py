"""Edits by text: an image encoded under its caption, decoded under another one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scripts.spaces.case import Case
from une_jax import guidance, parallel, translation
from une_jax.cli import programs
from une_jax.cli.batches import batched
from une_jax.cli.generator import condition
from une_jax.cli.layout import nchw
from une_jax.translation import Side


def painter(case: Case, code: translation.Kind) -> Callable[..., np.ndarray]:
    """Strengths are guidance scales; 0 is the image as the code gives it back."""
    generator = case.generator
    unet, steps = (generator.walk_params[name] for name in ("unet", "steps"))
    walk = program(generator.sd.unet.apply, generator.mesh, code)
    params = {"unet": unet, "steps": steps, "key": generator.walk_params["key"]}
    params |= parallel.replicate({"none": _told(generator, [""])}, generator.mesh)

    def encode(pixels: jax.Array) -> jax.Array:
        return generator.vae.encode(generator.vae_params, pixels)

    def paint(rows: np.ndarray, attribute: str, scales: np.ndarray) -> np.ndarray:
        n, s = len(rows), len(scales)
        pixels = case.pixels(rows)
        x0 = batched(encode, pixels, generator.mesh, generator.batch_size)
        said, shall = (_told(generator, case.captions(rows, own)) for own in (None, attribute))  # fmt: skip
        still = np.tile(scales == 0, n)

        def target(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            a, b = (np.repeat(np.asarray(x), s, axis=0) for x in (a, b))
            return np.where(still.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        batch = {
            "x0": np.repeat(x0, s, axis=0),
            "row": np.repeat(rows, s).astype(np.int32),
            "source": jax.tree.map(lambda x: np.repeat(np.asarray(x), s, axis=0), said),
            "target": jax.tree.map(target, said, shall),
            # Of the caption itself, guidance is none.
            "scale": np.tile(np.where(scales == 0, 1, scales), n).astype(np.float32),
        }
        made = batched(lambda b: walk(params, b), batch, generator.mesh, generator.batch_size)  # fmt: skip
        images = generator.paint(nchw(made, "float32"))
        return images.reshape(n, s, *images.shape[1:])

    return paint


def program(apply: Any, mesh: Any, code: translation.Kind) -> programs.Program:
    """``(params, batch) -> x0``; each row has its captions and its scale."""
    model = guidance.guided(apply)

    def run(params, batch):
        def side(cond):
            told = programs.prepared(apply, params, cond)
            return Side(params["unet"], params["steps"], told)

        without = jax.tree.map(
            lambda x: jnp.repeat(x, len(batch["x0"]), axis=0), params["none"]
        )
        guide = guidance.guide(batch["target"], without, batch["scale"])
        return translation.translate(
            model, model, batch["x0"], side(batch["source"]), side(guide),
            keys=programs.fold_in(params["key"], batch["row"]), code=code,
        )  # fmt: skip

    options = parallel.memory_schedule(mesh.devices.flat[0].platform)
    return parallel.data_parallel(run, mesh, compiler_options=options)


def _told(generator: Any, prompts: list[str]) -> Any:
    return condition(generator.sd, prompts, generator.size, 1.0)
