"""Where the members of a tar file are, from their headers alone.

A strict reader of what POSIX, GNU tar and Python write, without compression. `tarfile`
takes a damaged header for the end of the archive, and so loses what follows; it also
takes more than twice as long, which counts with millions of members.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from une_jax.errors import UneError

BLOCK, WINDOW, TAIL = 512, 4096, 1 << 16
MAX_TEXT = 1 << 16
"""Of a long name or an extended header, which are far shorter."""

EMPTY = bytes(BLOCK)
FILE, FOLDER = (b"\0", b"0", b"7"), b"5"
LONG_NAME, LONG_LINK, EXTENDED, GLOBAL = b"L", b"K", b"x", b"g"
OTHERS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


class Member(NamedTuple):
    """A file in a tar: its name, where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def members(handle: int) -> Iterator[Member]:
    """The files in a tar, in order; folders are skipped.

    Args:
        handle: of the open file, which stays where it is.

    Raises:
        UneError: the archive is damaged or cut short, a name leads out of it or occurs
            twice, or a member is no plain file.
    """
    end = os.fstat(handle).st_size
    at, seen, said = 0, set(), _Said()
    window = _Window(handle)
    while True:
        header = window.block(at)
        if header == EMPTY and said == _Said():
            break
        if len(header) < BLOCK:
            raise UneError("has no end: it was cut short; fetch it again")
        where = f"header at byte {at}"
        _check_sum(header, where)
        kind, size = header[156:157], _number(header[124:136], where)
        before = kind in (LONG_NAME, LONG_LINK, EXTENDED, GLOBAL)
        name = "" if before else said.name or _name(header, where)
        if kind == FOLDER or (kind in FILE and name.endswith("/")):
            size = 0
        elif not before and said.size is not None:
            size = said.size
        at += BLOCK
        if size > end - at:
            raise UneError(f"{where}: {size:,} bytes do not fit into the file")
        if before:
            if kind != GLOBAL:
                said = said.extended(kind, _read(handle, at, size, where), where)
        elif kind in FILE and not name.endswith("/"):
            name = name.removeprefix("./")  # `tar --create .` writes it
            _check_name(name, seen)
            yield Member(name, at, size)
        elif kind not in (*FILE, FOLDER):
            what = OTHERS.get(kind, f"of type {kind!r}")
            raise UneError(f"{name!r} is {what}; only plain files are read")
        if not before:
            said = _Said()
        at += -(-size // BLOCK) * BLOCK
    if any(os.pread(handle, TAIL, at)):
        raise UneError("goes on after its end, as do joined archives; keep them apart")


class _Window:
    """A few blocks at a time, for members that are smaller than that."""

    def __init__(self, handle: int):
        self.handle, self.start, self.bytes = handle, 0, b""

    def block(self, at: int) -> bytes:
        if not self.start <= at <= self.start + len(self.bytes) - BLOCK:
            self.start, self.bytes = at, os.pread(self.handle, WINDOW, at)
        return self.bytes[at - self.start : at - self.start + BLOCK]


class _Said(NamedTuple):
    """What headers before it say of the next member, instead of its own."""

    name: str = ""
    size: int | None = None

    def extended(self, kind: bytes, text: bytes, where: str) -> "_Said":
        if kind == LONG_NAME:
            return self._replace(name=_text(text.split(b"\0")[0], where))
        said = self
        for key, value in _records(text, where) if kind == EXTENDED else ():
            if key == b"path":
                said = said._replace(name=_text(value, where))
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise UneError(f"{where}: a size is no number")
                said = said._replace(size=int(value))
            elif key.startswith(b"GNU.sparse."):
                raise UneError(f"{where}: a sparse file; only plain files are read")
        return said


def _records(text: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """The `LENGTH KEY=VALUE` lines of a POSIX extended header."""
    at = 0
    while at < len(text):
        length, space, _ = text[at : at + 20].partition(b" ")
        whole = int(length) if space and length.isdigit() else 0
        record = text[at + len(length) + 1 : at + whole]
        key, equals, value = record.partition(b"=")
        if not (record.endswith(b"\n") and equals and at + whole <= len(text)):
            raise UneError(f"{where}: malformed; fetch the archive again")
        yield key, value[:-1]
        at += whole


def _read(handle: int, at: int, size: int, where: str) -> bytes:
    if size > MAX_TEXT:
        raise UneError(f"{where}: a name of {size:,} bytes")
    return os.pread(handle, size, at)


def _check_sum(header: bytes, where: str) -> None:
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156], where) != total:
        raise UneError(
            f"{where}: damaged, or no tar file (compressed ones are to be unpacked)"
        )


def _number(field: bytes, where: str) -> int:
    if field[0] == 0x80:  # GNU's way with sizes of 8 GB and more
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if text.strip(b"01234567"):
        raise UneError(
            f"{where}: damaged, or no tar file (compressed ones are to be unpacked)"
        )
    return int(text or b"0", 8)


def _name(header: bytes, where: str) -> str:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name, where)


def _text(name: bytes, where: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise UneError(f"{where}: {name!r} is not UTF-8; rename it") from error


def _check_name(name: str, seen: set[str]) -> None:
    if name.startswith("/") or ".." in name.split("/") or not name:
        raise UneError(f"{name!r} leads out of the archive")
    if name in seen:
        raise UneError(f"{name!r} is in it twice")
    seen.add(name)
