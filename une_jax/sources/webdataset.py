"""WebDataset archives: a tar of images and what belongs to them, or a folder of tars.

Members whose names are equal up to the first dot of the file's own name belong together::

    00/17.jpg     an image; its key is the member's name, after the tar's if in a folder
    00/17.json    its yes/no fields become attributes; others are left alone
    00/17.cls     column "class", a whole number
    00/17.txt     column "caption"

Only headers and the small files are read at first, and an image when it is asked for, by
its place in the tar. Archives must not change while they are open.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64

from une_jax import images
from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import partitions, tar
from une_jax.sources.base import name_of
from une_jax.sources.folder import check_size
from une_jax.sources.keys import Keys

MAX_NOTE = 1 << 20
"""Bytes of one .json, .cls or .txt."""

MAX_FIELDS = 1000
UNKNOWN = 2
"""Between False and True, while fields are gathered."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WebDataset:
    """Images in tar files; see `une_jax.sources.Source`."""

    name: str
    kind: str
    keys: Keys
    attributes: Attributes | None
    columns: Mapping[str, pa.Array]
    files: tuple[Path, ...]
    file: Int32[np.ndarray, " n"]
    offset: Int64[np.ndarray, " n"]
    size: Int64[np.ndarray, " n"]

    def read(self, row: int) -> bytes:
        """The image of a row, from its place in its tar."""
        path, size = self.files[self.file[row]], int(self.size[row])
        check_size(size)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(handle, size, int(self.offset[row]))
            finally:
                os.close(handle)
        except OSError as error:
            raise UneError(f"{path.name}: cannot read: {error.strerror}") from error
        if len(data) < size:
            raise UneError(f"{path.name}: has been cut short; fetch it again")
        return data


def open_webdataset(path: Path) -> WebDataset:
    """A tar file, or all tar files below a folder.

    A folder's tars are of the partitions that their names say, as `train-0000.tar`.

    Raises:
        UneError: there is no tar or no image in it, a tar is damaged or holds what
            `tar.members` refuses, or a small file is malformed.

    >>> import io, tarfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with tarfile.open(f"{folder}/a.tar", "w") as archive:
    ...         for name, data in {"1.jpg": b"...", "1.json": b'{"Male": true}'}.items():
    ...             member = tarfile.TarInfo(name)
    ...             member.size = len(data)
    ...             archive.addfile(member, io.BytesIO(data))
    ...     source = open_webdataset(Path(folder, "a.tar"))
    ...     list(source.keys), source.attributes.names, source.read(0)
    (['1.jpg'], ('Male',), b'...')
    """
    found = partitions.files_in(path, ".tar")
    if not found:
        raise UneError(f"no .tar files in {path}; check the path")
    notes = _Notes()
    keys, offsets, sizes, numbers, where = [], [], [], [], []
    for number, (partition, file) in enumerate(found):
        prefix = "" if file == path else f"{file.relative_to(path).as_posix()[:-4]}/"
        pictures = _index(file, notes)
        names = (f"{prefix}{picture.name}" for picture in pictures)
        keys.append(pa.array(names, pa.large_string()))
        offsets.append(np.array([p.offset for p in pictures], np.int64))
        sizes.append(np.array([p.size for p in pictures], np.int64))
        numbers.append(np.full(len(pictures), number, np.int32))
        where.append(pa.repeat(pa.scalar(partition, pa.string()), len(pictures)))
    if not any(map(len, keys)):
        endings = ", ".join(images.EXTENSIONS)
        raise UneError(f"no images in {path}; tars should hold {endings}")
    try:
        sorted_keys, order = Keys.sort(pa.chunked_array(keys))
    except UneError as error:
        raise UneError(f"{path}: {error}") from error
    attributes, columns = notes.facts(sorted_keys, order)
    if any(partition is not None for partition, _ in found):
        columns["partition"] = pa.concat_arrays(where).take(pa.array(order))
    return WebDataset(
        name=name_of(path),
        kind="webdataset",
        keys=sorted_keys,
        attributes=attributes,
        columns=columns,
        files=tuple(file for _, file in found),
        file=np.concatenate(numbers)[order],
        offset=np.concatenate(offsets)[order],
        size=np.concatenate(sizes)[order],
    )


