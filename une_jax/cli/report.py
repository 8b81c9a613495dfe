"""``une-jax report``: what a NoiseZoo says, on one page."""

import collections
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from ports.checkpoint import CheckpointError
from une_jax import zoo as zoos
from une_jax.attributes import resolve
from une_jax.cli.course import Course
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.zoo import View, Zoo
from une_jax.zoo.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.cli.sections.decoding import Decoding
    from une_jax.directions import Directions
    from une_jax.report.chapter import Chapter
    from une_jax.report.subject import Subject

Section = Literal["gaussianity", "probes", "leakage", "maps", "shared", "similarity", "roads", "round-trip", "samples", "edits", "effects"]  # fmt: skip
SECTIONS: tuple[Section, ...] = get_args(Section)
# What each takes in seconds on 800 faces and two cores: how far the bar moves.
SECONDS = {"gaussianity": 20, "probes": 8, "leakage": 20, "maps": 15, "shared": 20, "similarity": 25, "roads": 90, "round-trip": 25, "samples": 15, "edits": 20, "effects": 30}  # fmt: skip
ON_REQUEST: tuple[Section, ...] = ("similarity",)
PICTURES: tuple[Section, ...] = ("round-trip", "samples", "edits", "effects")
READING: tuple[Section, ...] = (
    "probes",
    "leakage",
    "shared",
    "edits",
    "effects",
)  # attributes
Tell = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One self-contained HTML page: findings first, then every analysis and pictures.

    Beside it, in --out: each chart as PNG and SVG, each table as CSV.
    """

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """folder for index.html and its figures and tables"""
    only: Annotated[tuple[Section, ...], OWN_DEFAULT] = ()
    """only these sections (default: all but similarity, which takes a while)"""
    without: Annotated[tuple[Section, ...], OWN_DEFAULT] = ()
    """all but these"""
    rows: int = 4000
    """at most so many images, drawn at random"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """the folder the zoo was built from, to show originals and measure PSNR"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=PATH_OR_ID where a view's model is not found by its name (VIEW= may be left
    out where there is one generator)"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """generator views to decode (default: all); edits are made in the first"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to edit (default: the four best-read ones)"""
    hspace: Annotated[Path | None, OWN_DEFAULT] = None
    """a file of `une-jax hspace fit`: edits are made in the UNet's bottleneck as well"""
    prompt: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """prompts to sample from, beside the empty one"""
    truth: Annotated[Path | None, OWN_DEFAULT] = None
    """truth.safetensors of miniature faces, to score everything against"""
    judge: Annotated[str | None, OWN_DEFAULT] = None
    """who says what edits did: VIEW or VIEW=PATH_OR_ID of an encoder view, or regressor,
    which knows miniature faces (default: that for those, else the first encoder view)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        start = time.monotonic()
        whole = zoos.open(self.zoo)
        self._check(whole)
        views = generator_views(whole, self.view)
        latent = [v for v in whole.manifest.views if v.kind == "latent"]
        sources = sources_of(self.generator, views + latent)

        from une_jax.cli.hspace_given import given
        from une_jax.report.chapter import Chapter
        from une_jax.report.sample import sample
        from une_jax.report.subject import Subject

        # Edits are made in the first view.
        given_ones = given([] if self.hspace is None else [self.hspace], views[:1])
        inside = next((found for _, found in given_ones.values()), None)
        subject = Subject(zoo=sample(whole, self.rows), truth=self.truth)
        _ = subject.scores  # a wrong file is refused now
        wanted, left_out = self._wanted(subject, bool(views))
        decoding = None
        pictures: list[Section] = [key for key in wanted if key in PICTURES]
        if pictures:
            try:
                decoding = _decoding(subject.zoo, views, sources, inside)
            except (UneError, CheckpointError) as e:
                # They were asked for.
                if self.generator or self.view or self.only or inside:
                    raise
                left_out |= dict.fromkeys(pictures, str(e))
                for key in pictures:
                    wanted.remove(key)
        chapters: list[Chapter] = []
        with Course({key: SECONDS[key] for key in wanted}) as course:
            for key in wanted:
                course.begin(key)
                write = self._writer(key, subject, decoding, sources)
                try:
                    chapters.append(write(course.tell))
                except UneError as e:
                    if key in PICTURES and (key != "effects" or self.judge):
                        raise
                    left_out[key] = str(e)
        html, chapters = self._page(subject, whole, chapters, left_out)
        self.out.mkdir(parents=True, exist_ok=True)
        for chapter in chapters:
            for name, data in chapter.files.items():
                write_bytes_atomically(self.out / name, data)
        page = self.out / "index.html"
        write_bytes_atomically(page, html.encode())
        numbers = {k: v for c in chapters for k, v in c.numbers.items()}
        return {
            "report": str(page),
            "bytes": page.stat().st_size,
            "seconds": round(time.monotonic() - start, 1),
            "left_out": left_out,
            **numbers,
        }

    def text(self, result: dict[str, Any]) -> str:
        return "\n".join(
            [
                *(
                    f"left out: {key} ({why})"
                    for key, why in result["left_out"].items()
                ),
                f"report: {result['report']}",
            ]
        )

    def _check(self, opened: Zoo) -> None:
        for name in self.attribute:
            resolve(opened.attribute_names, name)
        if not opened.rows.num_rows:
            raise UneError(f"{opened.path} has no rows to report on")
        if self.rows < 16:
            raise UneError(f"--rows is {self.rows}; use 16 or more")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        if self.images is not None and not self.images.is_dir():
            raise UneError(f"{self.images} is no folder of images")

    def _wanted(
        self, subject: "Subject", decodes: bool
    ) -> tuple[list[Section], dict[str, str]]:
        """The sections that are asked for and possible; why others are not."""
        asked = self.only or [s for s in SECTIONS if s not in ON_REQUEST]
        if not self.only and not subject.names("latent"):
            asked = [s for s in asked if s != "roads"]  # what it is about is not there
        named: list[Section] = [
            s for s in SECTIONS if s in asked and s not in self.without
        ]
        left_out: dict[str, str] = {}
        for key in named:
            if key in PICTURES and not decodes:
                left_out[key] = "the zoo has no generator view to decode"
            elif key in READING and not subject.zoo.attribute_names:
                left_out[key] = "the zoo has no attributes"
            elif key in ("maps", "shared", "similarity") and len(subject.names("generator", "encoder")) < 2:  # fmt: skip
                left_out[key] = "the zoo has one view only"
            elif key == "roads" and not subject.names("latent"):
                left_out[key] = (
                    "the zoo has no VAE, VQVAE, flow, pixel diffusion or GAN"
                )
            elif key == "leakage" and not subject.names("control"):
                left_out[key] = "the zoo was built without --controls"
        return [key for key in named if key not in left_out], left_out

    def _writer(
        self,
        key: Section,
        subject: "Subject",
        decoding: "Decoding | None",
        sources: dict[str, str],
    ) -> "Callable[[Tell], Chapter]":
        from une_jax.report.sections import alike, gaussianity, leakage, maps, probes
        from une_jax.report.sections import shared_space as shared

        analyses = {
            "gaussianity": gaussianity,
            "probes": probes,
            "leakage": leakage,
            "maps": maps,
            "shared": shared,
            "similarity": alike,
        }
        if key in analyses:
            return partial(analyses[key].write, subject)

        from une_jax.cli.sections import edits, roads, round_trip, samples

        if key == "roads":
            return partial(roads.write, subject, self.images, sources, self.judge)
        assert decoding is not None
        if key == "round-trip":
            return partial(round_trip.write, decoding, self.images)
        if key == "samples":
            return partial(samples.write, decoding, self.prompt)
        if key == "edits":
            return partial(edits.write, decoding, self.attribute)

        from une_jax.cli.judging import judge_of
        from une_jax.cli.sections import effects
        from une_jax.report.chapter import Chapter

        def judged(tell: Tell) -> Chapter:
            judge = judge_of(decoding.zoo, self.judge, decoding.generators[0].size)
            return effects.write(decoding, judge, tell)

        return judged

    def _page(
        self,
        subject: "Subject",
        whole: Zoo,
        chapters: "list[Chapter]",
        left_out: dict[str, str],
    ) -> "tuple[str, list[Chapter]]":
        from une_jax.report import page
        from une_jax.report.sections import provenance, summary

        first = summary.write(chapters)
        for key, why in left_out.items():
            first.note(f"Left out: {key}, since {why}.")
        last = provenance.write(
            subject, command=_command(), total_rows=whole.rows.num_rows
        )
        chapters = [first, *chapters, last]
        lead = f"{subject.zoo.rows.num_rows} images, seen in {_listed(whole)}."
        sections = [chapter.section for chapter in chapters]
        return page.page("What this noise knows", lead, sections), chapters


def generator_views(opened: Zoo, wanted: tuple[str, ...]) -> list[View]:
    """The generator views that are asked for, in that order, or all there are."""
    views = {v.name: v for v in opened.manifest.views if v.kind == "generator"}
    for name in wanted:
        if name not in views:
            raise UneError(
                f"--view {name}: {opened.path} has the generator views "
                f"{', '.join(views) or '(none)'}"
            )
    return [views[name] for name in wanted or views]


def _decoding(
    opened: Zoo,
    views: list[View],
    sources: dict[str, str],
    inside: "Directions | None",
) -> "Decoding":
    from une_jax.cli.generator import generator_of_view
    from une_jax.cli.sections.decoding import SHOWN, Decoding

    # Batches of a strip: longer ones would mostly be padding.
    loaded = (generator_of_view(v, sources.get(v.name), rows=SHOWN) for v in views)
    return Decoding(zoo=opened, generators=tuple(loaded), inside=inside)


def sources_of(specs: tuple[str, ...], views: list[View]) -> dict[str, str]:
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
                f"views that decode ({listed})"
            )
        sources[name] = source
    return sources


def _command() -> str:
    """What was typed, where it was this program."""
    program = Path(sys.argv[0]).name
    known = program in ("une-jax", "__main__.py")
    return shlex.join(["une-jax", *sys.argv[1:]]) if known else "une-jax report"


def _listed(opened: Zoo) -> str:
    kinds = collections.Counter(v.kind for v in opened.manifest.views)
    return ", ".join(
        f"{kinds[kind]} {kind} view{'s' if kinds[kind] > 1 else ''}"
        for kind in ("generator", "latent", "encoder", "control")
        if kinds[kind]
    )
