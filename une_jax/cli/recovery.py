"""``une-jax recovery``: how much of the true embedding is in each view and space."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.progress import Progress
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Recovery(Analysis):
    """On miniature faces, score views and shared spaces against the true embedding."""

    truth: Path
    """truth.safetensors that une-jax faces wrote beside the images"""

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        named = self.views(opened, "generator", "encoder")
        kinds = {view.name: view.kind for view in opened.manifest.views}
        if sum(kinds[name] in ("generator", "encoder") for name in named) < 2:
            raise UneError("a shared space needs two generator or encoder views")

        from une_jax.report import recovered, recovery

        with Progress(len(named), "reading", unit="view") as progress:
            study = recovery.prepare(opened, self.truth, named, lambda: progress.add(1))
        sizes = recovery.sizes_of(study)
        steps = 2 + len(recovery.numbers_of(study)) + len(sizes)
        with Progress(steps, "recovering", unit="step") as progress:

            def done():
                progress.add(1)

            found = recovery.by_view(study)
            done()
            found += recovery.by_k(study)
            done()
            found += recovery.by_views(study, done=done)
            found += recovery.by_n(study, opened, sizes, done=done)
        table = recovered.table(found)
        self.write(table, recovered.figure(found) if self.figure else None)
        return {
            "zoo": str(self.zoo),
            "train_rows": len(study.z),
            "test_rows": len(study.z_new),
            "dimensions_of_truth": study.z.shape[1],
            "table": table,
        }

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report import tables

        return (
            f"{result['train_rows']} train rows, {result['test_rows']} test rows; the "
            f"truth has {result['dimensions_of_truth']} dimensions\n\n"
            f"{tables.text(result['table'])}\n\n"
            "R2 is that of a linear map from the space to the truth, on the test rows; "
            "dimensions is its\nsum over all of the truth. Angles (degrees) are those of "
            "the held-out canonical pairs: 0 is\nrecovered, 90 is not there."
        )
