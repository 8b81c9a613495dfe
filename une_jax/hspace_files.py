"""Directions of h in the same files as those of noise: see ``une_jax.directions``.

What a file's moves belong to is a view; h's is made of the view of the generator whose
UNet it is in: the same weights and settings, and ``"space": "h"`` with the timesteps.
Arrays are (steps, h, w, c) here, steps in the order of sampling, and (steps, c, h, w)
in files, as latents are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.zoo import View

# In place of a zoo's sha256, for samples that were drawn and are in none.
NO_ZOO = "0" * 64

Floats = np.ndarray | Array
Timesteps = Int[np.ndarray, " _"] | Sequence[int]


def view_of(
    view: View,
    shape: tuple[int, ...],
    timesteps: Timesteps,
    *,
    site: str = "mid",
) -> View:
    """The view of a generator's h.

    Args:
        view: the generator's, of noise.
        shape: of one image's h at one step, (h, w, c).
        timesteps: of each step at which it is taken, in the order of sampling.
        site: where in the UNet h is.

    Raises:
        UneError: no timestep, or a shape of other than three axes.

    >>> noise = View(
    ...     name="sd", kind="generator", model_id="some/sd", weights_sha256="0" * 64,
    ...     config={}, shape=(4, 8, 8), dtype="float32", settings={"eval_at": "source"},
    ... )
    >>> h = view_of(noise, (2, 2, 5), [901, 451, 1])
    >>> h.name, h.shape, h.settings["space"], h.settings["steps"]
    ('sd.h', (3, 5, 2, 2), 'h', 3)
    """
    times = [int(t) for t in timesteps]
    if not times or len(shape) != 3:
        raise UneError(f"h has shape {shape} at {len(times)} steps; give (h, w, c)")
    height, width, channels = shape
    own = {"space": "h", "site": site, "steps": len(times), "timesteps": times}
    return dataclasses.replace(
        view,
        name=f"{view.name}.h",
        kind="encoder",  # h is what the UNet's encoder half makes of an image
        shape=(len(times), channels, height, width),
        dtype="float32",
        settings=view.settings | own,
    )


def pack(
    names: Sequence[str],
    moves: Float[Floats, "m t h w c"],
    view: View,
    timesteps: Timesteps,
    *,
    spread: Float[Floats, " m"],
    method: dict[str, Any],
    zoo: str = NO_ZOO,
    readers: Float[Floats, "m t h w c"] | None = None,
    bias: Float[Floats, " m"] | None = None,
    site: str = "mid",
) -> Directions:
    """Directions of h as ``une_jax.directions.save`` writes them.

    A strength in ``"raw"`` is the paper's scale: times the moves as they are given
    here (``hspace_pca.Principal.moves``: sigma u). One in ``"sd"`` counts in ``spread``.

    Args:
        names: what each one changes.
        view: the generator's, of noise.
        timesteps: of each step, in the order of sampling.
        spread: of the samples along each, ``hspace_directions.spread``.
        method: how they were found, with all settings, as JSON has it.
        zoo: sha256 of the manifest of the zoo that taught them, if one did.
        readers, bias: how much of it an h has is ``sum(h * reader) + bias``; NaN where
            left out.
        site: where in the UNet h is.

    Raises:
        UneError: arrays, names and timesteps do not fit together, or a move is zero or
            not finite.

    >>> noise = View(
    ...     name="sd", kind="generator", model_id="some/sd", weights_sha256="0" * 64,
    ...     config={}, shape=(4, 8, 8), dtype="float32", settings={},
    ... )
    >>> move = np.full((1, 2, 1, 1, 2), 3.0, np.float32)
    >>> about = {"spread": np.ones(1, np.float32), "method": {"name": "h-pca"}}
    >>> found = pack(["Smiling"], move, noise, [500, 0], **about)
    >>> found.length.tolist(), found.moves.tolist()
    ([6.0], [[0.5, 0.5, 0.5, 0.5]])
    >>> unpack(found).tolist() == move.tolist()
    True
    """
    m, t, *shape = moves.shape
    if t != len(timesteps):
        raise UneError(
            f"moves have {t} steps, but there are {len(timesteps)} timesteps"
        )
    rows = _stored(moves)
    length = np.linalg.norm(rows, axis=1).astype(np.float32)
    for name, size in zip(names, length, strict=False):
        if not 0 < size < np.inf:
            raise UneError(f"{name} has a move of length {size}; leave it out")
    nan = np.full((m, 1), np.nan, np.float32)
    return Directions(
        names=tuple(names),
        moves=rows / length[:, None],
        spread=np.asarray(spread, np.float32),
        length=length,
        readers=np.repeat(nan, rows.shape[1], 1)
        if readers is None
        else _stored(readers),
        bias=nan[:, 0] if bias is None else np.asarray(bias, np.float32),
        view=view_of(view, tuple(shape), timesteps, site=site),
        zoo=zoo,
        method=method,
    )


def unpack(
    directions: Directions, names: Sequence[str] | None = None
) -> Float32[np.ndarray, "m t h w c"]:
    """The moves as they were given to :func:`pack`, ready to be added to h.

    Args:
        names: which ones; all, where left out.

    Raises:
        UneError: an unknown name, or directions of noise.
    """
    if directions.view.settings.get("space") != "h":
        raise UneError(f"these directions are of {directions.view.name}, not of an h")
    names = directions.names if names is None else names
    at = [directions.index(name) for name in names]
    moves = directions.moves[at] * directions.length[at, None]
    return np.moveaxis(moves.reshape(len(at), *directions.view.shape), 2, -1)


def require(
    directions: Directions,
    view: View,
    timesteps: Timesteps,
) -> None:
    """Refuses to edit with another model's directions, or those of other steps.

    Raises:
        UneError: it says what differs.

    An example is at ``Directions.require``, which this ends with.
    """
    own = directions.view.settings
    if own.get("space") != "h":
        raise UneError(f"these directions are of {directions.view.name}, not of an h")
    if own["steps"] != len(timesteps):
        raise UneError(
            f"these directions are of {own['steps']} steps and the sampler has "
            f"{len(timesteps)}: give it as many, or retime the directions"
        )
    _, c, height, width = directions.view.shape
    theirs = view_of(view, (height, width, c), timesteps, site=own["site"])
    directions.require(theirs)


def _stored(x: Floats) -> Float32[np.ndarray, "m d"]:
    """(m, t, h, w, c) as rows of (t, c, h, w)."""
    x = np.asarray(jax.device_get(x), np.float32)
    return np.moveaxis(x, -1, 2).reshape(len(x), -1)
