"""``une-jax effects``: what edits change, what else, and whether keeping others helps."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from une_jax import zoo
from une_jax.cli import pictures
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.errors import UneError
from une_jax.report import tables
from une_jax.zoo import Zoo
from une_jax.zoo.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator
    from une_jax.report import effect_tables, effects

STEPS = (-0.8, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, kw_only=True)
class Effects(Analysis):
    """Edit held-out images attribute by attribute, each in several ways, and let a
    network that had no part in it judge: intended change, collateral, identity.

    Beside --csv TABLE.csv come TABLE_ways.csv, TABLE_steps.csv and TABLE_matrix.csv;
    beside --figure FIGURE.png, FIGURE_matrix.png and FIGURE_attributes.png.
    """

    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to edit (default: all that have a direction and that the judge knows)"""
    how: tuple[Literal["euclidean", "conditional", "erasure"], ...] = (
        "euclidean",
        "conditional",
        "erasure",
    )
    """ways to keep the attributes whose directions are close, beside keeping none"""
    method: Literal["probe", "means", "ridge"] = "probe"
    """how directions are found"""
    judge: Annotated[str | None, OWN_DEFAULT] = None
    """VIEW or VIEW=PATH_OR_ID of an encoder view, or regressor, which knows miniature
    faces (default: that for those, else the zoo's first encoder view)"""
    images: int = 16
    """how many of the held-out images to edit"""
    step: tuple[float, ...] = STEPS
    """how far to go, in mean lengths of the training rows' noise"""
    change: float = 1.0
    """ways are compared where the edited score has changed by this, in its standard
    deviations"""
    norm: Literal["off", "sphere", "channel"] = "off"
    """what of the noise an edit restores: nothing; its norm; each channel's mean and
    deviation"""
    truth: Annotated[Path | None, OWN_DEFAULT] = None
    """truth.safetensors of miniature faces: says where in an image each attribute is
    (default: the quarter of the pixels that the plain edit changes most)"""
    lpips: Annotated[Path | None, OWN_DEFAULT] = None
    """folder that scripts/convert_lpips.py wrote: measures LPIPS as well"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the generator (default: found by its name)"""
    batch_size: Annotated[int | None, OWN_DEFAULT] = None
    """images decoded at once (default: the generator's)"""
    seed: int = 0
    """of the random directions"""

    def run(self) -> dict[str, Any]:
        self.check_figure()
        opened = zoo.open(self.zoo)
        self._check()

        from une_jax.cli.eyes import lpips_of
        from une_jax.cli.generator import generator_of_view
        from une_jax.cli.judging import judge_of
        from une_jax.miniature import render
        from une_jax.report import effect_tables, effects
        from une_jax.report.teaching import teach

        view = pictures.generator_view(opened, next(iter(self.view), None), self.generator)  # fmt: skip
        teacher = teach(opened, view.name, method=self.method)
        for name in self.attribute:
            teacher.directions.index(name)
        rows = opened.split("test")[: self.images]
        if not len(rows):
            raise UneError(f"{opened.path} has no held-out images to edit")
        regions = _painted(self.truth, opened, rows) if self.truth else None
        generator = generator_of_view(view, self.generator)
        if regions and generator.size != render.SIZE:
            raise UneError(
                f"--truth says where attributes are in faces of {render.SIZE} pixels, and "
                f"{view.name} was built of {generator.size}"
            )
        distance = lpips_of(self.lpips, generator.size) if self.lpips else None
        if self.batch_size:
            generator = dataclasses.replace(generator, batch_size=self.batch_size)
        judge = judge_of(opened, self.judge, generator.size)

        known = tuple(n for n in teacher.names if n in judge.names)
        if not known:
            raise UneError(f"{judge.name} can judge no attribute of {opened.path}: choose another --judge")  # fmt: skip
        ways = (effects.PLAIN, *self.how, effects.PATTERN, effects.RANDOM)
        walks = effects.walks_of(teacher, self.attribute or known, ways, seed=self.seed)
        far = len({s for s in self.step if s})
        each = far * len(walks) + len({walk.attribute for walk in walks})
        from une_jax.cli.progress import Progress

        with Progress(each * len(rows), "editing") as progress:
            length = effects.mean_length(teacher.train)
            edit = editor(generator, opened, rows, self.norm)
            found = effects.measure(
                effects.along(edit, length),
                judge,
                walks,
                self.step,
                len(rows),
                length=length,
                block=effects.block_of(generator.size, walks, far),
                regions=regions,
                distance=distance,
                done=progress.add,
            )
        compared = effect_tables.compare(found, self.change)
        return self._told(opened, view.name, teacher.auc, compared)

    def _check(self) -> None:
        if self.images < 2:
            raise UneError(f"--images {self.images}: use 2 or more")
        if not (self.change > 0 and np.isfinite(self.change)):
            raise UneError(f"--change {self.change}: use a number above 0")
        if not any(self.step) or not np.isfinite(self.step).all():
            raise UneError("--step: give one number or more beside 0, all finite")
        if len(self.view) > 1:
            raise UneError("--view: edits are of one generator; give one view")
        if self.batch_size is not None and self.batch_size < 1:
            raise UneError(f"--batch-size {self.batch_size}: use 1 or more")

    def _told(
        self,
        opened: Zoo,
        view: str,
        auc: dict[str, float],
        c: "effect_tables.Compared",
    ) -> dict[str, Any]:
        from une_jax.report import effect_figures, effect_tables

        measured = c.measured
        mini = effect_tables.planted(measured.names)
        truth = mini if measured.judge == "regressor" else None
        each = effect_tables.by_attribute(c, truth)
        found = {
            "ways": effect_tables.by_way(c),
            "steps": effect_tables.by_step(measured),
            "matrix": effect_tables.matrix_rows(c, truth),
        }
        if self.csv:
            tables.write_csv(self.csv, each)
            for name, rows in found.items():
                tables.write_csv(_beside(self.csv, name), rows)
        if self.figure:
            shown = [way for way in measured.ways if way in ("plain", *self.how)]
            drawings = {
                self.figure: effect_figures.costs(c),
                _beside(self.figure, "matrix"): effect_figures.matrices(c, shown, truth),
                _beside(self.figure, "attributes"): effect_figures.by_attribute(c),
            }  # fmt: skip
            self.figure.parent.mkdir(parents=True, exist_ok=True)
            for path, drawing in drawings.items():
                vector = path.suffix.lower() == ".svg"
                write_bytes_atomically(path, drawing.svg if vector else drawing.png)
        settings = opened[view].view.settings
        return {
            "zoo": str(self.zoo),
            "view": view,
            "steps_of_inversion": settings.get("steps"),
            "method_of_inversion": settings.get("method", "ddim"),
            "directions": self.method,
            "judge": measured.judge,
            "images": measured.change.shape[1],
            "change": self.change,
            "norm": self.norm,
            "length": measured.length,
            "test_auc": {a: auc[a] for a in measured.attributes},
            "verdict": effect_tables.verdict(c),
            "table": each,
            **found,
        }

    def text(self, result: dict[str, Any]) -> str:
        shown = ("attribute", "way", "keep", "per sd", "per step", "step", "collateral", "kept", "identity", "psnr outside", "lpips")  # fmt: skip
        each = [{k: row[k] for k in shown if k in row} for row in result["table"]]
        shown = ("way", "compared", "per step", "step", "collateral", "collateral of plain", "systematic", "systematic of plain", "kept", "kept of plain", "identity", "identity of plain")  # fmt: skip
        ways = [{k: row[k] for k in shown if k in row} for row in result["ways"]]
        return "\n\n".join(
            [
                f"{result['images']} held-out images edited in {result['view']}, judged by "
                f"{result['judge']}",
                tables.text(each),
                "Beside plain, over the attributes that reach the change in both:",
                tables.text(ways),
                "\n".join(result["verdict"]),
                f"At a change of {result['change']:g} sd of the edited score: the step "
                "it takes (in mean lengths of\nthe noise), the others' change (root mean "
                "square, sd; systematic: of the mean over images;\nkept: of those that "
                "the kept ways keep), and the identity's cosine. A dash: not reached.",
            ]
        )


def _beside(path: Path, name: str) -> Path:
    return path.with_stem(f"{path.stem}_{name}")


def editor(
    generator: "Generator", opened: Zoo, rows: np.ndarray, norm: Any
) -> "effects.Edit":
    """These of the zoo's rows, edited from what it holds of them."""
    origin = pictures.origin_of(generator, opened, rows)
    prompts = pictures.prompts_of(generator, opened, rows)

    def edit(at: np.ndarray, moves: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        return generator.edit(
            {name: x[at] for name, x in origin.items()},
            moves,
            amounts,
            control=norm,
            prompts=None if prompts is None else [prompts[i] for i in at],
        )

    return edit


def _painted(path: Path, opened: Zoo, rows: np.ndarray) -> "effects.Regions":
    import jax

    from une_jax.miniature.region import region
    from une_jax.report import known

    faces = known.of_zoo(path, opened)

    def painted(at: np.ndarray, attribute: str) -> np.ndarray:
        return region(jax.tree.map(lambda x: x[rows[at]], faces), attribute)

    return painted
