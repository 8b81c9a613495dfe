"""What an edit takes: seconds, side by side, and the memory of its compiled walk."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scripts.spaces import texts
from scripts.spaces.case import Case
from scripts.spaces.ways import Way
from une_jax import hspace
from une_jax.cli import hspace_moves, programs
from une_jax.cli.costs import counted

ROUNDS = 5
IMAGES = 8


def seconds(ways: Sequence[Way], images: int) -> dict[str, float]:
    """Of one edited image, decoding included: the median of rounds in which every way
    edits the same of so many images in turn, after one that only compiles."""
    took: dict[str, list[float]] = {way.name: [] for way in ways}
    for round in range(ROUNDS + 1):
        for way in ways:
            start = time.perf_counter()
            rows = np.arange(min(IMAGES, images))
            strips = way.strips(rows, way.walks[:1], np.array(way.steps, np.float32))
            if round:
                count = strips.shape[0] * strips.shape[1]
                took[way.name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(each) for name, each in took.items()}


class Cost(NamedTuple):
    """Of one compiled walk."""

    scratch: int  # bytes that a batch asks for
    flops: float  # of one image, VAE aside


def walks(case: Case, learnt: hspace_moves.Moves | None) -> dict[str, Cost]:
    """By walk: "noise", "h", "asyrp" (of ``learnt``, if that is there) and "text"."""
    generator, b = case.generator, case.generator.batch_size
    given = dict(generator.walk_params)
    c, h, w = generator.views[0].shape
    x = jnp.zeros((b, h, w, c))
    row = jnp.arange(b, dtype=jnp.int32)
    own = generator.walks
    middle = jax.eval_shape(own.middles, given, x, {"row": row}).shape[1:]
    phases = hspace.phases(given["steps"])
    moved = {"row": row, "amounts": jnp.ones((b, 1))}
    tables = given | {"moves": jnp.zeros((1, *middle)), "phases": phases}
    asked = {
        "noise": (own.sample, given, x, {"row": row}),
        "h": (own.inside(programs.TABLES, True), tables, x, moved),
    }
    if learnt is not None:
        phases = hspace.phases(given["steps"], t_edit=learnt.t_edit)
        functions = given | {"moves": learnt.moves, "phases": phases}
        asked["asyrp"] = (own.inside(programs.FUNCTIONS, False), functions, x, moved)
    said = jax.tree.map(lambda leaf: jnp.repeat(leaf, b, axis=0), given["cond"])
    batch = {"x0": x, "row": row, "source": said, "target": said, "scale": jnp.ones(b)}
    told = {k: given[k] for k in ("unet", "steps", "key")} | {"none": given["cond"]}
    walk = texts.program(generator.sd.unet.apply, generator.mesh, "dpm-encoder")
    asked["text"] = (walk, told, batch)
    found = {name: _cost(b, *args) for name, args in asked.items()}
    if learnt is not None:  # the count takes every step for one that edits
        plain, each = found["noise"].flops, found["asyrp"].flops
        edited = float(np.mean(np.asarray(phases.edit)))
        found["asyrp"] = found["asyrp"]._replace(flops=plain + edited * (each - plain))
    return found


def _cost(b: int, walk: Any, *args: Any) -> Cost:
    scratch = walk.lower(*args).compile().memory_analysis().temp_size_in_bytes
    return Cost(scratch, counted(walk, *args) / b)
