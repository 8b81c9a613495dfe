"""A data set as `datasets` saves it to disk: Arrow streams, mapped into memory.

`Dataset.save_to_disk` writes a folder with `state.json` and `data-*.arrow`,
`DatasetDict.save_to_disk` one such folder per partition and `dataset_dict.json`. The
files must not change while they are open.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import partitions, tables
from une_jax.sources.base import name_of
from une_jax.sources.keys import Keys

MAX_JSON = 16 << 20
STATE, SPLITS = "state.json", "dataset_dict.json"
END = b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow stream ends that was written to its end."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Arrow:
    """Rows of Arrow files; see `une_jax.sources.Source`."""

    name: str
    kind: str
    keys: Keys
    attributes: Attributes | None
    columns: Mapping[str, pa.Array]
    order: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " batches"]
    batches: tuple[pa.Array, ...]

    def read(self, row: int) -> bytes:
        """The image of a row, copied out of the mapped file."""
        place = int(self.order[row])
        batch = int(np.searchsorted(self.starts, place, side="right")) - 1
        return tables.file_in(self.batches[batch], place - int(self.starts[batch]))


def is_saved(path: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return (path / STATE).is_file() or (path / SPLITS).is_file()


def open_arrow(path: Path) -> Arrow:
    """What `save_to_disk` wrote, or a single `.arrow` file.

    Raises:
        UneError: a file is missing or damaged, the files' columns differ, or none has
            images.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pa.table({"image": [b"...", b"----"], "Smiling": [True, False]})
    ...     with pa.ipc.new_stream(f"{folder}/a.arrow", table.schema) as stream:
    ...         stream.write_table(table)
    ...     source = open_arrow(Path(folder, "a.arrow"))
    ...     list(source.keys), source.attributes.names, source.read(1)
    (['000000000', '000000001'], ('Smiling',), b'----')
    """
    schema, image = None, ""
    origins, facts, batches = [], [], []
    for partition, file in _files(path):
        with tables.reading(str(file)):
            table = _mapped(file)
            if schema is None:
                schema = table.schema
                image = tables.image_column(schema)
            tables.check_alike(schema, table.schema)
            useful = table.select(tables.useful_columns(table.schema, image))
            useful.validate(full=True)  # Strangers' offsets may lead anywhere.
            facts.append(tables.without_bytes(useful, image))
            batches += map(tables.bytes_of, table[image].chunks)
        origins.append((partition, table.num_rows))
    if schema is None:
        raise UneError(f"{path}: no rows")
    with tables.reading(str(path)):
        rows = tables.describe(tables.concat(facts, schema), image, origins)
    lengths = [len(batch) for batch in batches]
    return Arrow(
        name=name_of(path),
        kind="arrow",
        starts=np.cumsum([0, *lengths])[:-1],
        batches=tuple(batches),
        **rows._asdict(),
    )


def _mapped(file: Path) -> pa.Table:
    with pa.memory_map(str(file)) as source:  # The arrays keep it mapped.
        end = max(0, source.size() - len(END))
        if source.read_at(len(END), end) != END:
            raise UneError("not an Arrow stream, or cut short; save or fetch it again")
        return pa.ipc.open_stream(source).read_all()


def _files(path: Path) -> list[tuple[str | None, Path]]:
    """The files in order, and the partition of each if it is known."""
    if path.is_file():
        return [(None, path)]
    if not (path / SPLITS).is_file():
        return _parts(path, None)
    names = _json(path / SPLITS).get("splits")
    if not isinstance(names, list) or not all(map(_is_plain, names)):
        raise UneError(f"{path / SPLITS}: expected the names of the partitions")
    found = []
    for partition, name in sorted((partitions.of_name(name), name) for name in names):
        found += _parts(path / name, partition)
    return found


def _parts(folder: Path, partition: str | None) -> list[tuple[str | None, Path]]:
    state = _json(folder / STATE)
    files = state.get("_data_files")
    if not isinstance(files, list):
        files = [None]
    names = [f.get("filename") if isinstance(f, dict) else None for f in files]
    plain = [name for name in names if _is_plain(name)]
    if len(plain) < len(names) or state.get("_indices_data_files"):
        raise UneError(
            f"{folder / STATE}: expected the names of data files; save the data set "
            "again with datasets 2 or later"
        )
    split = state.get("_split")
    if partition is None and isinstance(split, str) and split.isidentifier():
        partition = partitions.of_name(split)
    return [(partition, folder / name) for name in plain]


def _json(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(MAX_JSON))
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UneError(f"{path}: not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _is_plain(name: object) -> TypeGuard[str]:
    """Whether a name is that of a file in a folder, and of none outside of it."""
    if not isinstance(name, str) or name in ("", ".", ".."):
        return False
    return not set(name) & set("/\\\0")
