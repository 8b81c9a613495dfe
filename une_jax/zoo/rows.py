"""The rows of a shard: one Parquet table, row i of it beside row i of each tensor."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from une_jax.errors import UneError
from une_jax.zoo.manifest import FIXED_COLUMNS, STATUSES, Manifest

pc: Any = pyarrow.compute  # most of its functions are made when it is imported
TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
}


def paper_split(n: int, rows: Sequence[int] | None = None) -> np.ndarray:
    """The paper's 80/20 split of n rows: "train" or "test" for each of `rows` (or all).

    `arange(n)` shuffled by numpy's legacy generator with seed 42; the first
    int(0.8 n) are "train" (github.com/chentasker/UNE, data_utils.train_test_split).

    >>> np.unique(paper_split(19_867), return_counts=True)[1].tolist()  # test, train
    [3974, 15893]
    >>> paper_split(19_867, range(2, 6)).tolist()
    ['test', 'train', 'train', 'train']
    """
    train = _in_train(n)
    asked = train if rows is None else train[np.asarray(rows, np.int64)]
    return np.where(asked, "train", "test")


@functools.lru_cache(maxsize=4)
def _in_train(n: int) -> np.ndarray:
    """(n,) bool, kept: shuffling 20 million rows takes seconds."""
    order = np.arange(n, dtype=np.uint32)  # half the memory; the shuffle is the same
    np.random.RandomState(42).shuffle(order)
    train = np.zeros(n, bool)
    train[order[: int(0.8 * n)]] = True
    train.flags.writeable = False
    return train


def schema(manifest: Manifest) -> pa.Schema:
    """The columns of the rows, in order.

    key, sha256 (of the image file; "" if a row that is not ok has none), status ("ok",
    "failed" or "skipped"), reason ("" when ok), split; a nullable bool per attribute;
    the nullable `manifest.columns`; prompt, if the images have their own; a nullable
    float32 for each of `manifest.measures`.
    """
    texts = [pa.field(name, pa.string(), nullable=False) for name in FIXED_COLUMNS]
    attributes = [pa.field(name, pa.bool_()) for name in manifest.attribute_names]
    more = [pa.field(name, TYPES[kind]) for name, kind in manifest.columns.items()]
    if "prompts_sha256" in manifest.source:
        more.append(pa.field("prompt", pa.string(), nullable=False))
    measured = [pa.field(name, pa.float32()) for name in manifest.measures]
    return pa.schema([*texts, *attributes, *more, *measured])


def encode(table: pa.Table) -> bytes:
    """The Parquet file's bytes; equal tables give equal bytes, whatever their chunks."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
        row_group_size=max(1, table.num_rows),
    )
    return sink.getvalue().to_pybytes()


def decode(data: bytes, manifest: Manifest, rows: int) -> pa.Table:
    """Reads what `encode` wrote.

    Raises:
        UneError: no Parquet, or other columns, types or numbers of rows.
    """
    return conform(_read(pa.BufferReader(data), rows, None), manifest)


def read_ok(path: Path, rows: int) -> np.ndarray:
    """(rows,) bool: whose status is ok; of the file, it reads little else.

    Raises:
        UneError: no Parquet, no such column, or it is damaged.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        table = _read(file, rows, ["status"])
    if table.column_names != ["status"] or table.column(0).type != pa.string():
        raise UneError("it has no column of texts named status")
    return is_ok(table)


def _read(source: Any, rows: int, columns: list[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            table = file.read(columns, use_threads=False)
        table.validate(full=True)
        _ = table.column_names  # raises where a name is no UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UneError(f"not a Parquet file: {' '.join(str(error).split())}") from error
    if table.num_rows != rows:
        raise UneError(f"{table.num_rows} rows, not {rows}")
    return table


def conform(table: pa.Table, manifest: Manifest) -> pa.Table:
    """The table with exactly the zoo's schema.

    Raises:
        UneError: a column is missing, unknown, out of order, of another type, or null
            where it must not be.
    """
    expected = schema(manifest)
    if table.column_names != expected.names:
        raise UneError(f"columns are {table.column_names}, not {expected.names}")
    for field in expected:
        column = table.column(field.name)
        if column.type != field.type:
            raise UneError(f"column {field.name} is {column.type}, not {field.type}")
        if not field.nullable and column.null_count:
            raise UneError(f"column {field.name} has nulls")
    return pa.table(table.columns, schema=expected)


def problems(table: pa.Table, manifest: Manifest, span: range) -> list[str]:
    """What is wrong with the rows of a shard; empty if nothing.

    Args:
        table: of the zoo's schema, as from `conform`.
        manifest: of the zoo.
        span: these rows, counted through the zoo.
    """
    key, digest, status, reason, split = (table.column(c) for c in FIXED_COLUMNS)
    ok, unread = pc.equal(status, "ok"), pc.equal(digest, "")
    if manifest.source.get("hashed", True):
        unread = pc.and_not(unread, ok)
    no_key = pc.or_(pc.equal(key, ""), pc.match_substring(key, "\n"))
    no_digest = pc.invert(pc.match_substring_regex(digest, "^[0-9a-f]{64}$"))
    no_status = pc.invert(pc.is_in(status, pa.array(STATUSES)))
    no_reason = pc.xor(ok, pc.equal(reason, ""))
    found = [
        *_first(no_key, "its key is empty or has a line break", key),
        *_first(no_status, f"status {{}}, none of {', '.join(STATUSES)}", key, status),
        *_first(no_reason, "status {} with reason {}", key, status, reason),
        *_first(pc.and_not(no_digest, unread), "{} is no sha256", key, digest),
    ]
    if pc.count_distinct(key).as_py() != table.num_rows:
        found.append("a key is there twice")
    if split.to_pylist() != paper_split(manifest.row_count, span).tolist():
        found.append("column split is not the paper's split")
    for name in manifest.measures:
        values = table.column(name).drop_null().to_numpy()
        if not np.isfinite(values).all():
            found.append(f"column {name} has NaN or infinity; write null")
    return found


def _first(mask: Any, problem: str, key: pa.ChunkedArray, *columns: Any) -> list[str]:
    """The problem of the first row in the mask, told with its key and columns."""
    wrong = np.flatnonzero(mask.to_numpy())
    if not len(wrong):
        return []
    name, *values = (repr(column[int(wrong[0])].as_py()) for column in (key, *columns))
    rest = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
    return [f"row {wrong[0]} ({name}): {problem.format(*values)}{rest}"]


def counts(table: pa.Table) -> dict[str, int]:
    """How many rows are "ok", "failed" and "skipped"."""
    status = table.column("status")
    return {s: pc.sum(pc.equal(status, s)).as_py() or 0 for s in STATUSES}


def is_ok(table: pa.Table) -> np.ndarray:
    """(rows,) bool: whose status is ok."""
    return equals(table, "status", "ok")


def equals(table: pa.Table, column: str, value: str) -> np.ndarray:
    """(rows,) bool: where a column of texts is `value`."""
    return pc.equal(table.column(column), value).to_numpy()
