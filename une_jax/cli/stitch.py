"""``une-jax stitch``: every view mapped into every other, decoded there, and measured."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from une_jax import zoo as zoos
from une_jax.cli.course import Course
from une_jax.cli.decoders import decodable, decoder_of, family_word, require_found
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.zoo import View, Zoo
from une_jax.zoo.atomic import make_folder, write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.report.roads.pictures import Decoder, Eyes
    from une_jax.report.roads.places import Originals, Place
    from une_jax.report.roads.study import Study

KINDS = ("latent", "generator", "encoder")  # the sources, and of them the targets
# What each phase takes of the time, roughly: how far the bar moves.
SECONDS = {"maps": 30, "journeys": 15, "pictures": 120}
EDITED = ("Smiling", "Male", "Eyeglasses", "Blond_Hair")  # where the zoo has them


@dataclass(frozen=True, kw_only=True)
class Stitch:
    """Map every model's latents into every other's by a linear map, decode, measure.

    Three sets of images with none in common fit the maps, fit the probes and test both.
    In --out: a page, each table as CSV, each chart as PNG and SVG, stitch.json.
    """

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """folder for index.html and its figures and tables"""
    synthetic: Annotated[Path | None, OWN_DEFAULT] = None
    """a NoiseZoo of images that a GAN painted (une-jax synthesize), with its view and
    the others': pairs with the GAN are measured on these"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """what the zoo was built from: decoded images are measured against these (default:
    against what the target's own encoder gives)"""
    synthetic_images: Annotated[Path | None, OWN_DEFAULT] = None
    """what the synthetic zoo was built from"""
    truth: Annotated[Path | None, OWN_DEFAULT] = None
    """truth.safetensors of miniature faces: which true factors survive"""
    source: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """views to map from (default: all latents, noises and embeddings)"""
    target: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """views to map to and decode (default: those of the sources that can be decoded; a
    pipeline's clean latents, NAME.x0, can)"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=PATH_OR_ID where a view's model is not found by its name"""
    kind: Literal["ridge", "ols", "procrustes", "reduced_rank"] = "ridge"
    """of map"""
    rank: Annotated[int | None, OWN_DEFAULT] = None
    """of reduced-rank maps"""
    paper: bool = False
    """the paper's own penalties for maps, and its lasso probes on balanced rows (default:
    penalties of the least leave-one-out error, logistic probes)"""
    maps: Annotated[int | None, OWN_DEFAULT] = None
    """how many train rows fit the maps (default: two thirds)"""
    probes: Annotated[int | None, OWN_DEFAULT] = None
    """how many others fit the probes (default: the other third)"""
    tests: Annotated[int | None, OWN_DEFAULT] = None
    """how many test rows (default: all)"""
    pictures: int = 100
    """how many of the test rows are decoded, on every road; 0 for none"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes whose edits are carried from model to model (default: of Smiling, Male,
    Eyeglasses and Blond_Hair those there are)"""
    judge: Annotated[str | None, OWN_DEFAULT] = None
    """who reads factors off decoded images: VIEW or VIEW=PATH_OR_ID of an encoder view,
    or regressor, which knows miniature faces (default: that for those, else the first
    encoder view)"""
    features: Annotated[str | None, OWN_DEFAULT] = None
    """VIEW or VIEW=PATH_OR_ID of the encoder view whose features FID and KID compare
    (default: the first)"""
    inception: Annotated[Path | None, OWN_DEFAULT] = None
    """folder that scripts/convert_inception.py wrote: FID and KID of its features too"""
    lpips: Annotated[Path | None, OWN_DEFAULT] = None
    """folder that scripts/convert_lpips.py wrote: measures LPIPS as well"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        start = time.monotonic()
        opened = zoos.open(self.zoo)
        self._check()

        from une_jax.report.roads import study as studies

        places = self._places(opened)
        views: dict[str, View] = {}
        for place in places:
            for view in place.zoo.manifest.views:
                _require_same(views.setdefault(view.name, view), view)
        sources, targets = self._chosen(views, places)
        families = {name: family_word(view) for name, view in views.items()}
        models, attributes = self._models(views), self._attributes(opened)
        homes = {name: next(p.zoo for p in places if name in p.zoo.views) for name in views}  # fmt: skip

        def load(target: str) -> "Decoder":
            rows = max(self.pictures, 1)
            return decoder_of(homes[target], views[target], models, rows=rows)

        if self.pictures:
            for target in targets:
                require_found(homes[target], views[target], models)
        eyes = self._eyes(opened, [views[target] for target in targets])
        wanted = studies.Wanted(
            sources=sources,
            targets=targets,
            how=studies.How(
                kind=self.kind,
                paper=self.paper,
                rank=self.rank,
                families=families,
                models={name: view.weights_sha256 for name, view in views.items()},
            ),
            pictures=self.pictures,
            attributes=attributes,
        )
        phases = SECONDS if self.pictures else {k: v for k, v in SECONDS.items() if k != "pictures"}  # fmt: skip
        with Course(phases, what="stitch") as course:
            study = studies.run(places, wanted, load, eyes, _teller(course))
        return self._written(study, opened, time.monotonic() - start)

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report import tables
        from une_jax.report.sections.roads import BRIEF

        pairs = result["pairs"]
        shown = [k for k in BRIEF if any(row.get(k) is not None for row in pairs)]
        table = [{BRIEF[k]: row.get(k) for k in shown} for row in pairs]
        return "\n".join(
            [
                tables.text(table),
                "",
                "R² is of latents, RMSE and SSIM of decoded images; match and κ compare "
                "the target's probes on\nmapped and own latents, `accuracy` is their "
                "change in %; factors: attributes read off the image.",
                *(f"{c['']}: {c['the paper']} ({c['here']})" for c in result["claims"]),
                f"page: {result['page']}",
            ]
        )

    def _check(self) -> None:
        for name in ("rank", "maps", "probes", "tests"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UneError(f"--{name} {value}: use 1 or more")
        if self.pictures < 0 or self.pictures == 1:
            raise UneError(f"--pictures {self.pictures}: use 0 for none, or 2 or more")
        if self.kind == "reduced_rank" and self.rank is None:
            raise UneError("--kind reduced_rank: say which with --rank")
        if self.rank is not None and self.kind != "reduced_rank":
            raise UneError("--rank is of --kind reduced_rank")
        if self.paper and self.kind != "ridge":
            raise UneError("--paper has penalties for --kind ridge alone")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        for name in ("images", "synthetic_images"):
            folder = getattr(self, name)
            if folder is not None and not folder.exists():
                raise UneError(f"--{name.replace('_', '-')} {folder}: there is nothing")
        if self.synthetic_images and not self.synthetic:
            raise UneError("--synthetic-images needs --synthetic ZOO")

    def _places(self, opened: Zoo) -> "tuple[Place, ...]":
        from une_jax.report import known
        from une_jax.report.roads.places import Place
        from une_jax.report.roads.rows import choose

        how_many = {"maps": self.maps, "probes": self.probes, "tests": self.tests}
        scores = None
        if self.truth is not None:
            columns = known.columns(opened.attribute_names)
            scores = np.asarray(known.of_zoo(self.truth, opened).scores)[:, columns]
        places = [
            Place(
                name="images",
                zoo=opened,
                rows=choose(opened, **how_many),
                scores=scores,
                originals=_originals(opened, self.images),
            )
        ]
        if self.synthetic is not None:
            other = zoos.open(self.synthetic)
            places.append(
                Place(
                    name="synthetic",
                    zoo=other,
                    rows=choose(other, **how_many),
                    originals=_originals(other, self.synthetic_images),
                )
            )
        return tuple(places)

    def _chosen(
        self, views: dict[str, View], places: "tuple[Place, ...]"
    ) -> tuple[list[str], list[str]]:
        """The sources and the targets, by name.

        Raises:
            UneError: one is not there, or cannot be decoded; or there are none.
        """
        homes = {name: next(p.zoo for p in places if name in p.zoo.views) for name in views}  # fmt: skip
        for option, names in (("source", self.source), ("target", self.target)):
            for name in names:
                if name not in views:
                    raise UneError(
                        f"--{option} {name}: there are the views {', '.join(views)}"
                    )
        sources = list(self.source) or [n for n, v in views.items() if v.kind in KINDS]
        able = [n for n, v in views.items() if decodable(v, homes[n])]
        for name in self.target:
            if name not in able:
                raise UneError(
                    f"--target {name}: it cannot be decoded to images; those that can: "
                    f"{', '.join(able) or 'none'}"
                )
        targets = list(self.target) or [n for n in sources if n in able]
        if not targets:
            raise UneError(
                f"none of {', '.join(sources) or 'these views'} can be decoded: build the "
                "zoo with --generator of a VAE, VQVAE, flow, diffusion model or GAN"
            )
        return sources, targets

    def _models(self, views: dict[str, View]) -> dict[str, str]:
        found = {}
        for spec in self.generator:
            name, equals, source = spec.partition("=")
            if not equals or name not in views:
                raise UneError(
                    f"--generator {spec}: write VIEW=PATH_OR_ID with one of "
                    f"{', '.join(views)}"
                )
            found[name] = source
        return found

    def _attributes(self, opened: Zoo) -> tuple[str, ...]:
        from une_jax.attributes import resolve

        there = opened.attribute_names
        if self.attribute:
            return tuple(there[resolve(there, name)] for name in self.attribute)
        return tuple(name for name in EDITED if name in there)

    def _eyes(self, opened: Zoo, targets: Sequence[View]) -> "Eyes":
        from une_jax.cli.eyes import eyes_of
        from une_jax.report.roads.pictures import Eyes

        if not self.pictures:
            return Eyes()
        return eyes_of(
            opened,
            lpips=self.lpips,
            inception=self.inception,
            features=self.features,
            judge=self.judge,
            sizes=[int(view.config["size"]) for view in targets],
            faces=self.truth is not None,
        )

    def _written(self, study: "Study", opened: Zoo, seconds: float) -> dict[str, Any]:
        from une_jax.cli.main import to_json
        from une_jax.report import page
        from une_jax.report.roads import claims
        from une_jax.report.sections import roads, summary

        chapter = roads.write(study)
        lead = f"{opened.rows.num_rows} images; {_command()}"
        sections = [c.section for c in (summary.write([chapter]), chapter)]
        make_folder(self.out)
        for name, data in chapter.files.items():
            write_bytes_atomically(self.out / name, data)
        html = page.page("All roads", lead, sections)
        write_bytes_atomically(self.out / "index.html", html.encode())
        result = {
            "page": str(self.out / "index.html"),
            "seconds": round(seconds, 1),
            "pairs": study.pairs,
            "attributes": study.attributes,
            "factors": study.factors,
            "journeys": study.journeys,
            "edits": [row for found in study.carried.values() for row in found.rows],
            "claims": claims.table(study.claims),
        }
        write_bytes_atomically(self.out / "stitch.json", to_json(result).encode())
        return result


def _require_same(first: View, view: View) -> None:
    """Of two zoos, views of one name are of one model under the same settings."""
    same = (
        first.weights_sha256 == view.weights_sha256
        and first.shape == view.shape
        and _but_seed(first.settings) == _but_seed(view.settings)
    )
    if not same:
        raise UneError(
            f"view {view.name!r} of the synthetic zoo is of another model, or was made "
            "under other settings, than that of the first: build both alike"
        )


def _but_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k != "seed"}


def _originals(opened: Zoo, folder: Path | None) -> "Originals | None":
    if folder is None:
        return None
    from une_jax import sources
    from une_jax.report.originals import squares

    return squares(opened, sources.open(folder))  # a wrong folder is refused now


def _teller(course: Course) -> "Callable[[str, float], None]":
    begun = []

    def tell(phase: str, part: float) -> None:
        if phase not in begun:
            begun.append(phase)
            course.begin(phase)
        course.tell(part)

    return tell


def _command() -> str:
    program = Path(sys.argv[0]).name
    known = program in ("une-jax", "__main__.py")
    return shlex.join(["une-jax", *sys.argv[1:]]) if known else "une-jax stitch"
