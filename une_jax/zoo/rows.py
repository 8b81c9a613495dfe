"""The rows of a shard: one Parquet table, row i of it beside row i of each tensor."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from une_jax.errors import UneError
from une_jax.zoo import checks
from une_jax.zoo.manifest import FIXED_COLUMNS, Manifest


def paper_split(n: int) -> np.ndarray:
    """The paper's 80/20 split of n rows: an (n,) array of "train" and "test".

    `arange(n)` shuffled by numpy's legacy generator with seed 42; the first
    int(0.8 n) are "train" (github.com/chentasker/UNE, data_utils.train_test_split).

    >>> np.unique(paper_split(19_867), return_counts=True)[1].tolist()  # test, train
    [3974, 15893]
    """
    order = np.arange(n)
    np.random.RandomState(42).shuffle(order)
    split = np.full(n, "test", dtype="<U5")
    split[order[: int(0.8 * n)]] = "train"
    return split


def schema(manifest: Manifest) -> pa.Schema:
    """The columns of the rows, in order.

    key, sha256 (of the image file; "" if a failed one cannot be read), status ("ok" or
    "failed"), reason ("" when ok), split; a nullable bool per attribute; a nullable
    float32 `residual/<view>` per generator.
    """
    texts = [pa.field(name, pa.string(), nullable=False) for name in FIXED_COLUMNS]
    attributes = [pa.field(name, pa.bool_()) for name in manifest.attribute_names]
    residuals = [
        pa.field(f"residual/{view.name}", pa.float32())
        for view in manifest.views
        if view.kind == "generator"
    ]
    return pa.schema([*texts, *attributes, *residuals])


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
        store_schema=False,
        row_group_size=max(1, table.num_rows),
    )
    return sink.getvalue().to_pybytes()


def decode(data: bytes, manifest: Manifest, rows: int) -> pa.Table:
    """Reads what `encode` wrote.

    Raises:
        UneError: no Parquet, or other columns, types or numbers of rows.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
        _ = table.column_names  # raises where a name is no UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UneError(f"not a Parquet file: {' '.join(str(error).split())}") from error
    if table.num_rows != rows:
        raise UneError(f"{table.num_rows} rows, not {rows}")
    return conform(table, manifest)


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


def problems(table: pa.Table, split: np.ndarray) -> list[str]:
    """What is wrong with the rows of a shard; empty if nothing.

    Args:
        table: of the zoo's schema, as from `conform`.
        split: `paper_split` of these rows.
    """
    keys, digests, statuses, reasons, splits = (
        table.column(name).to_pylist() for name in FIXED_COLUMNS
    )
    found = []
    for i, (key, digest, status, reason) in enumerate(
        zip(keys, digests, statuses, reasons, strict=True)
    ):
        known = checks.SHA256.fullmatch(digest) is not None
        if not key or "\n" in key:
            found.append(f"row {i}: key {key!r} is empty or has a line break")
        if status not in ("ok", "failed"):
            found.append(f"row {i} ({key}): status is {status!r}, not ok or failed")
        elif (status == "ok") != (reason == ""):
            found.append(f"row {i} ({key}): status {status} with reason {reason!r}")
        if not known and (status == "ok" or digest != ""):
            found.append(f"row {i} ({key}): {digest!r} is no sha256")
    if len(set(keys)) != len(keys):
        found.append("a key is there twice")
    if splits != split.tolist():
        found.append("column split is not the paper's split")
    for name in table.column_names:
        if name.startswith("residual/"):
            values = table.column(name).drop_null().to_numpy()
            if not np.isfinite(values).all():
                found.append(f"column {name} has NaN or infinity; write null")
    return found


def is_ok(table: pa.Table) -> np.ndarray:
    """(rows,) bool: whose status is ok."""
    return np.array([s == "ok" for s in table.column("status").to_pylist()], bool)
