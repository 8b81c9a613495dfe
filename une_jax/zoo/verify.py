"""Checking a NoiseZoo: every byte, every row, and that nothing else lies there."""

import hashlib
import os
from pathlib import Path

import numpy as np

from une_jax.errors import UneError
from une_jax.zoo import atomic, codec, reader, rows, tensors
from une_jax.zoo.manifest import (
    DTYPES,
    File,
    Manifest,
    Shard,
    keys_sha256,
    table_name,
    tensors_name,
)


def verify(path: str | os.PathLike[str]) -> list[str]:
    """What is wrong with the zoo in folder `path`; empty if it is sound and complete.

    Each problem starts with the name of a file below `path`. It reads every byte, one
    shard at a time.

    Raises:
        UneError: `path` is no zoo at all.
    """
    folder = Path(path)
    data = codec.read_bytes(folder)
    try:
        manifest = codec.from_bytes(data)
    except UneError as error:
        return [f"{codec.FILE_NAME}: {error}"]
    found = _incomplete(manifest)
    split = rows.paper_split(manifest.row_count)
    keys: list[str] = []
    for shard in manifest.shards:
        problems, shard_keys = _shard(folder, manifest, shard, split)
        found += problems
        keys += shard_keys
    repeated = len(keys) - len(set(keys))
    if repeated:
        found.append(f"rows: {repeated} keys are in more than one row")
    elif len(keys) == manifest.row_count:
        if keys_sha256(keys) != manifest.source["keys_sha256"]:
            found.append("rows: the keys are not those of the manifest's source")
    return found + _strays(folder, manifest)


def _incomplete(manifest: Manifest) -> list[str]:
    done, all_shards = len(manifest.shards), manifest.shard_count
    if done == all_shards:
        return []
    committed = sum(shard.rows for shard in manifest.shards)
    return [
        f"{codec.FILE_NAME}: unfinished, {committed} of {manifest.row_count} rows "
        f"({done} of {all_shards} shards) are committed; run the build again"
    ]


def _shard(
    folder: Path, manifest: Manifest, shard: Shard, split: np.ndarray
) -> tuple[list[str], list[str]]:
    """The problems of a shard, and its keys as far as they can be read."""
    damaged = {
        file.name: problem
        for file in (shard.tensors, shard.table)
        if (problem := _bytes(folder, file)) is not None
    }
    found = [f"{name}: {problem}" for name, problem in damaged.items()]
    if shard.table.name in damaged:
        return found, []
    try:
        table = reader.read_table(folder, manifest, shard)
    except UneError as error:
        return [*found, _below(folder, error)], []
    span = manifest.rows_of(shard.index)
    found += [
        f"{shard.table.name}: {problem}"
        for problem in rows.problems(table, split[span.start : span.stop])
    ]
    if shard.tensors.name not in damaged:
        found += _tensors(folder, manifest, shard, rows.is_ok(table))
    return found, table.column("key").to_pylist()


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


def _strays(folder: Path, manifest: Manifest) -> list[str]:
    known = {codec.FILE_NAME}
    for shard in manifest.shards:
        known |= {shard.tensors.name, shard.table.name}
    pending = set(range(manifest.shard_count)) - {s.index for s in manifest.shards}
    unfinished = {name(i) for i in pending for name in (tensors_name, table_name)}
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name).relative_to(folder).as_posix()
            if file in unfinished:
                found.append(f"{file}: not committed; the next build writes it again")
            elif name.startswith(atomic.TEMP_PREFIX):
                found.append(f"{file}: left by a killed build; the next one removes it")
            elif file not in known:
                found.append(f"{file}: no part of the zoo; move it elsewhere")
    return sorted(found)


def _below(folder: Path, error: UneError) -> str:
    """The message with the file named as below the zoo, not by its whole path."""
    return str(error).replace(f"{folder}{os.sep}", "", 1)
