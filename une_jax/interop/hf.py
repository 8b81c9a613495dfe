"""A zoo as a Hugging Face dataset: Parquet files and a card, float16 kept.

`datasets.load_dataset(folder)` opens it, as does the Hub once it is uploaded. A view is
a column of fixed-size lists, which read three to four times faster than `datasets`' own
ArrayXD columns and keep their dtype; `datasets` itself need not be installed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.interop import stream
from une_jax.zoo.rows import schema as zoo_schema

DATA, CARD = "data", "README.md"
FILE_BYTES = 500_000_000  # the Hub's own size of a shard
GROUP_BYTES = 16 << 20
GROUP_ROWS = 10_000
LEFT_OUT = ("status", "reason", "split")  # all ok; the files are the splits


def write(
    opened: zoo.Zoo,
    folder: Path,
    views: Sequence[zoo.View],
    counts: Mapping[str, int],
    done: Callable[[int], None],
    *,
    file_bytes: int = FILE_BYTES,
) -> list[str]:
    """Writes `data/<split>-*.parquet` and the card into `folder`, which has `data`.

    Args:
        opened: a finished zoo; its ok rows are written.
        folder: an empty folder but for `data`.
        views: the views to write.
        counts: of the splits to write, as from `stream.count`.
        done: is told how many rows were written, part by part.
        file_bytes: latents a file, about.

    Returns:
        What people should know of it, a line each.

    Raises:
        UneError: a view has the name of a column, or the zoo is damaged.
    """
    schema = _schema(opened.manifest, views)
    row_bytes = stream.row_bytes(views)
    per_file = max(1, file_bytes // row_bytes)
    writers = {
        name: _Files(
            [folder / DATA / f"{name}-{i:05d}-of-{n:05d}.parquet" for i in range(n)],
            per_file=-(-count // n),
            per_group=max(1, min(GROUP_BYTES // row_bytes, GROUP_ROWS)),
            schema=schema,
            views=views,
        )
        for name, count in counts.items()
        for n in [-(-count // per_file)]
    }
    for part in stream.parts(opened, views, counts):
        table = _table(part, views, schema)
        column = np.array(part.rows.column("split").to_pylist())
        for name, writer in writers.items():
            writer.add(table.filter(pa.array(column == name)))
        done(table.num_rows)
    for writer in writers.values():
        writer.close()
    card = _card(opened, views, counts)
    (folder / CARD).write_text(card, encoding="utf-8")
    return stream.notes(views)


class _Files:
    """Tables, appended row group by row group to one Parquet file after the other."""

    def __init__(
        self,
        paths: list[Path],
        *,
        per_file: int,
        per_group: int,
        schema: pa.Schema,
        views: Sequence[zoo.View],
    ):
        self.paths, self.per_file, self.per_group = paths, per_file, per_group
        self.schema = schema
        # Noise does not compress, and has no two values alike.
        latents = {f"{view.name}.list.element" for view in views}
        others = [field.name for field in schema if field.name not in _names(views)]
        self.options: dict[str, Any] = {
            "compression": {n: "zstd" for n in others} | {n: "none" for n in latents},
            "use_dictionary": others,
            "write_statistics": others,
        }
        self.waiting, self.rows = [schema.empty_table()], 0
        self.writer, self.left = None, 0

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table)
        self.rows += table.num_rows
        if self.rows >= self.per_group:
            self._flush(last=False)

    def close(self) -> None:
        self._flush(last=True)
        if self.writer is not None:
            self.writer.close()

    def _flush(self, *, last: bool) -> None:
        table = pa.concat_tables(self.waiting)
        while table.num_rows and (last or table.num_rows >= self.per_group):
            if self.writer is None or not self.left:
                if self.writer is not None:
                    self.writer.close()
                self.writer = pq.ParquetWriter(
                    self.paths.pop(0), self.schema, **self.options
                )
                self.left = self.per_file
            group = table.slice(0, min(self.per_group, self.left))
            self.writer.write_table(group, row_group_size=self.per_group)
            self.left -= group.num_rows
            table = table.slice(group.num_rows)
        self.waiting, self.rows = [table], table.num_rows


def _names(views: Sequence[zoo.View]) -> set[str]:
    return {view.name for view in views}


def _schema(manifest: zoo.Manifest, views: Sequence[zoo.View]) -> pa.Schema:
    """The rows' columns and the views; `datasets` knows nullable fields only."""
    fields = [
        pa.field(field.name, field.type)
        for field in zoo_schema(manifest)
        if field.name not in LEFT_OUT
    ]
    taken = _names(views) & {field.name for field in fields}
    if taken:
        raise UneError(
            f"view {min(taken)!r} has the name of a column of the rows; leave it out "
            "with --view"
        )
    fields += [
        pa.field(
            view.name,
            pa.list_(
                pa.from_numpy_dtype(stream.plain_dtype(view)), int(np.prod(view.shape))
            ),
        )
        for view in views
    ]
    features = {field.name: _feature(field.type) for field in fields}
    info = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.schema(fields, metadata={"huggingface": info})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """`datasets`' own spelling of a type, as its Parquet files have it."""
    if isinstance(kind, pa.FixedSizeListType):
        inner = _feature(kind.value_type)
        return {"feature": inner, "length": kind.list_size, "_type": "List"}
    names = {"halffloat": "float16", "float": "float32"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


def _table(part: stream.Part, views: Sequence[zoo.View], schema: pa.Schema) -> pa.Table:
    columns = [part.rows.column(n) for n in schema.names if n not in _names(views)]
    for view in views:
        flat = stream.plain(part.latents[view.name])
        values = pa.array(np.ascontiguousarray(flat).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(values, flat.shape[1]))
    return pa.table(columns, schema=schema)


def _card(opened: zoo.Zoo, views: Sequence[zoo.View], counts: Mapping[str, int]) -> str:
    """The dataset card; its head tells `load_dataset` which file is of which split."""
    head = ["configs:", "- config_name: default", "  data_files:"]
    for name in counts:
        head += [f"  - split: {name}", f"    path: {DATA}/{name}-*"]
    rows = " and ".join(f"{n} {name}" for name, n in counts.items())
    table = ["| column | kind | model | shape | dtype |", "|---|---|---|---|---|"]
    for view in views:
        shape = " x ".join(map(str, view.shape))
        kept = str(stream.plain_dtype(view))
        dtype = kept if kept == view.dtype else f"{kept} (was {view.dtype})"
        table.append(
            f"| `{view.name}` | {view.kind} | {view.model_id} | {shape} | {dtype} |"
        )
    first = views[0]
    example = [
        "```python",
        "import numpy as np",
        "from datasets import load_dataset",
        "",
        f'data = load_dataset("PATH", split="{next(iter(counts))}")',
        f'x = data.with_format("numpy", columns=["{first.name}"], '
        f"dtype=np.{stream.plain_dtype(first)})",
        f'x[:8]["{first.name}"]  # (8, {int(np.prod(first.shape))})',
        "```",
    ]
    settings = json.dumps(
        {
            "source": opened.manifest.source,
            "views": {
                view.name: {
                    "weights_sha256": view.weights_sha256,
                    "settings": view.settings,
                }
                for view in views
            },
        },
        indent=1,
        ensure_ascii=False,
    )
    return "\n".join(
        [
            "---",
            *head,
            "---",
            "",
            "# NoiseZoo",
            "",
            f"Paired latents of {rows} images, written by une-jax. Row i of every view "
            "is of the image `key`; latents are flattened (C order) from the shapes "
            "below. Without `dtype=`, `with_format` turns float16 into float32.",
            "",
            *table,
            "",
            *example,
            "",
            "How the views were made:",
            "",
            "```json",
            settings,
            "```",
            "",
        ]
    )
