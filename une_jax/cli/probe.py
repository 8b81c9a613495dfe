"""``une-jax probe``: which attributes are linear in which view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Probe(Analysis):
    """Fit the paper's linear probes on every view, beside base rates and controls."""

    components: Annotated[int | None, OWN_DEFAULT] = None
    """PCA components (default: the paper's 500 for generators, 310 for encoders)"""
    l2: float = 1.0
    """strength of the penalty; 1 / l2 is scikit-learn's C"""
    method: Literal["logistic", "raw", "lda"] = "logistic"
    """the paper's logistic regression in standardised components; on the raw latents,
    without PCA; or linear discriminant analysis, which needs no solver"""
    split: Literal["paper", "identity"] = "paper"
    """identity: nobody is in both train and test rows (needs the zoo's identities)"""
    replicates: int = 1000
    """of the bootstrap over the test rows, for the 95 % intervals; 0 for none"""

    def run(self) -> dict[str, Any]:
        from une_jax.cli.progress import Progress
        from une_jax.report import probing

        if self.replicates < 0:
            raise UneError(f"replicates is {self.replicates}; use 0 or more")
        opened = zoo.open(self.zoo)
        names = opened.attribute_names
        self.check_figure()
        views = self.view or probing.spaces(opened)
        probed, drawn = [], {}
        with Progress(len(views), "probing", unit="view") as progress:
            for view in views:
                fitted = probing.probe_view(
                    opened,
                    view,
                    components=self.components,
                    l2=self.l2,
                    method=self.method,
                    split=self.split,
                )
                probed.append(fitted)
                if self.replicates:
                    drawn[view] = probing.draws(fitted, replicates=self.replicates)
                progress.add(1)
        rows = probing.table(names, probed, drawn)
        wants = self.figure and drawn
        self.write(rows, probing.figure(names, probed, drawn) if wants else None)
        train, test = probing.rows_of(opened, self.split)
        return {
            "zoo": str(self.zoo),
            "train_rows": len(train),
            "test_rows": len(test),
            "views": [p.view for p in probed],
            "explained_variance": {
                p.view: float(p.probe.explained_variance) for p in probed
            },
            "converged": {p.view: bool(p.probe.converged.all()) for p in probed},
            "pca_residual": {p.view: float(p.probe.pca_residual) for p in probed},
            "table": [
                {k: None if v != v else v for k, v in row.items()} for row in rows
            ],
        }

    def text(self, result: dict[str, Any]) -> str:
        views = result["views"]
        name = max(len(row["attribute"]) for row in result["table"])
        wide = [max(len(view), 12) for view in views]  # of a view's pair of columns
        lines = [
            f"{result['train_rows']} train rows, {result['test_rows']} test rows; "
            "base rate, accuracy and AUC are of the test rows",
            "",
            _line("", name, "base", views, wide),
            _line("", name, "rate", [f"{'acc':>5}  {'AUC':>5}"] * len(views), wide),
        ]
        for row in result["table"]:
            cells = [
                f"{_shown(row[f'{v} accuracy'])}  {_shown(row[f'{v} auc'])}"
                for v in views
            ]
            base = _shown(row["base_rate"])
            lines.append(_line(row["attribute"], name, base, cells, wide))
        lines.insert(-1, "-" * len(lines[-1]))  # the last row is the mean
        return "\n".join([*lines, "", *_reading(result)])


def _reading(result: dict[str, Any]) -> list[str]:
    """The means with their intervals, and what to make of them."""
    mean, lines = result["table"][-1], []
    wide = max(map(len, result["views"]))
    for view in result["views"]:
        shown = ""
        if f"{view} auc low" in mean:
            low, high = (_shown(mean[f"{view} auc {end}"]) for end in ("low", "high"))
            shown = f" [{low}, {high}]"
        balanced, precision = (
            _shown(mean[f"{view} {number}"])
            for number in ("balanced accuracy", "average precision")
        )
        lines.append(
            f"{view:{wide}}  mean AUC {_shown(mean[f'{view} auc'])}{shown}, "
            f"balanced accuracy {balanced}, average precision {precision}"
        )
    lines.append(
        "An accuracy at the base rate says nothing; AUC and balanced accuracy are 0.5 by "
        f"chance, average precision {_shown(mean['positives']).strip()}. Brackets are 95 % "
        "intervals over the test rows."
    )
    if not all(result["converged"].values()):
        lines.append("Some probes did not converge: see gradient_norm in Python.")
    return lines


def _line(
    first: str, name: int, base: str, cells: Sequence[str], wide: Sequence[int]
) -> str:
    pairs = "  ".join(f"{c:>{w}}" for c, w in zip(cells, wide, strict=True))
    return f"{first:{name}}  {base:>5}  {pairs}".rstrip()


def _shown(value: float | None) -> str:
    return f"{'–' if value is None else format(value, '.3f'):>5}"
