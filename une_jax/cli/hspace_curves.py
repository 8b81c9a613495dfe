"""``une-jax hspace curves``: from when to when to edit, measured on a zoo's images."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float, UInt8

from une_jax import edit_interval, zoo
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.report import tables
from une_jax.zoo import Zoo
from une_jax.zoo.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.cli.diffusion import Diffusion
    from une_jax.report import hspace_curves as report

PIXELS = "pixels"
BUDGET = 2**28  # bytes of latents at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """Measure, along sampling, what of the images is not yet there and what is still
    noise: the curves by which Asyrp chooses --t-edit and --t-boost."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """the figure to write, a .png or .svg"""
    csv: Annotated[Path | None, OWN_DEFAULT] = None
    """also write the table there"""
    images: int = 100
    """how many train images to average over"""
    distance: Annotated[str | None, OWN_DEFAULT] = None
    """pixels (root mean square, black to white is 1); or VIEW or VIEW=PATH_OR_ID of an
    encoder view (1 - cosine of its embeddings) (default: the zoo's first, else pixels)"""
    lpips: Annotated[Path | None, OWN_DEFAULT] = None
    """folder that scripts/convert_lpips.py wrote: the distance is LPIPS, the paper's"""
    strength_threshold: Annotated[float | None, OWN_DEFAULT] = None
    """distance of image and predicted image at t_edit, for texts of cosine 1 (default:
    0.33 of LPIPS; else 0.288 of the distance at the first step, as 0.33 is of LPIPS)"""
    deficiency_threshold: Annotated[float | None, OWN_DEFAULT] = None
    """distance of image and noisy sample at t_boost (default: 1.2 of LPIPS; else 0.864 of
    the distance at the first step, as 1.2 is of LPIPS)"""
    source: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """a text of what images show, in one way or several: the more --target's differs, the
    longer is edited"""
    target: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """a text of what edited images shall show"""
    judge: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the CLIP that reads the two texts"""
    cosine: Annotated[float | None, OWN_DEFAULT] = None
    """that of the two texts, in place of them (default: 1)"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which view of the zoo, a latent generator's or a pixel diffusion model's (default:
    its only one, or --generator's)"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        self._check()
        opened = zoo.open(self.zoo)
        view = pictures.diffusion_view(opened, self.view, self.generator)
        rows = opened.split("train")[: self.images]
        if not len(rows):
            raise UneError(f"{opened.path} has no train images to measure")

        from une_jax.cli import inside
        from une_jax.cli.diffusion import diffusion_of_view
        from une_jax.report import hspace_curves as report

        cosine = self._cosine()
        generator = diffusion_of_view(view, self.generator)
        inside.require_plain(generator)
        measure = self._measure(opened, generator.size)
        curves, strip = measured(generator, opened, rows, measure)
        own = self.lpips is not None  # the paper's thresholds are of this distance
        edit = report.choose_edit(
            curves,
            cosine=cosine,
            threshold=_given(self.strength_threshold, own, edit_interval.STRENGTH),
        )
        boost = report.choose_boost(
            curves,
            threshold=_given(self.deficiency_threshold, own, edit_interval.DEFICIENCY),
        )
        table = report.rows(curves)
        drawing = report.draw(curves, edit, boost, strip)
        if self.csv:
            tables.write_csv(self.csv, table)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        vector = self.out.suffix.lower() == ".svg"
        write_bytes_atomically(self.out, drawing.svg if vector else drawing.png)
        return {
            "view": view.name,
            "distance": measure.name,
            "images": len(rows),
            "steps": len(curves.t),
            "cosine": cosine,
            "t_edit": edit._asdict(),
            "t_boost": boost._asdict(),
            "figure": str(self.out),
            "table": table,
        }

    def _check(self) -> None:
        if self.images < 1:
            raise UneError(f"--images is {self.images}; use 1 or more")
        if self.out.suffix.lower() not in (".png", ".svg"):
            raise UneError(f"--out {self.out}: end its name in .png or .svg")
        if self.lpips is not None and self.distance is not None:
            raise UneError("--lpips is a distance itself: leave out --distance")
        for name in ("strength_threshold", "deficiency_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                option = f"--{name.replace('_', '-')}"
                raise UneError(f"{option} is {value}; use a number above 0")
        if len(self.source) != len(self.target):
            raise UneError("give as many --target as --source")
        if self.source and self.cosine is not None:
            raise UneError("--cosine is that of --source and --target: give one or the other")  # fmt: skip
        if self.source and self.judge is None:
            raise UneError("--source and --target: say which CLIP reads them with --judge")  # fmt: skip
        if self.judge is not None and not self.source:
            raise UneError("--judge reads --source and --target: give both")
        if self.cosine is not None and not 0 < self.cosine <= 1:
            raise UneError(f"--cosine is {self.cosine}; use a number above 0, to 1")

    def _cosine(self) -> float:
        """Of the texts, by the judge; else as given."""
        if self.judge is None:
            return 1.0 if self.cosine is None else self.cosine
        from une_jax import directional
        from une_jax.cli import clip_judge
        from une_jax.cli.names import resolve

        judge = clip_judge.load(resolve(self.judge))
        said, shall = (directional.said(judge.read(t)) for t in (self.source, self.target))  # fmt: skip
        found = float(directional.text_cosine(said, shall))
        if found <= 0:
            raise UneError(f"--source and --target have a cosine of {found:.3g}, and t_edit is defined above 0: choose texts that differ less")  # fmt: skip
        return min(found, 1.0)

    def _measure(self, opened: Zoo, size: int) -> "Measure":
        if self.lpips is not None:
            from une_jax.cli.eyes import lpips_of

            return Measure("LPIPS", lambda x: x, lpips_of(self.lpips, size))
        if self.distance == PIXELS:
            return Measure("rms of pixels", lambda x: x, _rms)
        from une_jax.cli.encoder import encoder_of_view, named_view
        from une_jax.cli.judging import embed

        found = named_view(opened, self.distance)
        if found is None and self.distance is None:
            return Measure("rms of pixels", lambda x: x, _rms)
        if found is None:
            names = [v.name for v in opened.manifest.views if v.kind == "encoder"]
            raise UneError(f"--distance {self.distance}: choose one of {', '.join([PIXELS, *names])}")  # fmt: skip
        encoder = encoder_of_view(*found)
        return Measure(f"1 - cosine in {encoder.name}", lambda x: embed(encoder, x), _apart)  # fmt: skip

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report.hspace_curves import spread_out

        table = result["table"]
        lines = [
            tables.text([table[i] for i in spread_out(len(table), 12)]),
            "",
            f"{result['distance']}, {result['images']} images in {result['steps']} steps of {result['view']}",  # fmt: skip
            _said(
                "t_edit", result["t_edit"], f", texts of cosine {result['cosine']:.3f}"
            ),
            _said("t_boost", result["t_boost"], ""),
        ]
        edit, boost = (result[name]["t"] for name in ("t_edit", "t_boost"))
        if edit is not None and boost is not None and boost > edit:
            lines.append("t_boost is above t_edit: noise would be drawn while h is moved, which edits refuse")  # fmt: skip
        return "\n".join([*lines, result["figure"]])


class Measure(NamedTuple):
    """A distance of images: ``apart(look(a), look(b))``, so that one is looked at once."""

    name: str
    look: Callable[[UInt8[np.ndarray, "n h w 3"]], np.ndarray]
    apart: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, " n"]]


