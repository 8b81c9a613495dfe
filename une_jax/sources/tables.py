"""The rows of Arrow tables with images, in the layout of Hugging Face `datasets`.

The image column is a struct of bytes and path, or plain binary; the further columns are
what `une_jax.sources.facts` makes of them. The schema's own note of the features, if
there is one, says which is which and what labels mean.
"""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from jaxtyping import Int64

from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import partitions
from une_jax.sources.facts import facts_of, is_text, is_useful
from une_jax.sources.folder import check_size
from une_jax.sources.keys import Keys, pc
from une_jax.zoo.manifest import FIXED_COLUMNS

KEY_COLUMNS = ("key", "image_id", "file_name")
PARTITION_COLUMNS = ("partition", "split")


@contextlib.contextmanager
def reading(where: str, file: Path | None = None) -> Iterator[None]:
    """Errors within are of our type and say `where`; `file` is named without its path."""
    try:
        yield
    except UneError as error:
        raise UneError(f"{where}: {error}") from error.__cause__
    except (OSError, ValueError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())
        if file is not None:
            cause = cause.replace(str(file), file.name)
        raise UneError(f"{where}: cannot read: {cause}") from error


class Rows(NamedTuple):
    """The rows of a table by key: row i of a source is row `order[i]` of the table."""

    keys: Keys
    order: Int64[np.ndarray, " n"]
    attributes: Attributes | None
    columns: dict[str, pa.Array]


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` notes of the columns in a schema's metadata; {} if nothing."""
    try:
        note = json.loads((schema.metadata or {})[b"huggingface"])
        features = note["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def image_column(schema: pa.Schema) -> str:
    """The name of the column that holds the encoded images.

    Raises:
        UneError: there is none, there are several and none is named "image", or two
            columns have one name.
    """
    for name, count in Counter(schema.names).items():
        if count > 1:
            raise UneError(f"two columns are named {name!r}; rename one")
    fits = [field.name for field in schema if _holds_bytes(field.type)]
    features = features_of(schema)
    noted = [name for name in fits if _is_image(features.get(name))]
    found = noted or fits
    if "image" in found:
        found = [name for name in found if name == "image"]
    if not found:
        raise UneError("no column of encoded images (binary, or a struct with bytes)")
    if len(found) > 1:
        raise UneError(
            f"several columns of images ({', '.join(found)}); keep one, or "
            "name one image"
        )
    return found[0]


def _is_image(feature: object) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def _holds_bytes(kind: pa.DataType) -> bool:
    if pt.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return pt.is_binary(kind) or pt.is_large_binary(kind)


def _has_path(kind: pa.DataType) -> bool:
    index = kind.get_field_index("path") if pt.is_struct(kind) else -1
    return index >= 0 and is_text(kind.field(index).type)


def useful_columns(schema: pa.Schema, image: str) -> list[str]:
    """The image column, and those that say something of the images."""
    return [f.name for f in schema if f.name == image or is_useful(f)]


def fact_columns(schema: pa.Schema, image: str) -> list[str]:
    """What `describe` needs of `useful_columns`, as `pyarrow.parquet` names it."""
    paths = [f"{image}.path"] if _has_path(schema.field(image).type) else []
    return paths + [n for n in useful_columns(schema, image) if n != image]


def without_bytes(table: pa.Table, image: str) -> pa.Table:
    """The same of a table in memory: all but the images' bytes."""
    at, field = table.schema.get_field_index(image), table.schema.field(image)
    if not _has_path(field.type):
        return table.drop_columns([image])
    path = field.type.get_field_index("path")
    chunks = [
        pa.StructArray.from_arrays([chunk.flatten()[path]], ["path"])
        for chunk in table[image].chunks
    ]
    kind = pa.struct([("path", field.type.field(path).type)])
    return table.set_column(at, image, pa.chunked_array(chunks, kind))


def bytes_of(array: pa.Array) -> pa.Array:
    """The encoded images in an array of an image column; null where there is none."""
    if pt.is_struct(array.type):
        return array.flatten()[array.type.get_field_index("bytes")]
    return array


def file_in(array: pa.Array | pa.ChunkedArray, row: int) -> bytes:
    """One image of `bytes_of`.

    Raises:
        UneError: it is null, or larger than an image can be.
    """
    value = array[row]
    if not value.is_valid:
        raise UneError(
            "no bytes in the image column; save the data set with its images embedded"
        )
    check_size(value.as_buffer().size)
    return value.as_py()


def check_alike(schema: pa.Schema, other: pa.Schema) -> None:
    """That a file has the columns of the first one.

    Raises:
        UneError: it has not; it names the first that differs.
    """
    for ours, theirs in itertools.zip_longest(schema, other):
        if ours is None or theirs is None or not ours.equals(theirs):
            raise UneError(
                f"has {theirs or 'no'} where other files have {ours or 'none'}; "
                "give the folder of one data set"
            )


def concat(parts: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of all files, with the metadata of the first."""
    plain = [part.replace_schema_metadata(None) for part in parts]
    return pa.concat_tables(plain).replace_schema_metadata(schema.metadata)


def describe(
    table: pa.Table, image: str, origins: Sequence[tuple[str | None, int]]
) -> Rows:
    """Keys, attributes and columns of a table with the columns `fact_columns`.

    Keys are a column "key", "image_id" or "file_name", or else the images' own paths:
    the first of these whose values differ, and ascend through each partition's files.
    Otherwise a key is the number of the row in its partition. So rows by key follow the
    files, as far as partitions do not interleave, and row groups are read once each.

    Args:
        table: of all files, with the schema's metadata.
        image: the image column; `table` may have its paths, and needs no bytes.
        origins: of each file in turn: its partition, if it says so, and its rows. The
            files of one partition follow each other.

    Raises:
        UneError: there are no rows, or as of `facts_of`.
    """
    if not any(length for _, length in origins):
        raise UneError("no rows")
    given: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        if name != image:
            given[name] = table[name]
        elif _has_path(table.schema.field(image).type):
            given[image] = pc.struct_field(table[image], "path")
    used, keys, order = _keys(given, image, origins)
    where = _partition(given, origins)
    paths = given.pop(image, None)
    if paths is not None and used != image and paths.null_count < len(paths):
        given.setdefault("path", paths)
    for name in (*FIXED_COLUMNS, *PARTITION_COLUMNS, used):
        given.pop(name, None)
    attributes, columns = facts_of(given, features_of(table.schema))
    if where is not None:
        columns["partition"] = where
    values = np.empty((len(keys), len(attributes)), bool)
    for i, value in enumerate(attributes.values()):
        values[:, i] = value.to_numpy(zero_copy_only=False)[order]
    return Rows(
        keys=keys,
        order=order,
        attributes=Attributes(keys=keys, names=tuple(attributes), values=values)
        if attributes
        else None,
        columns={name: value.take(pa.array(order)) for name, value in columns.items()},
    )


def _keys(
    given: dict[str, pa.ChunkedArray],
    image: str,
    origins: Sequence[tuple[str | None, int]],
) -> tuple[str, Keys, Int64[np.ndarray, " n"]]:
    """The column that the keys are from ("" for none), the keys, and their order."""
    lengths: dict[str | None, int] = {}
    for partition, length in origins:
        lengths[partition] = lengths.get(partition, 0) + length
    for name in (*KEY_COLUMNS, image):
        if name not in given or not is_text(given[name].type):
            continue
        words = given[name].cast(pa.large_string()).combine_chunks()
        ends = np.cumsum(list(lengths.values()))
        parts = [
            words.slice(end - length, length)
            for end, length in zip(ends.tolist(), lengths.values(), strict=True)
        ]
        if all(map(_ascends, parts)):
            try:
                return name, *Keys.sort(words)
            except (
                UneError
            ):  # A name twice, in two partitions; or one no zoo can store.
                continue
    numbered = []
    for partition, length in lengths.items():
        numbers = pc.utf8_lpad(pa.array(range(length)).cast(pa.string()), 9, "0")
        prefix = "" if partition is None else f"{partition}/"
        numbered.append(pc.binary_join_element_wise(prefix, numbers, ""))
    return "", *Keys.sort(pa.chunked_array(numbered, pa.string()))


def _ascends(words: pa.LargeStringArray) -> bool:
    rises = pc.less(words[:-1], words[1:])
    return not words.null_count and pc.all(rises, min_count=0).as_py()


def _partition(
    given: dict[str, pa.ChunkedArray], origins: Sequence[tuple[str | None, int]]
) -> pa.StringArray | None:
    if any(partition is not None for partition, _ in origins):
        parts = [pa.repeat(pa.scalar(partition, pa.string()), n) for partition, n in origins]  # fmt: skip
        return pa.concat_arrays(parts)
    for name in PARTITION_COLUMNS:
        if name in given and is_text(given[name].type):
            words = given[name].cast(pa.string()).combine_chunks().dictionary_encode()
            spelt = map(partitions.of_name, words.dictionary.to_pylist())
            return pa.array(list(spelt), pa.string()).take(words.indices)
    return None
