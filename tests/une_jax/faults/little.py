"""A dataset of a few bytes in several versions, and the steps that write it.

It imports no JAX, so a process that runs it may fork.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from une_jax import zoo

CLIP = zoo.View(
    name="clip",
    kind="encoder",
    model_id="a/clip",
    weights_sha256="1" * 64,
    config={},
    shape=(2,),
    dtype="float32",
    settings={},
)
SD = dataclasses.replace(
    CLIP, name="sd", kind="generator", shape=(1, 1, 2), dtype="float16"
)
VERSIONS = 4
Size = tuple[int, int]  # rows of the zoo and of a shard
SIZE = (6, 2)


class History(NamedTuple):
    """What happened to a dataset in peace, and then the steps that faults hit."""

    before: tuple[str, ...]
    steps: tuple[str, ...]


HISTORIES = {
    "build": History((), ("create", "commit 1", "commit 0", "fold")),
    "go on": History(("create", "commit 1", "fold"), ("create", "commit 0", "fold")),
    "replace": History(
        ("create", "commit 0", "commit 1", "commit 2", "fold"), ("replace 0", "fold")
    ),
    "replace a record": History(("create", "commit 0", "commit 1"), ("replace 0",)),
}


@functools.cache
def manifest(size: Size = SIZE) -> zoo.Manifest:
    """Two views of a few images."""
    row_count, shard_rows = size
    keys = [key(row) for row in range(row_count)]
    return zoo.Manifest(
        views=(CLIP, SD),
        source=zoo.describe_source("faces", keys, 64),
        row_count=row_count,
        shard_rows=shard_rows,
        attribute_names=("Male",),
    )


def size_of(asked: zoo.Manifest) -> Size:
    """Rows of the zoo and of a shard."""
    return asked.row_count, asked.shard_rows


def key(row: int) -> str:
    """The key of a row."""
    return f"{row:03d}.jpg"


def status(row: int, version: int) -> str:
    """Version 0 has failed rows, which later versions repair; a few are skipped."""
    if row % 7 == 5:
        return "skipped"
    return "failed" if version == 0 and row % 3 == 1 else "ok"


@functools.cache
def arrays(size: Size, index: int, version: int = 0) -> dict[str, np.ndarray]:
    """The latents of a shard, other ones in each version."""
    asked = manifest(size)
    rows = np.array(asked.rows_of(index))
    ok = np.array([status(row, version) == "ok" for row in rows])
    values = {}
    for j, view in enumerate(asked.views):
        each = np.where(ok, 1 + rows + 100 * version + 50 * j, 0)
        shape = (len(rows), *(1 for _ in view.shape))
        spread = np.broadcast_to(each.reshape(shape), (len(rows), *view.shape))
        values[view.name] = spread.astype(view.dtype)
    return values


@functools.cache
def table(size: Size, index: int, version: int = 0) -> pa.Table:
    """The rows of a shard, of the zoo's own schema."""
    asked = manifest(size)
    rows = asked.rows_of(index)
    split = zoo.paper_split(asked.row_count)
    statuses = [status(row, version) for row in rows]
    columns = {
        "key": [key(row) for row in rows],
        "sha256": [hashlib.sha256(key(row).encode()).hexdigest() for row in rows],
        "status": statuses,
        "reason": ["" if s == "ok" else f"it {s}" for s in statuses],
        "split": [str(split[row]) for row in rows],
        "Male": [row % 2 == 0 for row in rows],
    }
    schema = zoo.schema(asked)
    for name in schema.names:
        if name not in columns:
            columns[name] = [row / 8 if status(row, version) == "ok" else None for row in rows]  # fmt: skip
    return pa.table(columns, schema=schema)


def commit(
    writer: zoo.Writer, index: int, version: int = 0, *, replace: bool = False
) -> None:
    """Commits a version of a shard."""
    size = size_of(writer.manifest)
    content = arrays(size, index, version), table(size, index, version)
    writer.commit(index, *content, replace=replace)


def run(
    path: Path,
    steps: Sequence[str],
    done: Callable[[str], object] = lambda step: None,
) -> None:
    """Takes steps: "create", "commit INDEX [VERSION]", "replace INDEX [VERSION]", "fold".

    The version is 0, or 1 for what is replaced. `done` is told of each step when it is
    over, and of a replacement also when it begins ("replacing INDEX").
    """
    for step in steps:
        name, *numbers = step.split()
        if name == "create":
            zoo.create(path, manifest())
        elif name == "commit":
            commit(zoo.Writer(path), *map(int, numbers))
        elif name == "replace":
            done(f"replacing {numbers[0]}")
            index, version = (*map(int, numbers), 1)[:2]
            commit(zoo.Writer(path), index, version, replace=True)
        elif name == "fold":
            zoo.Writer(path).fold()
        done(step)


def finish(path: Path, history: History) -> None:
    """What a user does after a crash: the same command again.

    Shards that the history replaces get version 1, whatever is there.
    """
    writer = zoo.create(path, manifest())
    replaced = {int(s.split()[1]) for s in history.steps if s.startswith("replace")}
    for index in writer.pending():
        commit(writer, index, int(index in replaced))
    if replaced:
        found = versions(path)
        for index in sorted(replaced):
            if found[index] != 1:
                commit(writer, index, 1, replace=True)
    writer.fold()


def versions(path: Path) -> dict[int, int]:
    """Which version of which shard a reader finds at `path`, having read all of it.

    Raises:
        UneError: `path` is no zoo, or is damaged.
        AssertionError: what the reader finds is no version of what was written.
    """
    opened = zoo.open(path)
    size = size_of(opened.manifest)
    found = {}
    start = first = 0
    for shard in opened.manifest.shards:
        rows = opened.all_rows.slice(start, shard.rows)
        ok = np.array([s == "ok" for s in rows.column("status").to_pylist()])
        latents = {v: opened[v][first : first + ok.sum()] for v in opened.views}
        start, first = start + shard.rows, first + ok.sum()
        fitting = [
            version
            for version in range(VERSIONS)
            if rows.equals(table(size, shard.index, version))
            and all(
                np.array_equal(latents[view], values[ok])
                for view, values in arrays(size, shard.index, version).items()
            )
        ]
        assert fitting, f"shard {shard.index} is of no version"
        found[shard.index] = fitting[0]
    assert start == opened.all_rows.num_rows and first == len(opened.keys)
    return found


def tree(path: Path) -> dict[str, bytes | None]:
    """Every file below `path` with its bytes, every folder with None."""
    return {
        found.relative_to(path).as_posix(): (
            found.read_bytes() if found.is_file() else None
        )
        for found in sorted(path.rglob("*"))
    }
