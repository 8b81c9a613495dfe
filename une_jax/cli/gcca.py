"""``une-jax gcca``: what all views share, and what a few shared dimensions keep."""

from dataclasses import dataclass
from typing import Annotated, Any

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Gcca(Analysis):
    """The space that views share (the paper's Figure 6), and whether it is chance."""

    k: Annotated[tuple[int, ...], OWN_DEFAULT] = ()
    """dimensions to keep (default: the paper's 16 32 64 128 256 512)"""
    rho: Annotated[float, OWN_DEFAULT] = 1e-2
    """ridge, in units of the mean eigenvalue of each view's Gram matrix"""
    components: Annotated[int | None, OWN_DEFAULT] = None
    """PCA components before (default: the paper's 500 for generators, 310 for encoders)"""
    hybrid: bool = False
    """fit the maps anew without ridge, once the space stands (the paper's second step)"""
    permutations: Annotated[int, OWN_DEFAULT] = 99
    """pairings by chance that a shared dimension has to beat"""
    limit: Annotated[int | None, OWN_DEFAULT] = None
    """fit on at most so many train rows (default: all)"""

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        views = self.views(opened, "generator", "encoder")
        if len(views) < 2:
            raise UneError("a shared space needs two views or more; give --view twice")
        for k in self.k:
            if k < 1:
                raise UneError(f"k is {k}; use 1 or more")
        if not 0 < self.rho < float("inf"):
            raise UneError(f"rho is {self.rho}; use more than 0")
        if self.permutations < 1:
            raise UneError(f"--permutations is {self.permutations}; use 1 or more")
        if self.limit is not None and self.limit < 3:
            raise UneError(f"--limit is {self.limit}; use 3 or more")
        if self.components is not None and self.components < 1:
            raise UneError(f"--components is {self.components}; use 1 or more")

        import jax

        from une_jax.cli.progress import Progress
        from une_jax.report import neighbourhoods, shared, spaces

        ks = tuple(sorted(set(self.k))) or spaces.KS
        sets = spaces.sets(views)
        with Progress(len(views) + len(sets) + 1, "sharing", unit="step") as progress:
            prepared = spaces.prepare(
                opened,
                views,
                components=self.components,
                limit=self.limit,
                done=lambda: progress.add(1),
            )
            found = spaces.spaces(
                prepared,
                k=max(ks),
                rho=self.rho,
                hybrid=self.hybrid,
                done=lambda: progress.add(1),
            )
        with Progress(len(found) * len(ks), "probing", unit="fit") as progress:
            rows = shared.table(
                prepared, found, ks=ks, limit=self.limit, done=lambda: progress.add(1)
            )
        with Progress(len(sets), "permuting", unit="set") as progress:
            dimensions = shared.dimensions(
                prepared,
                found,
                key=jax.random.key(0),
                rho=self.rho,
                permutations=self.permutations,
                done=lambda: progress.add(1),
            )
        near = neighbourhoods.table(found, k=min(ks))
        self.write(rows, shared.figure(rows) if self.figure else None)
        return {
            "zoo": str(self.zoo),
            "train_rows": len(opened.split("train")[: self.limit]),
            "test_rows": len(opened.split("test")),
            "sets": {name: list(members) for name, members in sets.items()},
            "rho": self.rho,
            "table": rows,
            "dimensions": dimensions,
            "neighbourhoods": near,
        }

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report import tables

        sets = [f"{k}: {', '.join(v)}" for k, v in result["sets"].items()]
        return "\n".join(
            [
                f"{result['train_rows']} train rows, {result['test_rows']} test rows; "
                f"ridge {result['rho']:g} of the mean eigenvalue",
                *sets,
                "",
                "Attribute probes on the first k dimensions (means over attributes, test "
                "rows). What is gained",
                "over the unpaired control comes from sharing, not from the views alone.",
                "",
                tables.text(result["table"]),
                "",
                "Shared dimensions: as many as agree more than the best of "
                f"{self.permutations} random pairings' best.",
                "",
                tables.text(result["dimensions"]),
                "",
                "Do spaces find the same images alike? By chance Spearman is 0 and the "
                "overlap as printed. Spaces",
                "that share views agree for that reason too.",
                "",
                tables.text(result["neighbourhoods"]),
            ]
        )
