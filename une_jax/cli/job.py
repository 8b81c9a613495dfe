"""One shard's work: read the images, run every model, describe every row."""

import concurrent.futures as cf
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from une_jax import images, zoo
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.zoo.manifest import DTYPES

if TYPE_CHECKING:
    from une_jax.cli.encoder import Encoder
    from une_jax.cli.generator import Generator


class Read(NamedTuple):
    """An image file: its hash, and its pixels for each model or why there are none."""

    sha256: str
    pixels: tuple[np.ndarray, ...] | None
    reason: str


class Job(NamedTuple):
    """What a build knows about its rows. ``values`` is (rows, attributes) bool."""

    folder: Path
    keys: Sequence[str]
    attribute_names: tuple[str, ...]
    values: np.ndarray
    models: Sequence["Generator | Encoder"]

    def start_reading(
        self, pool: cf.Executor, rows: Sequence[int]
    ) -> list["cf.Future[Read]"]:
        """Decode and prepare images in the background, in the order of ``rows``."""
        return [pool.submit(self._read, row) for row in rows]

    def _read(self, row: int) -> Read:
        path = self.folder / self.keys[row]
        digest = ""
        try:
            digest = images.sha256(path)
            image = images.decode(path)
            return Read(digest, tuple(m.prepare(image) for m in self.models), "")
        except UneError as e:
            reason = str(e).removeprefix(f"{path}: ").replace(str(path), path.name)
            return Read(digest, None, reason)

    def compute(
        self,
        manifest: zoo.Manifest,
        rows: Sequence[int],
        reading: Sequence["cf.Future[Read]"],
        progress: Progress,
    ) -> tuple[dict[str, np.ndarray], pa.Table]:
        """Tensors (zeros where a row failed) and the table of these rows."""
        reads = [future.result() for future in reading]
        reasons = [read.reason for read in reads]
        good = np.flatnonzero([read.pixels is not None for read in reads])
        arrays = {
            view.name: np.zeros((len(rows), *view.shape), DTYPES[view.dtype])
            for view in manifest.views
        }
        residuals: dict[str, np.ndarray] = {}
        for m, model in enumerate(self.models):
            if not len(good):
                break
            # A failed image's place is kept: in another place of the batch, the others'
            # last bits would be others.
            blank = np.zeros_like(reads[good[0]].pixels[m])  # type: ignore[index]
            pixels = [
                blank if read.pixels is None else read.pixels[m] for read in reads
            ]
            out = model.compute(np.stack(pixels), np.asarray(rows))
            for name, value in out.arrays.items():
                arrays[name] = value
                finite = np.isfinite(value).reshape(len(value), -1).all(1)
                for i in np.flatnonzero(~finite):
                    reasons[i] = reasons[i] or f"{name} is not finite"
            if out.residual is not None:
                residuals[model.name] = out.residual
        progress.add(len(rows))

        failed = np.array([reason != "" for reason in reasons])
        for value in arrays.values():
            value[failed] = 0
        columns: dict[str, Any] = {
            "key": [self.keys[row] for row in rows],
            "sha256": [read.sha256 for read in reads],
            "status": np.where(failed, "failed", "ok").tolist(),
            "reason": reasons,
            "split": zoo.paper_split(manifest.row_count)[list(rows)].tolist(),
        }
        for a, name in enumerate(self.attribute_names):
            columns[name] = self.values[list(rows), a]
        for view in manifest.views:
            if view.kind == "generator":
                value = residuals.get(view.name, np.zeros(len(rows), np.float32))
                columns[f"residual/{view.name}"] = pa.array(value, mask=failed)
        return arrays, pa.table(columns, schema=zoo.schema(manifest))
