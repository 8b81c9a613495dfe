"""``une-jax report``: what a NoiseZoo says, on one page."""

import collections
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from une_jax import zoo
from une_jax.attributes import resolve
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures and one self-contained HTML page: round trips, samples, probes, edits."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """folder for index.html and its figures"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """the folder the zoo was built from, to show originals and measure PSNR"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=PATH_OR_ID where a view's model is not found by its name (VIEW= may be left
    out where there is one generator)"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """generator views to decode (default: all); edits are made in the first"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to edit (default: the four best-read ones)"""
    prompt: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """prompts to sample from, beside the empty one"""
    truth: Annotated[Path | None, OWN_DEFAULT] = None
    """truth.safetensors of miniature faces, to score the probes against"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        for name in self.attribute:
            resolve(opened.attribute_names, name)
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        if self.images is not None and not self.images.is_dir():
            raise UneError(f"{self.images} is no folder of images")
        views = generator_views(opened, self.view)
        sources = _sources(self.generator, views)
        truth = read_truth(self.truth, opened) if self.truth else None

        from une_jax.cli.generator import generator_of_view
        from une_jax.cli.sections import MEASURED, Sections
        from une_jax.report import page

        made = Sections(
            opened,
            [generator_of_view(v, sources.get(v.name), rows=MEASURED) for v in views],
        )
        sections = [
            made.round_trip(self.images),
            made.samples(self.prompt),
            made.probes(truth),
            made.maps(),
            made.edits(self.attribute),
        ]
        lead = f"{opened.rows.num_rows} images, seen in {_listed(opened)}."
        html = page.page("What this noise knows", lead, sections)
        self.out.mkdir(parents=True, exist_ok=True)
        for name, data in made.figures.items():
            (self.out / name).write_bytes(data)
        (self.out / "index.html").write_text(html, encoding="utf-8")
        return {"report": str(self.out / "index.html"), **made.numbers}

    def text(self, result: dict[str, Any]) -> str:
        return f"report: {result['report']}"


def generator_views(opened: zoo.Zoo, wanted: tuple[str, ...]) -> list[zoo.View]:
    """The generator views that are asked for, in that order, or all."""
    views = {v.name: v for v in opened.manifest.views if v.kind == "generator"}
    if not views:
        raise UneError(f"{opened.path} has no generator view to decode")
    for name in wanted:
        if name not in views:
            raise UneError(
                f"--view {name}: {opened.path} has the generator views "
                f"{', '.join(views)}"
            )
    return [views[name] for name in wanted or views]


def _sources(specs: tuple[str, ...], views: list[zoo.View]) -> dict[str, str]:
    """``--generator VIEW=PATH_OR_ID ...`` -> {view: path or id}."""
    sources = {}
    for spec in specs:
        name, equals, source = spec.partition("=")
        if not equals and len(views) == 1:
            name, source = views[0].name, spec
        if name not in [v.name for v in views]:
            listed = ", ".join(v.name for v in views)
            raise UneError(
                f"--generator {spec}: write VIEW=PATH_OR_ID with one of the zoo's "
                f"generator views ({listed})"
            )
        sources[name] = source
    return sources


def _listed(opened: zoo.Zoo) -> str:
    kinds = collections.Counter(v.kind for v in opened.manifest.views)
    return ", ".join(
        f"{kinds[kind]} {kind} view{'s' if kinds[kind] > 1 else ''}"
        for kind in ("generator", "encoder", "control")
        if kinds[kind]
    )


def read_truth(path: Path, opened: zoo.Zoo) -> np.ndarray:
    """The true scores of the zoo's ok rows and attributes, in its order."""
    from une_jax.report import known

    scores = known.of_zoo(path, opened).scores
    return np.asarray(scores)[:, known.columns(opened.attribute_names)]
