"""``une-jax directions``: edit directions as a file, and what they cost each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from une_jax import directions as files
from une_jax import zoo
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import tables

if TYPE_CHECKING:
    from une_jax.report.teaching import Teacher


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Learn edit directions from a NoiseZoo, say how entangled they are, save them."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Annotated[Path | None, OWN_DEFAULT] = None
    """the file to write, e.g. smile.safetensors; another model refuses it"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """in which generator view (default: the zoo's only one)"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """whose directions (default: all that have one)"""
    caption: Annotated[str | None, OWN_DEFAULT] = None
    """instead of attributes: what shall be there, e.g. "a man with a beard"; its CLIP
    embedding is carried into the noise by a linear map"""
    base: str = ""
    """with --caption: what there is, e.g. "a man" """
    encoder: Annotated[str | None, OWN_DEFAULT] = None
    """with --caption: VIEW or VIEW=PATH_OR_ID, the zoo's CLIP view (default: its only one)"""
    keep: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to leave alone"""
    how: Literal["euclidean", "conditional", "erasure"] = "euclidean"
    """as for `une-jax edit`"""
    method: Literal["probe", "means", "ridge"] = "probe"
    """as for `une-jax edit`"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        from une_jax.report import teaching

        opened = zoo.open(self.zoo)
        if self.caption is not None and self.attribute:
            raise UneError("--caption and --attribute: give one of the two")
        view = pictures.generator_view(opened, self.view, None).name
        teacher = teaching.teach(opened, view, method=self.method)
        if self.caption is None:
            wanted = self.attribute or tuple(n for n in teacher.names if n not in self.keep)  # fmt: skip
            plain = teacher.held(wanted)
            found = teacher.held(wanted, self.keep, self.how)
        else:
            from une_jax.cli import captioned

            source, model = captioned.source_of(opened, self.encoder)
            weights = opened[source].view.weights_sha256
            said = captioned.difference(model, weights, self.caption, self.base)
            plain = teaching.carried(opened, source, view, [self.caption], said[None])
            found = teacher.hold(plain, self.keep, self.how)
        rows = _table(plain, found, teacher)
        if self.out:
            files.save(self.out, found)
        return {
            "view": view,
            "file": None if self.out is None else str(self.out),
            "method": found.method,
            "table": rows,
            "cosines": _cosines(plain, teacher.directions),
        }

    def text(self, result: dict[str, Any]) -> str:
        where = result["file"] or "nothing written: say where with --out"
        return (
            f"{tables.text(result['table'])}\n\n"
            "nearest: cosine with the closest other direction; left: how much of each "
            "step still\ngoes the attribute's own way; leak: the most that goes a kept "
            f"one's way\n\n{where}"
        )


def _table(plain: Directions, found: Directions, teacher: "Teacher") -> list[tables.Row]:  # fmt: skip
    every = teacher.directions
    rows: list[tables.Row] = []
    for i, name in enumerate(found.names):
        cosines = every.moves @ plain.moves[i]
        others = [j for j, n in enumerate(every.names) if n != name]
        near = max(others, key=lambda j: abs(cosines[j]), default=None)
        row: tables.Row = {"direction": name}
        row["test AUC"] = teacher.auc.get(name)
        row["spread"] = float(found.spread[i])
        row["nearest"] = "" if near is None else every.names[near]
        row["cosine"] = None if near is None else float(cosines[near])
        reader = found.readers[i]
        row["left"] = float(found.moves[i] @ reader / np.linalg.norm(reader))
        leak = found.method.get("leak", {}).get(name)
        row["leak"] = max(map(abs, leak)) if leak else None
        rows.append(row)
    return rows


def _cosines(plain: Directions, every: Directions) -> dict[str, dict[str, float]]:
    cosines = plain.moves @ every.moves.T
    return {
        name: dict(zip(every.names, map(float, row), strict=True))
        for name, row in zip(plain.names, cosines, strict=True)
    }
