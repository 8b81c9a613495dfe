"""The sections of the report's page, one by one."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from une_jax import images, zoo
from une_jax.cli.generator import FEW_STEPS, Generator
from une_jax.errors import UneError
from une_jax.report import alignment, figures, page, probing, teaching

SHOWN, MEASURED = 8, 64
MAPPED = 2000  # train rows of maps, whose Gram matrix is decomposed
STRENGTHS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
WALKS = {
    "ddim": "DDIM",
    "fixed-point": "refined DDIM",
    "exact": "BDIA",
    "dpm-encoder": "stochastic",
}


class Sections:
    """``numbers`` collects what they measured, ``figures`` the PNG files by name.

    Images come from every one of ``generators``, edits from the first.
    """

    def __init__(self, opened: zoo.Zoo, generators: list[Generator]):
        self.zoo, self.generators = opened, generators
        self.probed = [
            probing.probe_view(opened, name) for name in probing.spaces(opened)
        ]
        self.test = opened.split("test")
        self.figures: dict[str, bytes] = {}  # by file name
        self.numbers: dict[str, Any] = {}

    def _sheet(self, name: str, png: bytes, caption: str) -> str:
        name = re.sub(r"\W+", "_", name)
        self.figures[f"{name}.png"] = png
        return page.figure(png, caption)

    def _chart(self, name: str, drawing: figures.Drawing, caption: str) -> str:
        self.figures[f"{name}.svg"] = drawing.svg
        return self._sheet(name, drawing.png, caption)

    def _origin(self, g: Generator, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the zoo holds of these images that gives them back."""
        return {name: np.asarray(self.zoo[name][rows]) for name in g.decodes_from}

    def _prompts(self, g: Generator, rows: np.ndarray) -> list[str] | None:
        if g.settings.prompt is not None:
            return None
        said = self.zoo.rows.column("prompt").to_pylist()
        return [said[i] for i in rows]

    def round_trip(self, folder: Path | None) -> page.Section:
        rows, blocks = self.test[:MEASURED], []
        pictures = [images.decode(folder / self.zoo.keys[i]) for i in rows] if folder else []  # fmt: skip
        for g in self.generators:
            origin, prompts = self._origin(g, rows), self._prompts(g, rows)
            again = g.decode(origin[g.name], prompts=prompts, origin=origin)
            strips, labels = [again[:SHOWN]], ["from noise"]
            if pictures:
                pixels = np.stack([g.prepare(picture) for picture in pictures])
                coded = g.autoencode(pixels)
                strips = [pixels[:SHOWN], coded[:SHOWN], again[:SHOWN]]
                labels = ["image", "through the VAE", "from its noise"]
                vae = self.numbers[f"{g.name} vae_psnr_db"] = _psnr(pixels, coded)
                both = self.numbers[f"{g.name} round_trip_psnr_db"] = _psnr(
                    pixels, again
                )
                blocks.append(
                    page.paragraph(
                        f"{g.name}: image to noise in {g.settings.steps} "
                        f"{WALKS[g.settings.method]} steps and back: PSNR {both:.1f} dB over {len(rows)} "
                        f"held-out images; the VAE alone reaches {vae:.1f} dB."
                    )
                )
            png = figures.sheet(np.stack(strips), rows=labels)
            caption = f"Held-out images, and the same decoded from {g.name}'s noise."
            blocks.append(self._sheet(f"round_trip_{g.name}", png, caption))
        return page.Section("There and back", blocks)

    def samples(self, prompts: tuple[str, ...]) -> page.Section:
        blocks = [
            page.paragraph(
                "Images of fresh Gaussian noise; where the latents have one shape, the "
                "same noise for every generator."
            )
        ]
        listed = "".join(f"; ({i + 1}) {p}" for i, p in enumerate(prompts))
        for g in self.generators:
            fresh = np.random.default_rng(0).standard_normal(
                (SHOWN, *g.views[0].shape), np.float32
            )
            first = g.settings.prompt or ""
            conds = [g.condition(prompt) for prompt in (first, *prompts)]
            numbers = ["", *(f"({i + 1})" for i in range(len(prompts)))]
            strips = [g.decode(fresh, cond) for cond in conds]
            labels, note = list(numbers), ""
            if g.samples_in_few_steps:
                strips += [g.decode_few(fresh, cond) for cond in conds]
                few = f"{FEW_STEPS} steps"
                labels = [*labels, *(f"{few} {number}".strip() for number in numbers)]
                note = f" Below, in {FEW_STEPS} consistency steps."
            said = _quoted(first)
            if g.settings.guidance != 1:
                said += f" at guidance {g.settings.guidance:g}"
            caption = f"{g.name}: {said}{listed}.{note}"
            png = figures.sheet(np.stack(strips), rows=labels)
            blocks.append(self._sheet(f"samples_{g.name}", png, caption))
        return page.Section("Samples", blocks)

    def probes(self, truth: np.ndarray | None) -> page.Section:
        names = self.zoo.attribute_names
        rows = probing.table(names, self.probed)
        main = [p for p in self.probed if p.kind != "control"]
        controls = [p for p in self.probed if p.kind == "control"]
        for p in self.probed:
            self.numbers[f"{p.view} mean_auc"] = rows[-1][f"{p.view} auc"]
        blocks = [
            page.paragraph(
                "One linear probe per attribute and view, fitted on 80 % of the rows "
                "and tested on the rest. AUC 0.5 is a coin; the base rate is what "
                "always giving the commoner answer would score in accuracy."
            )
        ]
        columns = [p.view for p in (*main, *controls)]
        chart = figures.heatmap(
            np.array([[row[f"{view} auc"] for view in columns] for row in rows]),
            [str(row["attribute"]) for row in rows],
            columns,
            label="test AUC",
            low=0.5,
            high=1.0,
        )
        caption = "Test AUC of each attribute's linear probe (rows), by view."
        blocks.append(self._chart("probes", chart, caption))
        if controls:
            blocks.append(
                page.paragraph(
                    "Controls: .x0 is the clean latent; .forward is that latent under "
                    "fresh noise of the same strength. What the inverted noise knows "
                    "beyond the latter is not a leftover of the image."
                )
            )
        header, keys = ["attribute", "base\nrate"], ["attribute", "base_rate"]
        for p in main:
            header += [f"{p.view}\naccuracy", f"{p.view}\nAUC"]
            keys += [f"{p.view} accuracy", f"{p.view} auc"]
        cells = [[row[k] for k in keys] for row in rows]
        if truth is not None:
            blocks.append(
                page.paragraph(
                    "R² is the squared correlation of the probe's score with the "
                    "attribute's true, continuous score."
                )
            )
            for p in main:
                r2 = probing.truth_r2(p.scores, truth[self.test])
                self.numbers[f"{p.view} mean_truth_r2"] = float(r2.mean())
                header.append(f"{p.view}\nR²")
                for row, value in zip(cells, [*r2, r2.mean()], strict=True):
                    row.append(float(value))
        return page.Section("What is linear in each view", [*blocks, page.table(header, cells)])  # fmt: skip

    def maps(self) -> page.Section:
        views = [p.view for p in self.probed if p.kind != "control"]
        title = "How much of each view the others tell"
        if len(views) < 2:
            return page.Section(title, [page.paragraph("The zoo has one view only.")])
        rows = alignment.table(self.zoo, views, limit=MAPPED, controls=False)
        for row in rows:
            self.numbers[f"{row['source']} -> {row['target']} r2"] = row["r2"]
        chart = alignment.figure(rows)
        caption = "Test R² of a linear (ridge) map from each view (row) to each other."
        text = (
            "If all views are noisy linear looks at one space, each predicts the "
            "others. R² is the mean over a target's dimensions, on the test rows; the "
            "penalty is chosen by leave-one-out on the training rows."
        )
        blocks = [page.paragraph(text), self._chart("maps", chart, caption)]
        return page.Section(title, blocks)

    def edits(self, wanted: tuple[str, ...]) -> page.Section:
        generator = self.generators[0]
        taught = teaching.teach(self.zoo, generator.name)
        known = sorted(
            taught.names, key=lambda n: -np.nan_to_num(taught.auc[n], nan=-1)
        )
        columns = [f"{s:+g} sd" if s else "0" for s in STRENGTHS]
        origin = self._origin(generator, self.test[:3])
        prompts = self._prompts(generator, self.test[:3])
        blocks = [
            page.paragraph(
                f"Each row moves one image's {generator.name} noise along the probe's "
                "direction, in standard deviations of the training rows along it. "
                "Where others' directions are close to it, the same follows with them "
                "projected out."
            )
        ]
        for name in wanted or known[:4]:
            keep = taught.entangled(name)
            kept = ", ".join(keep).replace("_", " ")
            walks = [("plain", "along its own direction", taught.held([name]))]
            if keep:
                what = f"with {kept} projected out"
                with contextlib.suppress(UneError):  # nothing of it is left beside them
                    held = taught.held([name], keep)
                    walks.append(("orthogonalised", what, held))
            for file, what, found in walks:
                own = found.amounts(name, STRENGTHS)[..., None].repeat(3, axis=0)
                grid = generator.edit(origin, found.moves, own, prompts=prompts)
                png = figures.sheet(grid, columns=columns)
                caption = f"{name.replace('_', ' ')}: {what}."
                blocks.append(self._figure(f"edit_{name}_{file}", png, caption))
        return page.Section("Edits", blocks)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    unit = np.float32(1 / 255)
    return float(images.psnr(a * unit, b * unit).mean())


def _quoted(prompt: str) -> str:
    return f"prompt “{prompt}”" if prompt else "without a prompt"
