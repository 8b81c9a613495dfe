"""``build --retry failed``: compute failed rows anew and lay them beside the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax import zoo


def failed_rows(folder: Path) -> dict[int, list[int]]:
    """Committed shards that hold failed rows -> those rows, counted through the zoo."""
    opened = zoo.open(folder)
    status = opened.all_rows.column("status").to_pylist()
    out, start = {}, 0
    for shard in opened.manifest.shards:
        span = opened.manifest.rows_of(shard.index)
        rows = [r for i, r in enumerate(span) if status[start + i] == "failed"]
        if rows:
            out[shard.index] = rows
        start += shard.rows
    return out


def merge(
    folder: Path,
    shard: int,
    rows: Sequence[int],
    arrays: dict[str, np.ndarray],
    table: pa.Table,
) -> tuple[dict[str, np.ndarray], pa.Table]:
    """The whole shard: what was ok as it is on disk, ``rows`` as just computed."""
    opened = zoo.open(folder)
    span = opened.manifest.rows_of(shard)
    before = [s for s in opened.manifest.shards if s.index < shard]
    start = sum(s.rows for s in before)
    ok = np.array([s == "ok" for s in opened.all_rows.column("status").to_pylist()])
    first_ok, inside = int(ok[:start].sum()), ok[start : start + len(span)]
    fresh = np.asarray(rows) - span.start
    merged = {}
    for name, value in arrays.items():
        whole = np.zeros((len(span), *value.shape[1:]), value.dtype)
        whole[inside] = opened[name][first_ok : first_ok + int(inside.sum())]
        whole[fresh] = value
        merged[name] = whole
    order = np.arange(len(span))
    order[fresh] = len(span) + np.arange(len(fresh))
    old = opened.all_rows.slice(start, len(span))
    both = pa.concat_tables([old.cast(table.schema), table])
    return merged, both.take(pa.array(order))
