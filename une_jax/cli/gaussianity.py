"""``une-jax gaussianity``: how Gaussian each view is, beside what that would look like."""

from dataclasses import dataclass
from typing import Any

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.report import tables


@dataclass(frozen=True, kw_only=True)
class Gaussianity(Analysis):
    """Test one-dimensional projections of every view for normality, with controls."""

    projections: int = 5000
    """random directions of a view (and coordinates, at most)"""
    rows: int = 250
    """images a projection, drawn anew for each"""
    seed: int = 42

    def run(self) -> dict[str, Any]:
        from tqdm import tqdm

        from une_jax.report import gaussian

        protocol = gaussian.Protocol(
            projections=self.projections, rows=self.rows, seed=self.seed
        )
        opened = zoo.open(self.zoo)
        views = self.views(opened, "generator", "encoder", "control")
        with tqdm(total=gaussian.count(views), desc="testing", disable=None) as bar:
            rows = gaussian.table(opened, views, protocol, done=lambda _: bar.update())
        joint = gaussian.joint_table(opened, views, protocol)
        self.write(rows, gaussian.figure(rows) if self.figure else None)
        return {
            "zoo": str(self.zoo),
            "views": list(views),
            "projections": self.projections,
            "rows": self.rows,
            "seed": self.seed,
            "critical_values": gaussian.critical_values(protocol),
            "table": rows,
            "joint": joint,
        }

    def text(self, result: dict[str, Any]) -> str:
        shown = (
            "data directions tests AD_% AD_s.e. AD_ceiling_% DP_% DP_ceiling_% SW_% "
            "SW_ceiling_% BY_rejects_%"
        )
        names = [name.replace("_", " ") for name in shown.split()]
        rows = [{name: row[name] for name in names} for row in result["table"]]
        new, old = result["critical_values"].values()
        by_old = [
            {name: row[name] for name in row if name == "data" or "<1.17" in name}
            for row in result["table"]
            if row["directions"] == "random"
        ]
        return "\n".join(
            (
                f"Accepted as normal at the 5 % level, in percent, of {self.rows} "
                "images a projection. Each ceiling is what exactly",
                "Gaussian data of the same size give; s.e. is binomial. BY: rejected "
                "by Shapiro-Wilk at a false discovery rate of 5 %.",
                "",
                tables.text(rows, digits=1),
                "",
                "All directions at once: Mardia's test of the leading principal "
                "components; the spread of the rows' lengths, whose",
                "dispersion is 1 for a Gaussian, more for mixed scales, less on a shell.",
                "",
                tables.text(result["joint"]),
                "",
                "Anderson-Darling above is by the table of scipy 1.17 (critical value "
                f"{new:g}). By the earlier one ({old:g}), which the",
                "paper's numbers suggest, are accepted:",
                "",
                tables.text(by_old, digits=1),
                "",
                "Random projections of high-dimensional data are nearly normal whatever "
                "the data (see the Rademacher control):",
                "acceptance at the ceiling is necessary for a Gaussian, not sufficient. "
                "Look at the other directions and tests too.",
            )
        )
