"""``--hspace``: files of h's directions that go with the generator views of a zoo."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from une_jax import directions as files
from une_jax import hspace, hspace_files
from une_jax.cli.settings import settings_of
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.zoo import View

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator


def given(
    paths: Sequence[Path], views: Sequence[View]
) -> dict[str, tuple[Path, Directions]]:
    """By view, the file and what is in it; no model is loaded.

    Raises:
        UneError: a file is none of h's directions, belongs to none of the views, or
            two belong to one.
    """
    found: dict[str, tuple[Path, Directions]] = {}
    for path in paths:
        loaded = files.load(path)
        if loaded.view.settings.get("space") != "h":
            raise UneError(
                f"--hspace {path}: these are directions of noise; give a file of "
                "`une-jax hspace fit`"
            )
        name = loaded.view.name.removesuffix(".h")
        view = next((v for v in views if v.name == name), None)
        if view is None:
            listed = ", ".join(v.name for v in views) or "(none)"
            raise UneError(f"--hspace {path}: it is of {name}; there is {listed} here")
        if name in found:
            raise UneError(f"--hspace {path}: {found[name][0]} is of {name} too; give one")  # fmt: skip
        try:
            _require(loaded, view)
        except UneError as error:
            raise UneError(f"--hspace {path}: {error}") from error
        found[name] = path, loaded
    return found


def edit(
    generator: "Generator",
    noise: Float32[np.ndarray, "n c h w"],
    moves: Float32[np.ndarray, "m t i j k"],
    amounts: Float32[np.ndarray, "n s m"],
    prompts: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n s size size 3"]:
    """As ``une-jax hspace edit`` by itself: h moved at every step, for the whole step."""
    from une_jax.cli import inside

    phases = hspace.phases(generator.walk_params["steps"])
    noise = np.asarray(noise, np.float32)
    return inside.edit(
        generator, noise, moves, amounts, phases, symmetric=True, prompts=prompts
    )


def strip(
    generator: "Generator",
    directions: Directions,
    name: str,
    strengths: Sequence[float],
    noise: Float32[np.ndarray, "n c h w"],
    prompts: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n s size size 3"]:
    """Images at each of the strengths of one direction, in its standard deviations."""
    at = directions.index(name)
    amounts = directions.amounts({name: 1.0}, strengths)[..., [at]]
    amounts = np.repeat(amounts / directions.length[at], len(noise), axis=0)
    moves = hspace_files.unpack(directions, [name])
    return edit(generator, noise, moves, amounts, prompts)


def _require(found: Directions, view: View) -> None:
    how = settings_of(view)
    scheduler = view.settings["scheduler"]
    schedule = Schedule.from_config(scheduler, steps=how.steps, eval_at=how.eval_at)
    # What a build measured of its round trip changes no latent, and is in no file.
    same = dataclasses.replace(view, settings=view.settings | {"round_trip": "none"})
    hspace_files.require(found, same, np.asarray(schedule.sampling.t))
