"""``une-jax probe``: which attributes are linear in which view."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from une_jax import zoo


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Fit the paper's linear probes on every view, beside base rates and controls."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    view: tuple[str, ...] = ()
    """only these views (default: all)"""
    components: int | None = None
    """PCA components (default: the paper's 500 for generators, 310 for encoders)"""
    l2: float = 1.0
    """strength of the penalty; 1 / l2 is scikit-learn's C"""
    csv: Path | None = None
    """also write the table there"""
    json: Annotated[bool, tyro.conf.arg(help="machine-readable result")] = False

    def run(self) -> dict[str, Any]:
        from une_jax.report import probing

        opened = zoo.open(self.zoo)
        probed = [
            probing.probe_view(opened, view, components=self.components, l2=self.l2)
            for view in self.view or opened.views
        ]
        rows = probing.table(opened.attribute_names, probed)
        if self.csv:
            self.csv.parent.mkdir(parents=True, exist_ok=True)
            with self.csv.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        return {
            "zoo": str(self.zoo),
            "train_rows": len(opened.split("train")),
            "test_rows": len(opened.split("test")),
            "views": [p.view for p in probed],
            "explained_variance": {
                p.view: float(p.probe.explained_variance) for p in probed
            },
            "table": [
                {k: None if v != v else v for k, v in row.items()} for row in rows
            ],
        }

    def text(self, result: dict[str, Any]) -> str:
        views = result["views"]
        wide = max(len(r["attribute"]) for r in result["table"])
        head = f"{'':{wide}}   base  " + "  ".join(f"{v:>18}" for v in views)
        lines = [
            f"{result['train_rows']} train rows, {result['test_rows']} test rows; "
            "accuracy and AUC on the test rows",
            head,
            f"{'':{wide}}   rate  "
            + "  ".join(f"{'acc':>10}{'AUC':>8}" for _ in views),
        ]
        for row in result["table"]:
            cells = "  ".join(
                f"{_shown(row[f'{v} accuracy']):>10}{_shown(row[f'{v} auc']):>8}"
                for v in views
            )
            base = _shown(row["base_rate"])
            lines.append(f"{row['attribute']:{wide}}  {base:>5}  {cells}")
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
