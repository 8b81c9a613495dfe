"""Attributes of images, in CelebA's own text files, as CSV or as Parquet.

CelebA's three layouts, as downloaded: `list_attr_celeba.txt` (number of images, names,
then `000001.jpg -1  1 ...`), its CSV twin (`image_id,Smiling,...`), and
`list_eval_partition.txt` (`000001.jpg 0`, with 0 train, 1 validation, 2 test).
"""

import csv
import dataclasses
import difflib
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from jaxtyping import Bool

from une_jax.errors import UneError

VALUES = {"1": True, "0": False, "-1": False, "true": True, "false": False}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Attributes:
    """Yes/no attributes of n images: `values[i, j]` is `names[j]` of `keys[i]`.

    Raises:
        UneError: a key or a name occurs twice or is empty.
        ValueError: the shape of `values` is not (n, a).
    """

    keys: Sequence[str]
    names: tuple[str, ...]
    values: Bool[np.ndarray, "n a"]

    def __post_init__(self):
        if self.values.shape != (len(self.keys), len(self.names)):
            raise ValueError(
                f"values are {self.values.shape} for {len(self.keys)} keys and "
                f"{len(self.names)} names"
            )
        for what, words in (("key", self.keys), ("attribute", self.names)):
            repeated = _first_repeated(words)
            if repeated is not None:
                raise UneError(f"{what} {repeated!r} is listed twice")
            if "" in words:
                raise UneError(f"one {what} has an empty name")


def read(path: str | os.PathLike[str]) -> Attributes:
    """Reads `list_attr_celeba.txt`, a CSV or a Parquet file.

    The key is the first column; of a Parquet file it is "key" or "image_id", if there is
    one. Values are 1, 0, -1, true or false.

    Raises:
        UneError: the file cannot be read, or a line or row is malformed (with its
            number).

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "attributes.csv")
    ...     _ = file.write_text("file,Smiling\\n1.jpg,1\\n2.jpg,-1\\n")
    ...     read(file).values.tolist()
    [[True], [False]]
    """
    if _starts_with(path, b"PAR1"):
        return _read_parquet(path)
    lines = read_lines(path)
    if re.fullmatch(r"\d{1,12}", lines[0].strip(), re.ASCII):
        return _read_celeba(path, lines)
    return _read_csv(path, lines)


def _read_celeba(path: str | os.PathLike[str], lines: list[str]) -> Attributes:
    names = lines[1].split() if len(lines) > 1 else []
    if not names:
        raise UneError(f"{path}, line 2: expected the names of the attributes")
    table = (
        (number, line.rsplit(maxsplit=len(names)))
        for number, line in enumerate(lines[2:], start=3)
    )
    attributes = _table(path, names, table)
    if len(attributes.keys) != int(lines[0]):
        raise UneError(
            f"{path}, line 1: says {lines[0].strip()} images, but "
            f"{len(attributes.keys)} follow; fetch the file again"
        )
    return attributes


def _starts_with(path: str | os.PathLike[str], magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error


def _read_parquet(path: str | os.PathLike[str]) -> Attributes:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)  # Reading does not check that text is UTF-8.
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UneError(
            f"{path}: cannot read: {' '.join(str(error).split())}"
        ) from error
    names = table.column_names
    repeated = _first_repeated(names)
    if repeated is not None or len(names) < 2:
        raise UneError(
            f"{path}: column {repeated!r} is there twice"
            if repeated is not None
            else f"{path}: expected a column of keys and columns of attributes"
        )
    key = next((name for name in ("key", "image_id") if name in names), names[0])
    keys = table[key].to_pylist()
    for row, word in enumerate(keys):
        if not isinstance(word, str):
            raise UneError(f"{path}, row {row}: {key!r} is {word!r}, which is no text")
    names.remove(key)
    values = np.zeros((len(keys), len(names)), bool)
    for i, name in enumerate(names):
        column, kind = table[name], table[name].type
        numeric = pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind)
        if numeric:  # null becomes NaN
            numbers = column.cast(pa.float64(), safe=False).to_numpy()
        else:
            numbers = np.full(len(keys), np.nan)
        for row in np.flatnonzero(~np.isin(numbers, (-1, 0, 1)))[:1].tolist():
            raise UneError(
                f"{path}, row {row}: {name!r} is {column[row].as_py()!r}, and none of "
                "1, 0, -1, true, false"
            )
        values[:, i] = numbers == 1
    try:
        return Attributes(keys=tuple(keys), names=tuple(names), values=values)
    except UneError as error:
        raise UneError(f"{path}: {error}") from error


def _read_csv(path: str | os.PathLike[str], lines: list[str]) -> Attributes:
    try:
        reader = csv.reader(lines, strict=True)
        table = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UneError(f"{path}: not CSV: {error}") from error
    names = [name.strip() for name in table[0][1][1:]]
    if not names:
        raise UneError(
            f"{path}, line 1: expected the number of images (CelebA's layout) or the "
            "header of a CSV file with attributes after the first column"
        )
    return _table(path, names, table[1:])


