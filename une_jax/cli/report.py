"""``une-jax report``: what a NoiseZoo says, on one page."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from une_jax import images, zoo
from une_jax.attributes import resolve
from une_jax.cli.edit import generator_view, walk
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError

SHOWN, MEASURED, SAMPLES = 8, 64, 32
STRENGTHS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures and one self-contained HTML page: round trips, samples, probes, edits."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """folder for index.html and its figures"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """the folder the zoo was built from, to show originals and measure PSNR"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which generator view (default: its only one)"""
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
        view = generator_view(opened, self.view, self.generator)
        truth = read_truth(self.truth, opened) if self.truth else None

        from une_jax.cli.generator import generator_of_view
        from une_jax.report import page, probing

        generator = generator_of_view(view, self.generator, rows=MEASURED)
        probed = [probing.probe_view(opened, name) for name in opened.views]
        made = Made(opened, generator, view, probed)
        sections = [
            made.round_trip(self.images),
            made.samples(self.prompt),
            made.probes(truth),
            made.edits(self.attribute),
        ]
        lead = (
            f"{opened.rows.num_rows} images, {view.settings['steps']} DDIM steps, views "
            f"{', '.join(opened.views)}."
        )
        html = page.page("What this noise knows", lead, sections)
        self.out.mkdir(parents=True, exist_ok=True)
        for name, png in made.figures.items():
            (self.out / f"{name}.png").write_bytes(png)
        (self.out / "index.html").write_text(html, encoding="utf-8")
        return {"report": str(self.out / "index.html"), **made.numbers}

    def text(self, result: dict[str, Any]) -> str:
        return f"report: {result['report']}"