def _index(path: Path, notes: "_Notes") -> list[tar.Member]:
    """The images of a tar; what its small files say of them is added to `notes`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    try:
        pictures: list[tar.Member] = []
        beside: dict[str, dict[str, tar.Member]] = {}
        for member in tar.members(handle):
            folder, slash, file = member.name.rpartition("/")
            if any(part.startswith(".") for part in member.name.split("/")):
                continue  # as hidden files of a folder
            first, _, ending = file.partition(".")
            if file.lower().endswith(images.EXTENSIONS):
                pictures.append(member)
            elif ending in READERS:
                beside.setdefault(folder + slash + first, {})[ending] = member
        for picture in pictures:
            folder, slash, file = picture.name.rpartition("/")
            small = beside.get(folder + slash + file.partition(".")[0], {})
            notes.add({end: _small(handle, end, small[end]) for end in small})
        notes.pack()
        return pictures
    except UneError as error:
        raise UneError(f"{path}: {error}") from error
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    finally:
        os.close(handle)


def _small(handle: int, ending: str, member: tar.Member) -> Any:
    if member.size > MAX_NOTE:
        raise UneError(f"{member.name!r} has {member.size:,} bytes; that is no note")
    try:
        return READERS[ending](os.pread(handle, member.size, member.offset).decode())
    except (ValueError, RecursionError) as error:
        raise UneError(f"{member.name!r} is malformed: {error}") from error


def _flags(text: str) -> dict[str, bool]:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("expected an object")
    for name in fields:
        name.encode()  # JSON may hold halves of characters, which no zoo can
    return {name: v for name, v in fields.items() if isinstance(v, bool)}


def _whole(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError("the number is too large")
    return number


READERS: dict[str, Callable[[str], Any]] = {
    "json": _flags,
    "cls": _whole,
    "txt": str.strip,
}


COLUMNS = {"class": ("cls", pa.int64()), "caption": ("txt", pa.string())}


class _Notes:
    """What is known of the images so far, in a byte per yes/no field."""

    def __init__(self):
        self.count = 0
        self.flags: dict[str, bytearray] = {}
        self.fresh: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.packed: dict[str, list[pa.Array]] = {name: [] for name in COLUMNS}

    def add(self, notes: Mapping[str, Any]) -> None:
        flags = notes.get("json", {})
        for name in flags.keys() - self.flags.keys():
            self.flags[name] = bytearray([UNKNOWN]) * self.count
        if len(self.flags) > MAX_FIELDS:
            raise UneError(f"the .json have more than {MAX_FIELDS} yes/no fields")
        for name, values in self.flags.items():
            values.append(flags.get(name, UNKNOWN))
        for name, (ending, _) in COLUMNS.items():
            self.fresh[name].append(notes.get(ending))
        self.count += 1

    def pack(self) -> None:
        """Arrow's arrays are several times smaller than lists."""
        for name, (_, kind) in COLUMNS.items():
            self.packed[name].append(pa.array(self.fresh[name], kind))
            self.fresh[name].clear()

    def facts(
        self, keys: Keys, order: Int64[np.ndarray, " n"]
    ) -> tuple[Attributes | None, dict[str, pa.Array]]:
        flags = {n: np.frombuffer(self.flags[n], np.uint8) for n in sorted(self.flags)}
        complete = [name for name in flags if (flags[name] != UNKNOWN).all()]
        values = np.empty((len(keys), len(complete)), bool)
        for i, name in enumerate(complete):
            values[:, i] = flags[name][order] == 1
        columns = {
            name: pa.array(value == 1, mask=value == UNKNOWN).take(pa.array(order))
            for name, value in flags.items()
            if name not in complete
        }
        for name in COLUMNS:
            column = pa.concat_arrays(self.packed[name])
            if column.null_count < len(column):
                if name in columns:
                    raise UneError(f"two columns are named {name!r}; rename the field")
                columns[name] = column.take(pa.array(order))
        if not complete:
            return None, columns
        return Attributes(keys=keys, names=tuple(complete), values=values), columns
