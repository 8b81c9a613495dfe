"""``une-jax similarity``: how alike the views are, beside what chance gives."""

from dataclasses import dataclass
from typing import Annotated, Any

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.report import tables

BEST = ("measure", "kind", "selected", "view", "other", "score", "chance", "z", "p", "excess")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Similarity(Analysis):
    """Eight measures of similarity for every two views, each with a permutation null."""

    rows: int = 1000
    """at most so many rows, drawn at random (of RSA half of 1000)"""
    permutations: int = 200
    """of the rows; p is never below 1 / (permutations + 1)"""
    neighbours: int = 10
    """k of mutual kNN and CKNNA"""
    seed: int = 0
    """of rows and permutations"""
    heatmap: Annotated[str | None, OWN_DEFAULT] = None
    """draw this measure for every two views in --figure, instead of all in brief"""

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        views = self.views(opened, "generator", "control", "encoder")

        from une_jax.report import similarities

        if self.heatmap and self.heatmap not in similarities.NAMES:
            raise UneError(
                f"no measure {self.heatmap!r}; there are {', '.join(similarities.NAMES)}"
            )
        latents = similarities.read(opened, views, rows=self.rows, seed=self.seed)
        found = []
        with Progress(similarities.count(len(views)), "comparing", unit="pair") as bar:
            for pair in similarities.pairs(
                latents,
                permutations=self.permutations,
                k=self.neighbours,
                seed=self.seed,
            ):
                found.append(pair)
                bar.add(1)
        table = similarities.table(found, similarities.kinds_of(opened))
        drawing = None
        if self.figure:
            drawing = (
                similarities.heatmap(table, self.heatmap)
                if self.heatmap
                else similarities.figure(table)
            )
        self.write(table, drawing)
        return {
            "zoo": str(self.zoo),
            "views": list(views),
            "rows": max(pair.rows for pair in found),
            "permutations": self.permutations,
            "neighbours": self.neighbours,
            "table": table,
        }

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report import similarities

        table = result["table"]
        best = [{k: row[k] for k in BEST} for row in table if row["selected"]]
        parts = [
            f"{result['rows']} rows, {result['permutations']} permutations, "
            f"{result['neighbours']} neighbours",
            "Scores:",
            tables.text(similarities.wide(table, "score")),
            "Excess over chance:",
            tables.text(similarities.wide(table, "excess")),
        ]
        if best:
            parts += [
                "The best pair of each kind; chance, z and p are of the best of as many:",
                tables.text(best),
            ]
        parts.append(
            "Excess is 0 at the 95 % quantile of chance and 1 for identical views: only "
            "above 0 is a score more than\nunrelated views with these dimensions and rows "
            "would get. Scores of different measures do not compare."
        )
        return "\n\n".join(parts)
