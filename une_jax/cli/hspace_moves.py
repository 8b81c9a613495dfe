"""What moves an h, off the files that hold it: directions, or Asyrp's functions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from une_jax import asyrp_files, directions, hspace_files
from une_jax.attributes import resolve
from une_jax.cli.diffusion import Diffusion
from une_jax.cli.programs import FUNCTIONS, TABLES, Rule
from une_jax.directions import Unit
from une_jax.errors import UneError
from une_jax.zoo import View


class Learnt(NamedTuple):
    """How a function learnt."""

    cosine: float  # of its two texts
    t_edit: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """m named ways to move h, as :func:`une_jax.cli.inside.edit` takes them.

    Attributes:
        names: what each changes.
        view: the generator's, as far as loading it takes: of directions, that of their h
            under the generator's name.
        rule, moves: how h moves, and by what.
        units: of each unit, how much of each move a strength of 1 is; the usual one first.
        usual: strengths, where none are asked for.
        learnt: of each function, how it did; nothing of directions.
        symmetric: who is to see the moved h, where nothing else is asked.
        fits: refuses a generator that they are not of.
    """

    names: tuple[str, ...]
    view: View
    rule: Rule
    moves: Any = field(repr=False)
    units: Mapping[Unit, Float32[np.ndarray, " m"]] = field(repr=False)
    usual: tuple[float, ...]
    learnt: tuple[Learnt, ...]
    symmetric: bool
    fits: Callable[[View, np.ndarray], None] = field(repr=False)

    @property
    def t_edit(self) -> int:
        """Down to where h is to be moved, 0 is all the way: where they learnt to. Of
        several functions where that of the texts did which differ least, as in Asyrp."""
        return max(self.learnt).t_edit if self.learnt else 0

    @property
    def unit(self) -> Unit:
        """The usual one."""
        return next(iter(self.units))

    def require(self, generator: Diffusion) -> None:
        """
        Raises:
            UneError: they belong to another model, or to other steps; it says which.
        """
        times = np.asarray(generator.walk_params["steps"].sampling.t)
        self.fits(generator.views[0], times)

    def of(self, wanted: Sequence[str]) -> "Moves":
        """Only these of them, in this order; all, where there is only one.

        Raises:
            UneError: an unknown name, or none is named of several.
        """
        if not wanted and len(self.names) > 1:
            raise UneError(
                f"there are {', '.join(self.names)}: choose with --attribute"
            )
        at = np.array([resolve(self.names, n) for n in wanted or self.names])
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in at),
            moves=jax.tree.map(lambda x: x[at], self.moves),
            learnt=tuple(self.learnt[i] for i in at) if self.learnt else (),
            units={unit: each[at] for unit, each in self.units.items()},
        )

    def amounts(
        self,
        weights: Sequence[float],
        strengths: Sequence[float],
        unit: Unit | None = None,
    ) -> Float32[np.ndarray, "s m"]:
        """How much of each move these strengths of ``weights`` are; in the usual unit
        where none is asked for.

        Raises:
            UneError: they are not counted in this unit.
        """
        unit = unit or self.unit
        if unit not in self.units:
            raise UneError(f"--unit {unit}: these count in {', '.join(self.units)}")
        return np.outer(strengths, weights).astype(np.float32) * self.units[unit]


def load(paths: Sequence[Path]) -> Moves:
    """A file of ``une-jax hspace fit``, or any of scripts/train_asyrp.py.

    Several functions are named after their files, and moved by together as Asyrp does.

    Raises:
        UneError: a file is missing, damaged or of another kind, or they do not go
            together.
    """
    if not paths:
        raise UneError("--directions: give a file")
    learnt = [asyrp_files.holds(path) for path in paths]
    if all(learnt):
        return _functions(paths)
    if len(paths) > 1:
        raise UneError(
            "--directions: give one file of directions, or any number of Asyrp's"
        )
    return _tables(paths[0])


def _tables(path: Path) -> Moves:
    found = directions.load(path)
    if found.view.settings.get("space") != "h":
        raise UneError(f"{path} holds directions of noise: use `une-jax edit`")
    name = found.view.name.removesuffix(".h")
    return Moves(
        names=found.names,
        view=dataclasses.replace(found.view, name=name),
        rule=TABLES,
        moves=hspace_files.unpack(found),
        units={"sd": found.spread / found.length, "raw": np.ones_like(found.length)},
        usual=(-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        learnt=(),
        symmetric=True,
        fits=lambda view, times: hspace_files.require(found, view, times),
    )


def _functions(paths: Sequence[Path]) -> Moves:
    names = tuple(path.stem for path in paths)
    if len(set(names)) < len(names):
        raise UneError("--directions: two files have one name, by which they are told apart")  # fmt: skip
    files = [asyrp_files.load(path) for path in paths]
    shapes = [jax.tree.map(jnp.shape, f.params) for f in files]
    if any(shape != shapes[0] for shape in shapes):
        raise UneError("--directions: these functions are of different kinds")

    def fits(view: View, times: np.ndarray) -> None:
        for file in files:
            asyrp_files.require(file, view, times)

    return Moves(
        names=names,
        view=asyrp_files.view_of(files[0]),
        rule=FUNCTIONS,
        moves=jax.tree.map(lambda *each: jnp.stack(each), *(f.params for f in files)),
        units={"raw": np.ones(len(files), np.float32)},
        usual=(-1.0, -0.5, 0.0, 0.5, 1.0, 1.5),
        learnt=tuple(
            Learnt(f.about.get("text cosine", 0.0), int(f.about.get("t_edit", 0)))
            for f in files
        ),
        symmetric=False,
        fits=fits,
    )
