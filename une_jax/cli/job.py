"""Some rows' work: run every model on their images, and describe every row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from une_jax import zoo
from une_jax.cli.collection import Collection
from une_jax.cli.reading import Read
from une_jax.zoo.manifest import DTYPES

if TYPE_CHECKING:
    from une_jax.cli.batches import Maker


class Job(NamedTuple):
    """What is to be done with a row, the same for all of them."""

    manifest: zoo.Manifest
    collection: Collection
    models: Sequence["Maker"]

    def compute(
        self, rows: Sequence[int], reads: Sequence[Read]
    ) -> tuple[dict[str, np.ndarray], pa.Table]:
        """Tensors (zeros where a row is not ok) and the table of these rows."""
        n, prompts = len(rows), self.collection.prompts
        status = np.array([read.status for read in reads], dtype="<U7")
        reasons = [read.reason for read in reads]
        arrays = {
            view.name: np.zeros((n, *view.shape), DTYPES[view.dtype])
            for view in self.manifest.views
        }
        measured: dict[str, np.ndarray] = {}
        good = [read.pixels for read in reads if read.pixels is not None]
        for m, model in enumerate(self.models if good else ()):
            # A bad image's place is kept: in another place of the batch, the others'
            # last bits would be others.
            blank = np.zeros_like(good[0][m])
            pixels = [read.pixels[m] if read.pixels else blank for read in reads]
            said = None if prompts is None else [prompts[row] for row in rows]
            out = model.compute(np.stack(pixels), np.asarray(rows), said)
            arrays |= out.arrays
            measured |= out.columns
            for name, value in (out.arrays | out.columns).items():
                finite = np.isfinite(value).reshape(n, -1).all(1)
                for i in np.flatnonzero(~finite & (status == "ok")):
                    status[i], reasons[i] = "failed", f"{name} is not finite"

        bad = status != "ok"
        for value in arrays.values():
            value[bad] = 0
        schema = zoo.schema(self.manifest)
        columns: dict[str, Any] = {
            **self.collection.facts(rows),
            "sha256": [read.sha256 for read in reads],
            "status": status.tolist(),
            "reason": reasons,
            "split": zoo.paper_split(self.manifest.row_count)[list(rows)].tolist(),
        }
        for name in schema.names:
            if name not in columns:  # what the models measure
                value = measured.get(name, np.zeros(n, np.float32))
                columns[name] = pa.array(value, pa.float32(), mask=bad)
        return arrays, pa.table(columns, schema=schema)
