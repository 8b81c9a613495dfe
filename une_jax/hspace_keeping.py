"""Directions of h with others left alone, when all that is known is a file of them."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.hspace_directions import project

_project = jax.jit(project)


def held(
    directions: Directions, names: Sequence[str], keep: Sequence[str] = ()
) -> Directions:
    """These directions with the part along those of ``keep`` projected out.

    arXiv 2303.11073's linear projection, as of :func:`une_jax.hspace_directions.project`.
    A strength is that of the whole direction, of which the projected part is left: what
    it would be in samples (``une-jax hspace fit --keep``) is not in a file. ``method``
    then also says ``keep`` and, by name, ``left``: the cosine of the move with itself
    before.

    Raises:
        UneError: an unknown name, one that is to be changed and kept, or nothing left of
            one beside the kept ones.

    >>> from une_jax.hspace_files import pack
    >>> from une_jax.zoo import View
    >>> noise = View(
    ...     name="sd", kind="generator", model_id="some/sd", weights_sha256="0" * 64,
    ...     config={}, shape=(4, 8, 8), dtype="float32", settings={},
    ... )
    >>> moves = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32).reshape(2, 1, 1, 1, 2)
    >>> about = {"spread": np.full(2, 10, np.float32), "method": {"name": "h means"}}
    >>> both = pack(["Hat", "Male"], moves, noise, [500], **about)
    >>> found = held(both, ["Hat"], ["Male"])
    >>> found.moves.tolist(), found.spread.round(4).tolist(), found.length.round(4).tolist()
    ([[1.0, 0.0]], [6.0], [3.0])
    """
    for name in names:
        if name in keep:
            raise UneError(f"{name} is to be changed and kept; do one of the two")
    at, others = ([directions.index(n) for n in some] for some in (names, keep))
    moves, method = directions.moves[at], directions.method
    size = np.ones(len(at), np.float32)
    if others:
        against = jnp.asarray(directions.moves[others])
        rest = np.stack([np.asarray(_project(move, against)) for move in moves])
        size = np.linalg.norm(rest, axis=1).astype(np.float32)
        for name, left in zip(names, size, strict=True):
            if not left:
                raise UneError(
                    f"{name} has no direction of its own in {directions.view.name} "
                    f"beside {', '.join(keep)}; keep fewer"
                )
        moves = rest / size[:, None]
        left = dict(zip(names, map(float, size), strict=True))
        method = method | {"keep": list(keep), "left": left}
    return dataclasses.replace(
        directions,
        names=tuple(names),
        moves=moves,
        spread=directions.spread[at] * size,
        length=directions.length[at] * size,
        readers=directions.readers[at],
        bias=directions.bias[at],
        method=method,
    )
