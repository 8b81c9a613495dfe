"""Files that are complete or absent, whenever the machine stops.

Temporary file in the same folder, write, fsync, rename, fsync of the folder: after a
power cut a name holds the old bytes or the new ones, never a part of them. A temporary
file is locked by whom is writing it, so that only what the dead left is removed.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from une_jax.errors import UneError

TEMP_PREFIX = ".une-tmp-"


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, durably; the folder must exist.

    Raises:
        UneError: the file system refuses (full, read-only, ...). `path` has its old
            bytes then, or all of the new where only the last fsync failed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes_atomically(Path(folder, "a"), b"123")
    ...     Path(folder, "a").read_bytes(), leftovers(Path(folder))
    (b'123', [])
    """
    with staged(path, data) as file:
        file.publish()


@dataclasses.dataclass(frozen=True)
class Staged:
    """A file that is on disk in full, but not under its name yet; from `staged`."""

    temp: Path
    path: Path

    def publish(self) -> None:
        """Gives the file its name, durably.

        Raises:
            UneError: the file system refuses.
        """
        with refusals(f"write {self.path}"):
            os.replace(self.temp, self.path)
            _sync_folder(self.path.parent)


@contextlib.contextmanager
def staged(path: Path, data: bytes) -> Iterator[Staged]:
    """Writes `data` beside `path`, to be published or, when the block ends, dropped.

    Raises:
        UneError: the file system refuses; nothing is left then.
    """
    with contextlib.ExitStack() as stack:
        with refusals(f"write {path}"):
            temp, descriptor = _new_temp(path, stack)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        yield Staged(temp, path)


def _new_temp(path: Path, stack: contextlib.ExitStack) -> tuple[Path, int]:
    """A new file beside `path`, open and locked until the stack removes it."""
    while True:
        temp = path.with_name(f"{TEMP_PREFIX}{path.name}.{secrets.token_hex(4)}")
        # Not tempfile.mkstemp: its files are 0600, and a zoo may be shared.
        descriptor = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        stack.callback(_quietly, os.close, descriptor)
        stack.callback(_quietly, os.unlink, temp)  # no longer there once published
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temp, descriptor
        # Another process took it for a leftover before it was locked.


def _quietly(call: Callable[..., None], *args: Any) -> None:
    with contextlib.suppress(OSError):
        call(*args)


def make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, durably; an existing folder is fine.

    Raises:
        UneError: the file system refuses, or a file is in the way.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with refusals(f"make folder {folder}"):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Removes files directly in `folder`, and it too if it is then empty; durably.

    What is already missing is fine.

    Raises:
        UneError: the file system refuses.
    """
    if not folder.is_dir():
        return
    with refusals(f"remove files from {folder}"):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        _sync_folder(folder)
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            _sync_folder(folder.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one writer at a time work below `folder`, be it a process or a thread.

    The lock goes with the process, so a killed one blocks nobody. Where the file system
    has no such locks (some NFS mounts) there is no guard.

    Raises:
        UneError: there is no such folder.
    """
    with refusals(f"open {folder}"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files directly in `folder`: being written now, or left by the killed."""
    return sorted(p for p in folder.glob(f"{TEMP_PREFIX}*") if p.is_file())


def remove_leftovers(folder: Path) -> None:
    """Removes those of `leftovers` that nobody is writing, and nothing else.

    Where the file system cannot tell, having no locks, they stay.
    """
    for path in leftovers(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turns an error of the file system into `UneError`, "cannot <doing>: <why>"."""
    try:
        yield
    except OSError as error:
        raise UneError(f"cannot {doing}: {error.strerror}") from error
