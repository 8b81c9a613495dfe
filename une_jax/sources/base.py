"""What every collection of images offers: sorted keys, facts per row, bytes by row."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources.keys import Keys, pc

TYPES = (pa.string(), pa.int64(), pa.float32(), pa.bool_())


@runtime_checkable
class Source(Protocol):
    """A collection of n images, opened; what is in it is not to change meanwhile.

    Attributes:
        name: for a manifest: the last part of the path, so of no one machine.
        kind: "folder", "celeba", "classes", "parquet", "arrow" or "webdataset".
        keys: n different keys, sorted by code point; a row is an index into them.
        attributes: the yes/no attributes of all rows, or None.
        columns: further facts by name, n each: string, int64, float32 or bool, null
            where unknown. "partition" is "train", "validation" or "test".
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def keys(self) -> Sequence[str]: ...
    @property
    def attributes(self) -> Attributes | None: ...
    @property
    def columns(self) -> Mapping[str, pa.Array]: ...

    def read(self, row: int) -> bytes:
        """The encoded image file of a row; safe to call from several threads.

        Raises:
            UneError: it cannot be read. The message has no path: the caller knows the
                key, and what a zoo stores of a failed row names no machine.
            IndexError: there is no such row.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """The rows of a source that `keep` or `only` left, in its order."""

    source: Source
    rows: Int64[np.ndarray, " m"]
    name: str
    kind: str
    keys: Sequence[str]
    attributes: Attributes | None
    columns: Mapping[str, pa.Array]

    def read(self, row: int) -> bytes:
        """As of the source that this is a part of."""
        return self.source.read(int(self.rows[row]))


def keep(source: Source, rows: Int64[np.ndarray, " m"]) -> Source:
    """The source reduced to `rows`, which are ascending."""
    keys = source.keys
    if isinstance(keys, Keys):
        kept = keys.take(rows)
    else:
        kept = Keys(pa.array([keys[row] for row in rows.tolist()], pa.large_string()))
    attributes = source.attributes
    if attributes is not None:
        attributes = dataclasses.replace(
            attributes, keys=kept, values=attributes.values[rows]
        )
    return Subset(
        source=source,
        rows=rows,
        name=source.name,
        kind=source.kind,
        keys=kept,
        attributes=attributes,
        columns={k: v.take(pa.array(rows)) for k, v in source.columns.items()},
    )


def only(source: Source, partition: str) -> Source:
    """The rows whose "partition" column says `partition`.

    Raises:
        UneError: the source has no partitions, or none of its rows is in this one.
    """
    column = source.columns.get("partition")
    if column is None:
        raise UneError(f"{source.name} says of no image which partition it is in")
    inside = pc.fill_null(pc.equal(column, partition), False)
    rows = np.flatnonzero(inside.to_numpy(zero_copy_only=False))
    if not len(rows):
        known = ", ".join(sorted(filter(None, column.unique().to_pylist()))) or "none"
        raise UneError(
            f"{source.name}: nothing in partition {partition!r}; has {known}"
        )
    return keep(source, rows.astype(np.int64))


def check(source: Source) -> None:
    """That a source keeps its promises, and that no two of its facts share a name.

    Raises:
        UneError: an attribute and a column have one name.
        ValueError: lengths or types are not as promised.
    """
    attributes, n = source.attributes, len(source.keys)
    if attributes is not None:
        if len(attributes.keys) != n:
            raise ValueError(f"{len(attributes.keys)} rows of attributes for {n} keys")
        for name in attributes.names:
            if name in source.columns:
                raise UneError(
                    f"{source.name}: {name!r} is an attribute and a column; rename one"
                )
    for name, column in source.columns.items():
        if column.type not in TYPES or len(column) != n:
            raise ValueError(f"column {name!r}: {len(column)} of {column.type}")


def name_of(path: str | os.PathLike[str]) -> str:
    """The last part of a path, for a manifest.

    >>> name_of("/data/celeba/")
    'celeba'
    """
    return Path(path).resolve().name or "images"
