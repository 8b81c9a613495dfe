"""The rows of a zoo as one flat Parquet table, for Embedding Atlas, pandas or DuckDB."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.interop import projection, stream
from une_jax.zoo.rows import schema as zoo_schema

FILE = "rows.parquet"
GROUP_ROWS = 65_536


def write(
    opened: zoo.Zoo,
    folder: Path,
    views: Sequence[zoo.View],
    counts: Mapping[str, int],
    done: Callable[[int], None],
) -> list[str]:
    """Writes `rows.parquet` into `folder`: all rows, or those with a place in a view.

    Args:
        opened: a finished zoo.
        folder: a folder without such a file.
        views: none, or one whose first two principal components become the columns x
            and y; then only ok rows are written, for others have no place.
        counts: of the splits to write, as from `stream.count`.
        done: is told how many rows were written, part by part.

    Returns:
        What people should know of it, a line each.

    Raises:
        UneError: there are more views, a column is called x or y already, or the zoo is
            damaged.
    """
    if len(views) > 1:
        raise UneError("a table has one pair of x and y; give one --view")
    schema, notes = zoo_schema(opened.manifest), []
    if not views:
        tables = _all_rows(opened, counts)
    else:
        taken = {"x", "y"} & set(schema.names)
        if taken:
            raise UneError(
                f"column {min(taken)!r} is in the way of the projection's; export "
                "without --view"
            )
        for name in ("x", "y"):
            schema = schema.append(pa.field(name, pa.float32()))
        axes = _axes(opened, views[0], counts)
        tables = _placed_rows(opened, views[0], counts, schema, axes)
        shares = " and ".join(f"{100 * ratio:.3g} %" for ratio in axes.ratio)
        notes.append(f"x and y have {shares} of the variance of {views[0].name}")
    with pq.ParquetWriter(folder / FILE, schema, compression="zstd") as writer:
        waiting = [schema.empty_table()]
        for table in tables:
            waiting.append(table)
            if sum(t.num_rows for t in waiting) >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = waiting[:1]
            done(table.num_rows)
        if len(waiting) > 1:
            writer.write_table(pa.concat_tables(waiting))
    return notes


def _all_rows(opened: zoo.Zoo, splits: Collection[str]) -> Iterator[pa.Table]:
    for shard in opened.manifest.shards:
        table = opened.shard_rows(shard.index)
        yield table.filter(pa.array(stream.in_splits(table, splits)))


def _axes(opened: zoo.Zoo, view: zoo.View, splits: Collection[str]) -> projection.Axes:
    for shard in opened.manifest.shards:  # once, not in each of the passes
        stream.require_intact(opened, shard)

    def latents() -> Iterator[np.ndarray]:
        for part in stream.parts(opened, [view], splits, check=False):
            yield stream.plain(part.latents[view.name])

    return projection.principal_axes(latents, math.prod(view.shape))


def _placed_rows(
    opened: zoo.Zoo,
    view: zoo.View,
    splits: Collection[str],
    schema: pa.Schema,
    axes: projection.Axes,
) -> Iterator[pa.Table]:
    """The ok rows with their places on the first two principal axes of `view`."""
    for part in stream.parts(opened, [view], splits, check=False):
        places = axes.project(stream.plain(part.latents[view.name]))
        columns = [pa.array(column, pa.float32()) for column in places.T]
        yield pa.table([*part.rows.columns, *columns], schema=schema)
