"""Checking a NoiseZoo: every byte, every row, and that nothing else lies there."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax.errors import UneError
from une_jax.zoo import atomic, codec, reader, rows, tensors
from une_jax.zoo.keys import Rows
from une_jax.zoo.manifest import (
    DTYPES,
    STATUSES,
    File,
    Manifest,
    Shard,
    record_name,
    table_name,
    tensors_name,
)


def verify(path: str | os.PathLike[str]) -> list[str]:
    """What is wrong with the zoo in folder `path`; empty if it is sound and complete.

    Each problem starts with the name of a file below `path`. It reads every byte, one
    shard at a time, and keeps eight bytes a row. A record beside the manifest is no
    problem: until it is folded in it is needed, and after that it does no harm.

    Raises:
        UneError: `path` is no zoo at all.
    """
    folder = Path(path)
    records = codec.read_records(folder)
    data = codec.read_bytes(folder)
    try:
        manifest = codec.from_bytes(data)
    except UneError as error:
        return [f"{codec.FILE_NAME}: {error}"]
    manifest, damaged = _with_records(manifest, records)
    found = [f"{name}: {problem}" for name, problem in damaged.items()]
    found += _incomplete(manifest, len(damaged))
    seen = Rows()
    for shard in manifest.shards:
        problems, table = _shard(folder, manifest, shard)
        found += problems
        if table is not None:
            seen.add(table)
    found += seen.problems(manifest, lambda: _keys(folder, manifest))
    return found + _strays(folder, manifest, set(records))


def _with_records(
    manifest: Manifest, records: dict[str, bytes]
) -> tuple[Manifest, dict[str, str]]:
    """The manifest with all sound records, and what is wrong with the others."""
    shards, damaged = [], {}
    for name, data in records.items():
        try:
            shards.append(codec.checked_record(manifest, name, data))
        except UneError as error:
            damaged[name] = str(error)
    return manifest.with_shards(shards), damaged


def _incomplete(manifest: Manifest, damaged: int) -> list[str]:
    done, all_shards = len(manifest.shards), manifest.shard_count
    if done + damaged >= all_shards:
        return []
    committed = sum(shard.rows for shard in manifest.shards)
    return [
        f"{codec.FILE_NAME}: unfinished, {committed} of {manifest.row_count} rows "
        f"({done} of {all_shards} shards) are committed; run the build again"
    ]


def _shard(
    folder: Path, manifest: Manifest, shard: Shard
) -> tuple[list[str], pa.Table | None]:
    """The problems of a shard, and its rows if they can be read."""
    damaged = {
        file.name: problem
        for file in (shard.tensors, shard.table)
        if (problem := _bytes(folder, file)) is not None
    }
    found = [f"{name}: {problem}" for name, problem in damaged.items()]
    if shard.table.name in damaged:
        return found, None
    try:
        table = reader.read_table(folder, manifest, shard)
    except UneError as error:
        return [*found, _below(folder, error)], None
    problems = rows.problems(table, manifest, manifest.rows_of(shard.index))
    counts = rows.counts(table)
    listed = {status: getattr(shard, status) for status in STATUSES}
    if counts != listed:
        problems.append(f"has {_counted(counts)}; in the manifest {_counted(listed)}")
    found += [f"{shard.table.name}: {problem}" for problem in problems]
    if shard.tensors.name not in damaged:
        found += _tensors(folder, manifest, shard, rows.is_ok(table))
    return found, table


def _keys(folder: Path, manifest: Manifest) -> Iterator[str]:
    for shard in manifest.shards:
        with contextlib.suppress(UneError):
            table = reader.read_table(folder, manifest, shard)
            yield from table.column("key").to_pylist()


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _bytes(folder: Path, file: File) -> str | None:
    try:
        with open(folder / file.name, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"cannot read ({error.strerror}); restore the file"
    if size != file.bytes:
        return f"{size} bytes, not {file.bytes}; restore the file"
    if digest != file.sha256:
        return "damaged, its sha256 is not the manifest's; restore the file"
    return None


def _tensors(
    folder: Path, manifest: Manifest, shard: Shard, ok: np.ndarray
) -> list[str]:
    path = folder / shard.tensors.name
    try:
        offsets = tensors.offsets(path, manifest.views, shard.rows)
    except UneError as error:
        return [_below(folder, error)]
    found = []
    for view in manifest.views:
        values = np.memmap(
            path,
            DTYPES[view.dtype],
            mode="r",
            offset=offsets[view.name],
            shape=(shard.rows, *view.shape),
        )
        found += tensors.problems(view, values, ok)
    return [f"{shard.tensors.name}: {problem}" for problem in found]


def _strays(folder: Path, manifest: Manifest, records: set[str]) -> list[str]:
    known = {codec.FILE_NAME} | records
    for shard in manifest.shards:
        known |= {shard.tensors.name, shard.table.name}
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name).relative_to(folder).as_posix()
            if file in known:
                continue
            if name.startswith(atomic.TEMP_PREFIX):
                found.append(f"{file}: left by a killed build; the next one removes it")
            elif (index := _index(file)) is None or index >= manifest.shard_count:
                found.append(f"{file}: no part of the zoo; move it elsewhere")
            elif record_name(index) not in records:
                found.append(f"{file}: not committed; the next build writes it again")
    return sorted(found)


def _index(file: str) -> int | None:
    """Of which shard a file is, by its name; None if of none."""
    digits = Path(file).stem
    index = int(digits) if re.fullmatch("[0-9]{5,9}", digits) else 0
    return index if file in (tensors_name(index), table_name(index)) else None


def _below(folder: Path, error: UneError) -> str:
    """The message with the file named as below the zoo, not by its whole path."""
    return str(error).replace(f"{folder}{os.sep}", "", 1)
