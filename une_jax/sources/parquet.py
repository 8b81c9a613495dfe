"""Parquet files with images, as `datasets` writes them: one file, or a folder of them.

A Parquet file is read by the row group, so a few groups are kept for the rows that
follow. The files must not change while they are open.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import partitions, tables
from une_jax.sources.base import name_of
from une_jax.sources.blocks import Blocks
from une_jax.sources.keys import Keys
from une_jax.zoo.manifest import MAX_ROWS

BATCH = 64
GROUP_BYTES = 2 << 30
"""What the images of one row group may take in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Parquet:
    """Rows of Parquet files; see `une_jax.sources.Source`."""

    name: str
    kind: str
    keys: Keys
    attributes: Attributes | None
    columns: Mapping[str, pa.Array]
    order: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " groups"]
    groups: Blocks

    def read(self, row: int) -> bytes:
        """The image of a row, from its row group."""
        place = int(self.order[row])
        group = int(np.searchsorted(self.starts, place, side="right")) - 1
        return tables.file_in(self.groups.get(group), place - int(self.starts[group]))


def open_parquet(path: Path) -> Parquet:
    """One Parquet file, or all below a folder.

    A folder's files are of the partitions that their names say: `train-00000-of-00002`
    is of "train", as is `train/0000.parquet`.

    Raises:
        UneError: a file is damaged, the files' columns differ, or none has images.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pa.table({"image": [b"...", b"----"], "Smiling": [True, False]})
    ...     pq.write_table(table, f"{folder}/train.parquet")
    ...     source = open_parquet(Path(folder))
    ...     list(source.keys), source.attributes.names, source.read(1)
    (['train/000000000', 'train/000000001'], ('Smiling',), b'----')
    """
    files = partitions.files_in(path, ".parquet")
    if not files:
        raise UneError(f"no .parquet files in {path}; check the path")
    schema, image = None, ""
    groups: list[tuple[Path, int, int]] = []
    origins, facts = [], []
    for partition, file in files:
        with tables.reading(str(file)), pq.ParquetFile(file) as opened:
            here = opened.schema_arrow
            if schema is None:
                schema, image = here, tables.image_column(here)
            tables.check_alike(schema, here)
            counts = [
                opened.metadata.row_group(group).num_rows
                for group in range(opened.metadata.num_row_groups)
            ]
            if min(counts, default=0) < 0 or sum(counts) > MAX_ROWS:
                raise UneError(f"says it has {sum(counts)} rows; is it damaged?")
            groups += [(file, group, count) for group, count in enumerate(counts)]
            origins.append((partition, sum(counts)))
            facts.append(opened.read(columns=tables.fact_columns(here, image)))
            facts[-1].validate(full=True)  # Reading does not check that text is UTF-8.
    assert schema is not None  # there is at least one file
    with tables.reading(str(path)):
        rows = tables.describe(tables.concat(facts, schema), image, origins)

    def load(index: int) -> pa.ChunkedArray:
        return _load(*groups[index], image)

    return Parquet(
        name=name_of(path),
        kind="parquet",
        starts=np.cumsum([0, *(count for _, _, count in groups)])[:-1],
        groups=Blocks(load),
        **rows._asdict(),
    )


def _load(file: Path, group: int, count: int, image: str) -> pa.ChunkedArray:
    """The images of a row group, in small batches: Arrow has none larger than 2 GB."""
    where = f"{file.name}: row group {group}"
    batches, total = [], 0
    with tables.reading(where, file), pq.ParquetFile(file) as opened:
        inside = opened.schema_arrow.field(image).type
        column = f"{image}.bytes" if pa.types.is_struct(inside) else image
        for batch in opened.iter_batches(BATCH, row_groups=[group], columns=[column]):
            batches.append(tables.bytes_of(batch.column(0)))
            total += batches[-1].nbytes
            if total > GROUP_BYTES:
                raise UneError(
                    f"images of more than {GROUP_BYTES:,} bytes; write the "
                    "file with smaller row groups"
                )
        if sum(map(len, batches)) != count:
            raise UneError("the file has changed; open it again")
    return pa.chunked_array(batches)
