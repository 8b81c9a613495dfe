"""``une-jax edit``: one image, more or less of an attribute, others held."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from une_jax import directions as files
from une_jax import images, zoo
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import tables


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Invert an image, walk its noise along attributes' directions, decode each step."""

    image: Path
    """the image file to edit"""
    out: Path
    """folder for the edited images and grid.png"""
    zoo: Annotated[Path | None, OWN_DEFAULT] = None
    """the NoiseZoo whose rows teach the directions"""
    directions: Annotated[Path | None, OWN_DEFAULT] = None
    """a file of directions (from `une-jax directions`), instead of --zoo"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """which attribute, e.g. Smiling; several go together, and Young=-0.5 goes half as
    far the other way (default: the only one of --directions)"""
    keep: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to leave alone"""
    how: Literal["euclidean", "conditional", "erasure"] = "euclidean"
    """how: their directions projected out; the likeliest move that changes none of
    their scores; the likeliest with every linear trace of their labels erased (LEACE)"""
    method: Literal["probe", "means", "ridge"] = "probe"
    """how directions are found: linear probes, differences of class means, or ridge"""
    strength: tuple[float, ...] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    """how far, in --unit"""
    unit: Literal["sd", "margin", "raw"] = "sd"
    """standard deviations of the zoo's latents along the direction; the reader's score
    to end at (0: the boundary; several attributes are solved for together); or times the
    raw weights, the authors' alpha"""
    norm: Literal["off", "sphere", "channel"] = "off"
    """what of the noise an edit restores: nothing; its norm; each channel's mean and
    deviation"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the generator (default: found by its name)"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which generator view of the zoo (default: its only one, or --generator's)"""
    prompt: str = ""
    """the image's prompt, where the zoo's images have each their own"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if (self.zoo is None) == (self.directions is None):
            raise UneError("give --zoo to learn directions from, or --directions FILE")
        if not self.strength or not np.isfinite(self.strength).all():
            raise UneError("--strength: give one number or more, none infinite or NaN")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        picture = images.decode(self.image)
        weights, found, auc = self._learned()

        from une_jax.cli.generator import generator_of_view

        rows = len(self.strength)
        generator = generator_of_view(found.view, self.generator, rows=rows)
        prompts = pictures.prompts_for(generator, self.prompt, 1)
        pixels = generator.prepare(picture)[None]
        origin = generator.compute(pixels, np.zeros(1, int), prompts).arrays
        noise = np.asarray(origin[generator.name], np.float32).reshape(1, -1)
        amounts = found.amounts(weights, self.strength, self.unit, noise)
        edited = generator.edit(
            origin, found.moves, amounts, control=self.norm, prompts=prompts
        )[0]
        labels = [f"{s:+g}" if s else "0" for s in self.strength]
        stem = "_".join([self.image.stem, *weights])
        written = pictures.write_strip(self.out, stem, labels, edited, pixels)
        cost = {
            kind: {name: found.method[kind][name] for name in weights}
            for kind in ("left", "leak")
            if kind in found.method
        }
        return {
            "attributes": weights,
            "keep": list(found.method.get("keep", ())),
            "how": found.method.get("how"),
            "unit": self.unit,
            "norm": self.norm,
            "strength": list(self.strength),
            "test_auc": auc,
            **cost,
            "readings": self._readings(found, noise, amounts[0]),
            **written,
        }

    def _learned(self) -> tuple[dict[str, float], Directions, dict[str, float]]:
        """The attributes' weights, their directions, and AUCs where they are known."""
        weights = dict(weighted(a) for a in self.attribute)
        for name in self.keep:
            if name in weights:
                raise UneError(f"--keep {name} would undo the edit itself")
        if self.zoo is None:
            assert self.directions is not None
            if self.keep:
                raise UneError("--keep: a file's directions are held when it is made")
            if self.view:
                raise UneError("--view: a file's directions are of one view")
            found = files.load(self.directions)
            if found.view.settings.get("space") == "h":
                raise UneError(
                    f"{self.directions} holds directions of h-space: use "
                    "`une-jax hspace edit`"
                )
            if not weights and len(found.names) == 1:
                weights = {found.names[0]: 1.0}
            for name in weights:
                found.index(name)
            if not weights:
                listed = ", ".join(found.names)
                raise UneError(f"{self.directions} has {listed}: choose --attribute")
            return weights, found, {}
        if not weights:
            raise UneError("which --attribute? e.g. --attribute Smiling")
        opened = zoo.open(self.zoo)
        view = pictures.generator_view(opened, self.view, self.generator)
        from une_jax.attributes import resolve
        from une_jax.report import teaching

        for name in (*weights, *self.keep):
            resolve(opened.attribute_names, name)
        taught = teaching.teach(opened, view.name, method=self.method)
        found = taught.held(tuple(weights), self.keep, self.how)
        return weights, found, {name: taught.auc[name] for name in weights}

    def _readings(
        self, found: Directions, noise: np.ndarray, amounts: np.ndarray
    ) -> list[tables.Row]:
        """What the readers say of each moved noise, before --norm."""
        said = found.scores(noise + amounts @ found.moves)
        return [
            {"strength": s, **dict(zip(found.names, map(float, row), strict=True))}
            for s, row in zip(self.strength, said, strict=True)
        ]

    def text(self, result: dict[str, Any]) -> str:
        names = " and ".join(
            name if weight == 1 else f"{weight:g} x {name}"
            for name, weight in result["attributes"].items()
        )
        kept = f", keeping {', '.join(result['keep'])}" if result["keep"] else ""
        aucs = ", ".join(f"{auc:.2f}" for auc in result["test_auc"].values())
        known = f" (test AUC of its reader: {aucs})" if aucs else ""
        lines = [f"{names}{kept}: {len(result['images'])} images and {result['grid']}{known}"]  # fmt: skip
        for name, left in result.get("left", {}).items():
            lines.append(
                f"{left:.0%} of each step along {name} is left beside the kept"
            )
        return "\n".join([*lines, "", tables.text(result["readings"], digits=2)])


def weighted(asked: str) -> tuple[str, float]:
    """``Young=-0.5`` -> name and weight."""
    name, equals, weight = asked.partition("=")
    try:
        value = float(weight) if equals else 1.0
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UneError(f"--attribute {asked}: write NAME or NAME=WEIGHT, a number")
    return name, value
