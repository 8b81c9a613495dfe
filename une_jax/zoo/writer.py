"""Writing a NoiseZoo shard by shard, so that it can stop anywhere and resume.

A shard is committed by tensors, rows, record, in this order, each file atomically. What
neither the manifest nor a record lists does not exist: it is written again on resume,
to the same bytes. A commit costs the same in a zoo of ten shards and of ten thousand,
for only `Writer.fold` rewrites the manifest.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax.errors import UneError
from une_jax.zoo import atomic, codec, rows, sealed, tensors
from une_jax.zoo.differences import differences
from une_jax.zoo.manifest import (
    File,
    Manifest,
    Shard,
    record_name,
    table_name,
    tensors_name,
)

FOLDERS = ("", "shards", "rows", codec.RECORDS)


class AlreadyCommitted(UneError):
    """The shard is committed, maybe by another worker; nothing of it was touched."""


@dataclasses.dataclass(frozen=True)
class Writer:
    """A zoo open for writing; get one from `create`. All its state is on disk.

    Threads, processes and machines may write one zoo at a time.
    """

    path: Path

    @functools.cached_property
    def settings(self) -> Manifest:
        """The manifest without shards; that never changes."""
        return dataclasses.replace(codec.load_folded(self.path), shards=())

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is on disk now, with the shards not folded in yet."""
        return codec.load(self.path)

    def pending(self) -> list[int]:
        """The shards that are not committed, in order."""
        manifest = self.manifest
        committed = {shard.index for shard in manifest.shards}
        return [i for i in range(manifest.shard_count) if i not in committed]

    def rows_of(self, index: int) -> range:
        """The rows of shard `index`, counted through the zoo."""
        return self.settings.rows_of(index)

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
            arrays: per view (rows, *shape) of the view's dtype; zeros where not ok.
            table: the rows, with the columns of `rows.schema`.
            replace: write a committed shard anew, as when failed rows were retried. It
                counts as pending from here until the new one is committed.

        Raises:
            AlreadyCommitted: the shard is committed already.
            UneError: arrays or rows are not what the manifest says, or the file system
                refuses.
        """
        table = _checked(self.settings, index, arrays, table)
        contents = {
            tensors_name(index): tensors.encode(arrays),
            table_name(index): rows.encode(table),
        }
        files = [_file(name, data) for name, data in contents.items()]
        shard = Shard(
            index=index,
            rows=len(self.rows_of(index)),
            **rows.counts(table),
            tensors=files[0],
            table=files[1],
        )
        with contextlib.ExitStack() as stack:
            staged = []
            for name, data in contents.items():
                atomic.make_folder((self.path / name).parent)
                staged.append(
                    stack.enter_context(atomic.staged(self.path / name, data))
                )
            stack.enter_context(atomic.locked(self.path))
            if self._committed(index):
                if not replace:
                    raise AlreadyCommitted(
                        f"{self.path}: shard {index} is committed already"
                    )
                self._rewrite(without=index)
            for file in staged:
                file.publish()
            record = self.path / record_name(index)
            atomic.make_folder(record.parent)
            atomic.write_bytes_atomically(record, codec.record_to_bytes(shard))

    def fold(self) -> None:
        """Moves all records into `manifest.json`.

        Raises:
            UneError: a record is damaged, or the file system refuses.
        """
        with atomic.locked(self.path):
            if (self.path / codec.RECORDS).exists():
                self._rewrite()

    def _rewrite(self, without: int | None = None) -> None:
        """Writes all shards but one into `manifest.json`, and removes their records."""
        # Listed first: even without a lock, no record is removed that was not read.
        records = [Path(name).name for name in codec.read_records(self.path)]
        manifest = self.manifest
        if without is not None:
            manifest = manifest.without_shard(without)
        data = codec.to_bytes(manifest)
        atomic.write_bytes_atomically(self.path / codec.FILE_NAME, data)
        atomic.remove_files(self.path / codec.RECORDS, records)

    def _committed(self, index: int) -> bool:
        record = self.path / record_name(index)
        with atomic.refusals(f"look for {record}"):
            if record.exists():
                return True
        seal = codec.read_bytes(self.path, sealed.SEAL_BYTES)
        return index in _folded(self.path, seal)


@functools.lru_cache(maxsize=4)
def _folded(path: Path, seal: bytes) -> frozenset[int]:
    """The shards in the manifest that starts with `seal`."""
    return frozenset(shard.index for shard in codec.load_folded(path).shards)


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
    with atomic.refusals(f"use {folder}"):
        _create(folder, manifest)
    return Writer(folder)


def _create(folder: Path, manifest: Manifest) -> None:
    if folder.exists() and not folder.is_dir():
        raise UneError(f"{folder} is a file; choose another folder for the zoo")
    atomic.make_folder(folder)
    with atomic.locked(folder):
        if (folder / codec.FILE_NAME).exists():
            differing = differences(codec.load_folded(folder), manifest)
            if differing:
                raise UneError(
                    f"{folder} has other settings ({'; '.join(differing)}); ask for "
                    "the same or choose another folder"
                )
        elif set(folder.iterdir()) - set(atomic.leftovers(folder)):
            raise UneError(
                f"{folder} is not empty and has no {codec.FILE_NAME}; choose another "
                "folder for the zoo"
            )
        else:
            data = codec.to_bytes(manifest)
            atomic.write_bytes_atomically(folder / codec.FILE_NAME, data)
        for name in FOLDERS:
            atomic.remove_leftovers(folder / name)


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
    found = rows.problems(table, manifest, span)
    for view in manifest.views:
        found += tensors.problems(view, arrays[view.name], rows.is_ok(table))
    if found:
        rest = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise UneError(f"shard {index}: {'; '.join(found[:3])}{rest}")
    return table


def _file(name: str, data: bytes) -> File:
    digest = hashlib.sha256(data).hexdigest()
    return File(name=name, bytes=len(data), sha256=digest)
