"""``une-jax probe``: which attributes are linear in which view."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from une_jax import zoo
from une_jax.cli.options import OWN_DEFAULT, Json


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Fit the paper's linear probes on every view, beside base rates and controls."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """only these views (default: all, but what only decoding needs)"""
    components: Annotated[int | None, OWN_DEFAULT] = None
    """PCA components (default: the paper's 500 for generators, 310 for encoders)"""
    l2: float = 1.0
    """strength of the penalty; 1 / l2 is scikit-learn's C"""
    csv: Annotated[Path | None, OWN_DEFAULT] = None
    """also write the table there"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        from une_jax.report import probing

        opened = zoo.open(self.zoo)
        probed = [
            probing.probe_view(opened, view, components=self.components, l2=self.l2)
            for view in self.view or probing.spaces(opened)
        ]
        rows = [
            {k: None if v != v else v for k, v in row.items()}
            for row in probing.table(opened.attribute_names, probed)
        ]
        if self.csv:
            self.csv.parent.mkdir(parents=True, exist_ok=True)
            with self.csv.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0])
                writer.writeheader()
                writer.writerows(rows)  # None becomes an empty field
        return {
            "zoo": str(self.zoo),
            "train_rows": len(opened.split("train")),
            "test_rows": len(opened.split("test")),
            "views": [p.view for p in probed],
            "explained_variance": {
                p.view: float(p.probe.explained_variance) for p in probed
            },
            "table": rows,
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
        return "\n".join(lines)


def _line(
    first: str, name: int, base: str, cells: Sequence[str], wide: Sequence[int]
) -> str:
    pairs = "  ".join(f"{c:>{w}}" for c, w in zip(cells, wide, strict=True))
    return f"{first:{name}}  {base:>5}  {pairs}".rstrip()


def _shown(value: float | None) -> str:
    return f"{'–' if value is None else format(value, '.3f'):>5}"
