"""``build --retry failed``: compute failed rows anew and lay them beside the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax import zoo


def failed_rows(folder: Path) -> dict[int, list[int]]:
    """Committed shards that hold failed rows -> those rows, counted through the zoo."""
    opened = zoo.open(folder)
    out = {}
    for shard in opened.manifest.shards:
        if shard.failed:
            status = opened.shard_rows(shard.index).column("status").to_pylist()
            span = opened.manifest.rows_of(shard.index)
            out[shard.index] = [r for r, s in zip(span, status, strict=True) if s == "failed"]  # fmt: skip
    return out


def merge(
    folder: Path,
    index: int,
    rows: Sequence[int],
    arrays: dict[str, np.ndarray],
    table: pa.Table,
) -> tuple[dict[str, np.ndarray], pa.Table]:
    """The whole shard: what was there as it is on disk, ``rows`` as just computed."""
    opened = zoo.open(folder)
    span = opened.manifest.rows_of(index)
    old = opened.shard_rows(index)
    ok = np.array(old.column("status").to_pylist()) == "ok"
    first = sum(shard.ok for shard in opened.manifest.shards if shard.index < index)
    fresh = np.asarray(rows) - span.start
    merged = {}
    for name, value in arrays.items():
        whole = np.zeros((len(span), *value.shape[1:]), value.dtype)
        whole[ok] = opened[name][first : first + int(ok.sum())]
        whole[fresh] = value
        merged[name] = whole
    order = np.arange(len(span))
    order[fresh] = len(span) + np.arange(len(fresh))
    both = pa.concat_tables([old.cast(table.schema), table])
    return merged, both.take(pa.array(order))
