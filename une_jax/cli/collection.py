"""What a build knows of its rows before it computes: images, labels, prompts, twins."""

import concurrent.futures as cf
import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from une_jax import attributes, sources, zoo
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.sources import Source
from une_jax.sources.base import keep

COLUMN_TYPES = {
    pa.string(): "string",
    pa.int64(): "int64",
    pa.float32(): "float32",
    pa.bool_(): "bool",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection:
    """The images of a build in row order, and all that is told of each.

    Attributes:
        source: where the n images' bytes come from.
        attribute_names: the columns of ``labels``, (n, a) bool.
        prompts: of each row, or None where one prompt serves all.
        twin_of: (n,) the earlier row with the very same bytes, or -1; None where nobody
            looked.
    """

    source: Source
    attribute_names: tuple[str, ...]
    labels: np.ndarray
    prompts: tuple[str, ...] | None = None
    twin_of: np.ndarray | None = None

    def describe(self, size: int | None) -> dict[str, Any]:
        """The ``source`` of the zoo's manifest."""
        columns = {k: COLUMN_TYPES[v.type] for k, v in self.source.columns.items()}
        described = zoo.describe_source(
            self.source.name,
            self.source.keys,
            size,
            kind=self.source.kind,
            columns=columns,
            prompts=self.prompts,
        )
        return described if self.twin_of is None else {**described, "twins": "skipped"}

    def facts(self, rows: Sequence[int]) -> dict[str, Any]:
        """The columns of these rows that were known beforehand."""
        take = pa.array(rows, pa.int64())
        facts: dict[str, Any] = {"key": [self.source.keys[row] for row in rows]}
        for a, name in enumerate(self.attribute_names):
            facts[name] = self.labels[list(rows), a]
        for name, column in self.source.columns.items():
            facts[name] = column.take(take)
        if self.prompts is not None:
            facts["prompt"] = [self.prompts[row] for row in rows]
        return facts


def collect(
    path: Path,
    *,
    kind: str = "auto",
    partition: str | None = None,
    labels: Path | None = None,
    prompts: Path | None = None,
    limit: int | None = None,
    skip_twins: bool = False,
) -> Collection:
    """Opens a source of images and lays beside it what other files say of them.

    Raises UneError where a file is missing, or tells nothing of one of the images.
    """
    source = sources.open(path, kind=kind, partition=partition)
    if limit is not None and limit < len(source.keys):
        source = keep(source, np.arange(limit))
    keys = source.keys
    if labels is not None:
        table = attributes.read(labels)
        extra = "error" if limit is None and partition is None else "ignore"
        names, values = table.names, attributes.align(table, keys, extra=extra)
    elif source.attributes is not None:
        names, values = source.attributes.names, source.attributes.values
    else:
        names, values = (), np.zeros((len(keys), 0), bool)
    return Collection(
        source=source,
        attribute_names=names,
        labels=np.asarray(values),
        prompts=None if prompts is None else read_prompts(prompts, keys),
        twin_of=find_twins(source) if skip_twins else None,
    )


def read_prompts(path: Path, keys: Sequence[str]) -> tuple[str, ...]:
    """The prompt of each key from a CSV file whose first two columns are key, prompt.

    Raises UneError where the file is not that, or has no prompt for a key.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UneError(f"{path}: cannot read as CSV: {error}") from error
    if not lines or any(len(line) < 2 for line in lines):
        raise UneError(f"{path}: write a header and lines of key,prompt")
    said = {line[0]: line[1] for line in lines[1:]}
    if missing := [key for key in keys if key not in said]:
        raise UneError(f"{path}: no prompt for {missing[0]} ({len(missing)} such keys)")
    return tuple(said[key] for key in keys)


def find_twins(source: Source) -> np.ndarray:
    """For each row the first row of the very same bytes, or -1 where that is itself.

    Reads every image once. A row that cannot be read has no twin.
    """
    n = len(source.keys)

    def digest(row: int) -> bytes:
        try:
            return hashlib.sha256(source.read(row)).digest()
        except UneError:
            return row.to_bytes(32, "big")  # nobody else's

    digests = np.empty(n, "V32")
    with cf.ThreadPoolExecutor(reader_count()) as pool, Progress(n, "hashing") as bar:
        for start in range(0, n, 1024):
            part = range(start, min(start + 1024, n))
            digests[part.start : part.stop] = list(pool.map(digest, part))
            bar.add(len(part))
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first_of = first[inverse]
    return np.where(first_of == np.arange(n), -1, first_of)


def reader_count() -> int:
    """Threads that decode images: half the cores, which the device may leave idle."""
    return max(2, (os.cpu_count() or 2) // 2)
