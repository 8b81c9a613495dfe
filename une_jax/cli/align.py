"""``une-jax align``: how well each view predicts each other, and what is lost."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.errors import UneError
from une_jax.report import tables

if TYPE_CHECKING:
    from une_jax.report.figures import Drawing

SHOWN = 8  # images of --decode
# What is printed of the table; --csv and --json have all.
COLUMNS = {
    "source": "source",
    "target": "target",
    "mse": "MSE",
    "cosine": "cosine",
    "mean predictor cosine": "of mean",
    "centred cosine": "centred",
    "r2": "R²",
    "shuffled pairs r2": "shuffled",
    "top-1": "top-1",
    "top-5": "top-5",
    "mapped accuracy": "accuracy",
    "accuracy drop from target, pp": "-target",
    "accuracy drop from source, pp": "-source",
    "mapped AUC": "AUC",
}


@dataclass(frozen=True, kw_only=True)
class Align(Analysis):
    """Ridge maps between views (the paper's Table 2), beside what needs no map."""

    limit: Annotated[int | None, OWN_DEFAULT] = None
    """fit on at most so many train rows (default: all)"""
    folds: Annotated[int | None, OWN_DEFAULT] = None
    """choose penalties on so many folds (default: leave-one-out)"""
    decode: Annotated[str | None, OWN_DEFAULT] = None
    """draw, in --figure, this view mapped to a generator's noise and decoded"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """for --decode: the generator's view or PATH_OR_ID (default: the only one)"""

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        views = self.views(opened, "generator", "encoder")
        if self.decode:
            opened[self.decode]  # the error lists those there are
            if not self.figure:
                raise UneError("--decode draws: say where with --figure FILE")
        if self.limit is not None and self.limit < 3:
            raise UneError(f"--limit is {self.limit}; use 3 or more")

        from une_jax.cli.progress import Progress
        from une_jax.report import alignment, probing

        picture = decoded(opened, self.decode, self.generator, self.limit) if self.decode else None  # fmt: skip
        total = len(views) * (len(views) - 1)
        with Progress(total, "mapping", unit="pair") as progress:
            named = opened.attribute_names
            probed = [probing.probe_view(opened, v) for v in views] if named else []
            rows = alignment.table(
                opened,
                views,
                probed=probed,
                limit=self.limit,
                folds=self.folds,
                step=lambda _: progress.add(1),
            )
        self.write(rows, picture or (alignment.figure(rows) if self.figure else None))
        train = len(opened.split("train")[: self.limit])
        return {
            "zoo": str(self.zoo),
            "train_rows": train,
            "test_rows": len(opened.split("test")),
            "views": list(views),
            "table": rows,
        }

    def text(self, result: dict[str, Any]) -> str:
        rows = result["table"]
        shown = [{COLUMNS[k]: row[k] for k in COLUMNS if k in row} for row in rows]
        lines = [
            f"{result['train_rows']} train rows, {result['test_rows']} test rows "
            f"(by chance, {rows[0]['chance top-1']:.1%} find themselves, "
            f"{rows[0]['chance top-5']:.1%} among five)",
            "",
            tables.text(shown),
            "",
            "R² and centred cosine are about the mean; cosine alone is not, and its "
            "neighbour says what the mean by itself would score. `shuffled` is R² of a "
            "map fitted on wrong pairs.",
        ]
        if "accuracy" in shown[0]:
            lines.append(
                "accuracy and AUC are of the target's probes on mapped latents; "
                "-target and -source are the percentage points of accuracy below "
                "the target's own latents, and below the source's own probes."
            )
        return "\n".join(lines)


def decoded(
    opened: zoo.Zoo, source: str, wanted: str | None, limit: int | None = None
) -> "Drawing":
    """Test images from their own noise, and from what ``source`` says of that noise.

    The ridge map gives the noise's mean, which is shorter than noise is; so that is also
    drawn at the length of the train rows, and with fresh noise of the variance that the
    map leaves in each dimension (its leave-one-out error).
    """
    from une_jax.cli.generator import generator_of_view
    from une_jax.cli.pictures import generator_view
    from une_jax.report import figures

    view = generator_view(opened, None, wanted)
    if view.name == source:
        raise UneError(f"--decode {source}: that is the generator's own noise")
    path = None if wanted in (None, view.name) else wanted
    generator = generator_of_view(view, path, rows=SHOWN)
    if len(generator.decodes_from) > 1:
        raise UneError(
            f"view {view.name!r} decodes from more than noise, which no map gives: "
            "choose a generator that was inverted by ddim with --generator"
        )
    shown = opened.split("test")[:SHOWN]
    guesses = mapped_noise(opened, source, view.name, shown, limit)
    prompts = None
    if generator.settings.prompt is None:
        said = opened.rows.column("prompt").to_pylist()
        prompts = [said[i] for i in shown]

    def pictures(noise: np.ndarray) -> np.ndarray:
        return generator.decode(noise, prompts=prompts, origin={view.name: noise})

    own = np.asarray(opened[view.name][shown], np.float32)
    strips = {f"{view.name}'s own noise": own} | guesses
    grid = np.stack([pictures(noise) for noise in strips.values()])
    return figures.framed(figures.sheet(grid, rows=list(strips)))


def mapped_noise(
    opened: zoo.Zoo, source: str, target: str, rows: np.ndarray, limit: int | None
) -> dict[str, np.ndarray]:
    """Three guesses of these rows' noise from their source view, by name."""
    from une_jax.report import alignment, latents

    train = opened.split("train")[:limit]
    x, y = (latents.read(opened, v, train) for v in (source, target))
    path, alpha = alignment.Source(x).ridge(y)
    guess = alignment.predict(path, alpha, latents.read(opened, source, rows))
    length = np.linalg.norm(y, axis=1).mean()
    long = guess * (length / np.linalg.norm(guess, axis=1, keepdims=True))
    left = np.asarray(path.loo[np.argmin(np.abs(path.alphas - alpha))]) ** 0.5
    fresh = np.random.default_rng(0).standard_normal(guess.shape, np.float32)
    named = {
        f"mapped from {source}": guess,
        "at noise's length": long,
        "with fresh noise": guess + left * fresh,
    }
    shape = opened[target].shape[1:]
    return {name: x.reshape(-1, *shape) for name, x in named.items()}