def _table(
    path: str | os.PathLike[str],
    names: list[str],
    table: Iterable[tuple[int, list[str]]],
) -> Attributes:
    repeated = _first_repeated(names)
    if repeated is not None or "" in names:
        raise UneError(
            f"{path}: attribute name {repeated or ''!r} is repeated or empty"
        )
    seen: dict[str, int] = {}
    rows = []
    for number, fields in table:
        if len(fields) != len(names) + 1:
            raise UneError(
                f"{path}, line {number}: expected a key and {len(names)} values, "
                f"found {len(fields)} fields"
            )
        key = fields[0].strip()
        if not key:
            raise UneError(f"{path}, line {number}: the key is empty")
        if key in seen:
            raise UneError(
                f"{path}, line {number}: {key!r} is already on line {seen[key]}"
            )
        seen[key] = number
        try:
            rows.append([VALUES[field.strip().lower()] for field in fields[1:]])
        except KeyError as error:
            raise UneError(
                f"{path}, line {number}: value {error.args[0]!r} is none of 1, 0, -1, "
                "true, false"
            ) from error
    values = np.array(rows, bool).reshape(len(rows), len(names))
    return Attributes(keys=tuple(seen), names=tuple(names), values=values)


def write_celeba(path: str | os.PathLike[str], attributes: Attributes) -> None:
    """Writes the layout of `list_attr_celeba.txt`, which `read` reads back.

    Raises:
        UneError: a key or a name cannot stand in this layout, or the file cannot be
            written.
    """
    for name in attributes.names:
        if name.split() != [name]:
            raise UneError(
                f"attribute {name!r} has white space; CelebA's layout cannot"
            )
    lines = [str(len(attributes.keys)), " ".join(attributes.names)]
    for key, row in zip(attributes.keys, attributes.values, strict=True):
        lines.append(" ".join([_plain_key(key), *(" 1" if v else "-1" for v in row)]))
    _write(path, lines)


def read_partition(path: str | os.PathLike[str]) -> dict[str, int]:
    """Reads `list_eval_partition.txt`: key -> 0 (train), 1 (validation) or 2 (test).

    Raises:
        UneError: the file cannot be read, or a line is malformed (with its number).
    """
    partition: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        key, _, part = (text.strip() for text in line.strip().rpartition(" "))
        if not key or part not in ("0", "1", "2"):
            raise UneError(f"{path}, line {number}: expected a key and 0, 1 or 2")
        if key in partition:
            raise UneError(f"{path}, line {number}: {key!r} is listed twice")
        partition[key] = int(part)
    return partition


def write_partition(path: str | os.PathLike[str], partition: Mapping[str, int]) -> None:
    """Writes the layout of `list_eval_partition.txt`, in the order of the mapping.

    Raises:
        UneError: a part is none of 0, 1, 2, a key cannot stand in this layout, or the
            file cannot be written.
    """
    for key, part in partition.items():
        if part not in (0, 1, 2):
            raise UneError(f"{key!r}: part {part} is none of 0, 1, 2")
    _write(path, [f"{_plain_key(key)} {int(part)}" for key, part in partition.items()])


def align(
    attributes: Attributes,
    keys: Sequence[str],
    *,
    extra: Literal["error", "ignore"] = "error",
) -> Bool[np.ndarray, "n a"]:
    """The values in the order of `keys`.

    Args:
        attributes: of at least the images `keys`.
        keys: n keys, as from `images.list_images`.
        extra: whether attributes of images that are not among `keys` are an error.

    Raises:
        UneError: an image has no attributes, or (with `extra="error"`) attributes have
            no image. It names up to three and counts the rest.
    """
    place = {key: i for i, key in enumerate(attributes.keys)}
    missing = [key for key in keys if key not in place]
    if missing:
        raise UneError(
            f"no attributes for {_some(missing)}; add them or drop the images"
        )
    unknown = sorted(set(place) - set(keys))
    if unknown and extra == "error":
        raise UneError(
            f"attributes of unknown images: {_some(unknown)}; is this the folder?"
        )
    return attributes.values[[place[key] for key in keys]]


def resolve(names: Sequence[str], wanted: str) -> int:
    """The index of the attribute `wanted` among `names`.

    Raises:
        UneError: there is none; it offers the closest names.

    >>> resolve(("Male", "Smiling"), "Smiling")
    1
    """
    if wanted in names:
        return list(names).index(wanted)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(wanted.lower(), list(lower), n=3)
    hint = " or ".join(lower[name] for name in close)
    known = f"did you mean {hint}?" if close else f"known: {', '.join(names) or 'none'}"
    raise UneError(f"unknown attribute {wanted!r}; {known}")


def _first_repeated(words: Sequence[str]) -> str | None:
    if all(before < after for before, after in itertools.pairwise(words)):
        return None  # No set of millions of keys is needed where they are sorted.
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return None


def _some(words: list[str]) -> str:
    rest = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + rest


def _plain_key(key: str) -> str:
    if not key or key != key.strip() or "\n" in key or "\r" in key:
        raise UneError(
            f"key {key!r} cannot stand in a CelebA text file; rename the image"
        )
    return key


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 text file, without empty ones at its end.

    Raises:
        UneError: the file is no text, empty, or cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise UneError(f"{path}: not a UTF-8 text file") from error
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    if lines == [""]:
        raise UneError(f"{path}: empty file; fetch it again")
    return lines


def _write(path: str | os.PathLike[str], lines: list[str]) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise UneError(f"{path}: cannot write: {error.strerror}") from error