class Made:
    """The page's sections, made one by one.

    ``numbers`` collects what they measured, ``figures`` the PNG files by their names.
    """

    def __init__(self, opened: zoo.Zoo, generator: Any, view: zoo.View, probed: list[Any]):  # fmt: skip
        self.zoo, self.generator, self.view = opened, generator, view
        self.probed = probed
        self.figures: dict[str, bytes] = {}
        self.own = next(p for p in probed if p.view == view.name)
        self.test = opened.split("test")
        self.numbers: dict[str, Any] = {}

    def _figure(self, name: str, png: bytes, caption: str) -> str:
        from une_jax.report import page

        self.figures[re.sub(r"\W+", "_", name)] = png
        return page.figure(png, caption)

    def round_trip(self, folder: Path | None) -> Any:
        from une_jax.report import figures, page

        rows = self.test[:MEASURED]
        noise = np.asarray(self.zoo[self.view.name][rows], np.float32)
        again = self.generator.decode(noise)
        strips, labels, blocks = [again[:SHOWN]], ["from noise"], []
        if folder is not None:
            keys = [self.zoo.keys[i] for i in rows]
            pixels = np.stack(
                [self.generator.prepare(images.decode(folder / key)) for key in keys]
            )
            coded = self.generator.autoencode(pixels)
            for what, value in (("vae", coded), ("round_trip", again)):
                psnr = images.psnr(pixels / np.float32(255), value / np.float32(255))
                self.numbers[f"{what}_psnr_db"] = float(np.mean(psnr))
            strips = [pixels[:SHOWN], coded[:SHOWN], again[:SHOWN]]
            labels = ["image", "through the VAE", "from its noise"]
            blocks.append(
                page.paragraph(
                    f"Image to noise in {self.view.settings['steps']} DDIM steps and "
                    f"back: PSNR {self.numbers['round_trip_psnr_db']:.1f} dB over "
                    f"{len(rows)} held-out images; the VAE alone reaches "
                    f"{self.numbers['vae_psnr_db']:.1f} dB."
                )
            )
        png = figures.sheet(np.stack(strips), rows=labels)
        caption = "Held-out images, and the same images decoded from their noise."
        blocks.append(self._figure("round_trip", png, caption))
        return page.Section("There and back", blocks)

    def samples(self, prompts: tuple[str, ...]) -> Any:
        from une_jax.report import figures, page

        rng = np.random.default_rng(0)
        shape = self.view.shape
        fresh = rng.standard_normal((SAMPLES, *shape), np.float32)
        drawn = self.generator.decode(fresh).reshape(4, 8, *self.size)
        blocks = [
            self._figure(
                "samples",
                figures.sheet(drawn),
                f"Images of fresh Gaussian noise, {_quoted(self.view.settings['prompt'])}.",
            )
        ]
        if prompts:
            strips = [
                self.generator.decode(fresh[:SHOWN], self.generator.condition(prompt))
                for prompt in prompts
            ]
            png = figures.sheet(np.stack(strips))
            listed = "; ".join(f"({i + 1}) {p}" for i, p in enumerate(prompts))
            caption = f"The same noise with a prompt, row by row: {listed}."
            blocks.append(self._figure("prompts", png, caption))
        return page.Section("Samples", blocks)

    @property
    def size(self) -> tuple[int, int, int]:
        return (self.generator.size, self.generator.size, 3)

    def probes(self, truth: np.ndarray | None) -> Any:
        from une_jax.report import figures, page, probing

        names = self.zoo.attribute_names
        rows = probing.table(names, self.probed)
        header = ["attribute", "base\nrate"]
        keys = ["attribute", "base_rate"]
        for p in self.probed:
            measures = ("AUC",) if p.kind == "control" else ("accuracy", "AUC")
            header += [f"{p.view}\n{measure}" for measure in measures]
            keys += [f"{p.view} {measure.lower()}" for measure in measures]
            self.numbers[f"{p.view} mean_auc"] = rows[-1][f"{p.view} auc"]
        cells = [[row[k] for k in keys] for row in rows]
        blocks = [
            page.paragraph(
                "One linear probe per attribute, fitted on 80 % of the rows and tested "
                "on the rest. The base rate is what always giving the commoner answer "
                "would score; AUC 0.5 is a coin."
            )
        ]
        if any(p.kind == "control" for p in self.probed):
            blocks.append(
                page.paragraph(
                    f"Controls: {self.view.name}.x0 is the clean latent; "
                    f"{self.view.name}.forward is that latent under fresh noise of the "
                    "same strength. What the inverted noise knows beyond the latter is "
                    "not a leftover of the image."
                )
            )
        if truth is not None:
            header.append("R² to the\ntrue score")
            r2 = probing.truth_r2(self.own.scores, truth[self.test])
            for row, value in zip(cells, [*r2, r2.mean()], strict=True):
                row.append(float(value))
            self.numbers["mean_truth_r2"] = float(r2.mean())
            blocks.append(
                page.paragraph(
                    f"The last column is the squared correlation of the {self.view.name} "
                    "probe's score with the attribute's true, continuous score."
                )
            )
        auc = {p.view: np.asarray(p.metrics.auc) for p in self.probed}
        auc = {self.view.name: auc[self.view.name], **auc}
        chart = figures.auc_chart(names, auc)
        caption = "Test AUC of each attribute's linear probe, by view."
        blocks += [self._figure("probes", chart, caption), page.table(header, cells)]
        return page.Section("What is linear in the noise", blocks)

    def edits(self, wanted: tuple[str, ...]) -> Any:
        from une_jax.report import figures, page

        names = self.zoo.attribute_names
        auc = np.asarray(self.own.metrics.auc)
        known = np.isfinite(auc) & np.any(np.asarray(self.own.probe.weight), axis=1)
        order = np.argsort(-np.where(known, auc, -1))
        best = tuple(names[i] for i in order[:4] if known[i])
        columns = [f"{s:+g} sd" if s else "0" for s in STRENGTHS]
        noise = np.asarray(self.zoo[self.view.name][self.test[:3]], np.float32)
        blocks = [
            page.paragraph(
                "Each row moves one image's noise along the probe's direction, in "
                "standard deviations of the training rows along it. Where others' "
                "directions are close to it, the same follows with them projected out."
            )
        ]
        for name in wanted or best:
            keep = self._entangled(name)
            kept = ", ".join(keep).replace("_", " ")
            walks = [
                ("plain", "along its own direction", self.own.direction(names, name))
            ]
            if keep:
                what = f"with {kept} projected out"
                with contextlib.suppress(UneError):  # nothing of it is left beside them
                    held = self.own.direction(names, name, keep)
                    walks.append(("orthogonalised", what, held))
            directions = np.stack([direction for _, _, (direction, _) in walks])
            units = np.array([unit for _, _, (_, unit) in walks])
            grid = walk(self.generator, noise, directions, units, STRENGTHS)
            for i, (file, what, _) in enumerate(walks):
                png = figures.sheet(grid[:, i], columns=columns)
                caption = f"{name.replace('_', ' ')}: {what}."
                blocks.append(self._figure(f"edit_{name}_{file}", png, caption))
        return page.Section("Edits", blocks)

    def _entangled(self, name: str, count: int = 3) -> tuple[str, ...]:
        """The attributes whose directions are closest to this one's, up to sign."""
        names = self.zoo.attribute_names
        w = np.asarray(self.own.probe.weight)
        w = w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-30)
        near = np.abs(w @ w[names.index(name)])
        near[names.index(name)] = 0
        return tuple(names[i] for i in np.argsort(-near)[:count] if near[i] > 0.1)


def _quoted(prompt: str) -> str:
    return f"prompt “{prompt}”" if prompt else "without a prompt"


def read_truth(path: Path, opened: zoo.Zoo) -> np.ndarray:
    """The true scores of the zoo's ok rows, in its order."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from une_jax.miniature import factors

    try:
        scores = load_file(path)["scores"]
        rows = [int(Path(key).stem) - 1 for key in opened.keys]
        columns = [factors.NAMES.index(name) for name in opened.attribute_names]
        scores = scores[np.ix_(rows, columns)]
        if np.array_equal(scores > factors.THRESHOLDS[columns], opened.attributes):
            return scores
    except (OSError, SafetensorError, KeyError, ValueError, IndexError):
        pass
    raise UneError(
        f"{path} is not the truth of {opened.path}'s images; give the "
        "truth.safetensors that une-jax faces wrote beside them"
    )
