"""Writing a NoiseZoo shard by shard, so that it can stop anywhere and resume.

A shard is committed by tensors, rows, manifest, in this order, each file atomically.
What the manifest does not list does not exist: it is written again on resume, to the
same bytes.
"""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax.errors import UneError
from une_jax.zoo import atomic, codec, rows, tensors
from une_jax.zoo.differences import differences
from une_jax.zoo.manifest import File, Manifest, Shard, table_name, tensors_name

FOLDERS = ("", "shards", "rows")


@dataclasses.dataclass(frozen=True)
class Writer:
    """A zoo open for writing; get one from `create`. All its state is on disk."""

    path: Path

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is on disk now."""
        return codec.load(self.path)

    def pending(self) -> list[int]:
        """The shards that are not committed, in order."""
        manifest = self.manifest
        committed = {shard.index for shard in manifest.shards}
        return [i for i in range(manifest.shard_count) if i not in committed]

    def rows_of(self, index: int) -> range:
        """The rows of shard `index`, counted through the zoo."""
        return self.manifest.rows_of(index)

    def commit(
        self,
        index: int,
        arrays: dict[str, np.ndarray],
        table: pa.Table,
        *,
        replace: bool = False,
    ) -> None:
        """Writes shard `index`; when this returns, it is on disk for good.

        Args:
            index: of the shard.
            arrays: per view (rows, *shape) of the view's dtype; failed rows are zeros.
            table: the rows, with the columns of `rows.schema`.
            replace: write a committed shard anew, as when failed rows were retried. It
                counts as pending from here until the new one is committed.

        Raises:
            UneError: arrays or rows are not what the manifest says, the shard is
                committed already, or the file system refuses.
        """
        manifest = self.manifest
        table = _checked(manifest, index, arrays, table)
        files = {
            tensors_name(index): tensors.encode(arrays),
            table_name(index): rows.encode(table),
        }
        with atomic.locked(self.path):
            manifest = self.manifest  # another process may have committed meanwhile
            if any(shard.index == index for shard in manifest.shards):
                if not replace:
                    raise UneError(f"{self.path}: shard {index} is committed already")
                manifest = manifest.without_shard(index)
                self._write_manifest(manifest)
            for name, data in files.items():
                atomic.make_folder((self.path / name).parent)
                atomic.write_bytes_atomically(self.path / name, data)
            written = [_file(name, data) for name, data in files.items()]
            shard = Shard(
                index=index,
                rows=len(manifest.rows_of(index)),
                tensors=written[0],
                table=written[1],
            )
            self._write_manifest(manifest.with_shard(shard))

    def _write_manifest(self, manifest: Manifest) -> None:
        data = codec.to_bytes(manifest)
        atomic.write_bytes_atomically(self.path / codec.FILE_NAME, data)


def create(path: str | os.PathLike[str], manifest: Manifest) -> Writer:
    """A new zoo at `path`, or the one there if it has the same settings (resume).

    Args:
        path: a folder that is missing, empty or a zoo; parents are made.
        manifest: the settings, with no shards.

    Raises:
        UneError: `path` holds something else or a zoo of other settings (it lists
            them); nothing is touched then.
    """
    folder = Path(path)
    if manifest.shards:
        raise UneError("a new zoo has no shards; leave them out of the manifest")
    if (folder / codec.FILE_NAME).exists():
        differing = differences(codec.load(folder), manifest)
        if differing:
            raise UneError(
                f"{folder} has other settings ({'; '.join(differing)}); ask for the "
                "same or choose another folder"
            )
        with atomic.locked(folder):
            for name in FOLDERS:
                atomic.remove_leftovers(folder / name)
        return Writer(folder)
    if folder.exists() and not folder.is_dir():
        raise UneError(f"{folder} is a file; choose another folder for the zoo")
    if folder.exists() and set(folder.iterdir()) - set(atomic.leftovers(folder)):
        raise UneError(
            f"{folder} is not empty and has no {codec.FILE_NAME}; choose another "
            "folder for the zoo"
        )
    atomic.make_folder(folder)
    with atomic.locked(folder):
        atomic.remove_leftovers(folder)
        data = codec.to_bytes(manifest)
        atomic.write_bytes_atomically(folder / codec.FILE_NAME, data)
    return Writer(folder)


def _checked(
    manifest: Manifest, index: int, arrays: dict[str, np.ndarray], table: pa.Table
) -> pa.Table:
    """The rows in the zoo's schema, if they and the arrays are sound."""
    span = manifest.rows_of(index)
    names = [view.name for view in manifest.views]
    if sorted(arrays) != sorted(names):
        raise UneError(
            f"shard {index}: views are {sorted(arrays)}, not {sorted(names)}"
        )
    if table.num_rows != len(span):
        raise UneError(f"shard {index}: {table.num_rows} rows, not {len(span)}")
    table = rows.conform(table, manifest)
    split = rows.paper_split(manifest.row_count)[span.start : span.stop]
    found = rows.problems(table, split)
    for view in manifest.views:
        found += tensors.problems(view, arrays[view.name], rows.is_ok(table))
    if found:
        rest = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise UneError(f"shard {index}: {'; '.join(found[:3])}{rest}")
    return table


def _file(name: str, data: bytes) -> File:
    digest = hashlib.sha256(data).hexdigest()
    return File(name=name, bytes=len(data), sha256=digest)
