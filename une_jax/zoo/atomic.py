"""Files that are complete or absent, whenever the machine stops.

Temporary file in the same folder, write, fsync, rename, fsync of the folder: after a
power cut a name holds the old bytes or the new ones, never a part of them.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from une_jax.errors import UneError

TEMP_PREFIX = ".une-tmp-"


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, durably; the folder must exist.

    Raises:
        UneError: the file system refuses (full, read-only, ...). `path` is unchanged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes_atomically(Path(folder, "a"), b"123")
    ...     Path(folder, "a").read_bytes(), leftovers(Path(folder))
    (b'123', [])
    """
    temp = path.with_name(f"{TEMP_PREFIX}{path.name}.{secrets.token_hex(4)}")
    try:
        # Not tempfile.mkstemp: its files are 0600, and a zoo may be shared.
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UneError(f"cannot write {path}: {error.strerror}") from error


def make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, durably; an existing folder is fine.

    Raises:
        UneError: the file system refuses, or a file is in the way.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
    except OSError as error:
        raise UneError(f"cannot make folder {folder}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time write below `folder`.

    The lock goes with the process, so a killed one blocks nobody. Where the file system
    has no such locks (some NFS mounts) there is no guard.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files directly in `folder` that a killed writer left behind."""
    return sorted(p for p in folder.glob(f"{TEMP_PREFIX}*") if p.is_file())


def remove_leftovers(folder: Path) -> None:
    """Removes what `leftovers` lists, and nothing else; hold the lock."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)