def measured(
    generator: "Diffusion", opened: Zoo, rows: np.ndarray, measure: Measure
) -> "tuple[report.Curves, report.Strip]":
    """The curves of these images, and the walk of the first one.

    Latents of all steps are kept of a few images at a time, pixels of a few batches.
    """
    from une_jax.cli.batches import batch_size_for
    from une_jax.cli.progress import Progress
    from une_jax.report import hspace_curves as report

    t = np.asarray(generator.walk_params["steps"].sampling.t)
    latent = 4 * int(np.prod(generator.views[0].shape))
    k = max(1, min(len(rows), BUDGET // (2 * len(t) * latent)))
    walker = dataclasses.replace(
        generator,
        batch_size=batch_size_for(
            min(k, generator.batch_size), None, 1, generator.mesh
        ),
    )
    kinds: tuple[list[np.ndarray], ...] = ([], [])
    shown = report.spread_out(len(t))
    strip: list[np.ndarray] = []
    with Progress(len(rows), "measuring") as bar:
        for start in range(0, len(rows), k):
            some = rows[start : start + k]
            noise = np.asarray(opened[generator.name][some], np.float32)
            said = pictures.prompts_of(generator, opened, some)
            seen = walker.walk(walker.walks.watched, noise, prompts=said)
            x0 = walker.walk(walker.walks.sample, noise, prompts=said)
            whole = measure.look(_painted(generator, x0))
            for kind, latents in zip(kinds, (seen.image, seen.x), strict=True):
                kind.append(_far(generator, measure, whole, latents))
                if not start:
                    strip.append(_painted(generator, latents[0, shown]))
            bar.add(len(some))
    predicted, noisy = (np.concatenate(kind) for kind in kinds)
    return (
        report.Curves(t, predicted, noisy, measure.name),
        report.Strip(t[shown], *strip),
    )


def _far(
    generator: "Diffusion",
    measure: Measure,
    whole: np.ndarray,
    latents: Float[np.ndarray, "k m h w c"],
) -> Float[np.ndarray, "k m"]:
    """How far each of k images is from its own m latents, decoded."""
    from une_jax.cli.generator import EDITED

    k, m, *_ = latents.shape
    flat, own = latents.reshape(k * m, *latents.shape[2:]), np.repeat(np.arange(k), m)
    size, parts = EDITED * generator.batch_size, []
    for start in range(0, k * m, size):
        part = slice(start, start + size)
        seen = measure.look(_painted(generator, flat[part]))
        parts.append(np.asarray(measure.apart(whole[own[part]], seen), np.float64))
    return np.concatenate(parts).reshape(k, m)


def _painted(
    generator: "Diffusion", latents: Float[np.ndarray, "n h w c"]
) -> UInt8[np.ndarray, "n s s 3"]:
    from une_jax.cli.layout import nchw

    return generator.paint(nchw(latents, "float32"))


def _rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of uint8 images, black to white is 1."""
    apart = (a.astype(np.float32) - b.astype(np.float32)) / 255
    return np.sqrt(np.square(apart).mean((1, 2, 3)))


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cosine of embeddings; those of length 0 are at right angles to all."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return 1 - (a * b).sum(1) / np.maximum(size, 1e-12)


def _given(asked: float | None, own: bool, paper: float) -> float | None:
    """The threshold that is asked for, else the paper's of its own distance."""
    return asked if asked is not None else paper if own else None


def _said(name: str, chosen: dict[str, Any], more: str) -> str:
    if chosen["t"] is None:
        return f"there is no {name}: {chosen['why']}"
    ends = f"{chosen['low']:.0f} to {chosen['high']:.0f}"
    return f"{name} {chosen['t']} (95 % over images: {ends}), where the distance reaches {chosen['threshold']:.3g}{more}"  # fmt: skip
