"""A folder that appears with all its files, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from une_jax.errors import UneError
from une_jax.zoo import atomic


@contextlib.contextmanager
def whole_folder(out: str | os.PathLike[str], *inner: str) -> Iterator[Path]:
    """A folder to write into, with the folders `inner` in it; it becomes `out`.

    It lies beside `out` under a temporary name. When the block ends, all is flushed to
    the disk and renamed; when it raises, all is removed. What a killed process left is
    removed by the next one that writes to `out`.

    Args:
        out: a folder that is missing or empty; parents are made.
        inner: names of folders in it.

    Raises:
        UneError: `out` is something else, or the file system refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     with whole_folder(f"{home}/out", "data") as folder:
    ...         _ = (folder / "data/a.txt").write_text("a")
    ...         before = os.path.exists(f"{home}/out")
    ...     before, os.listdir(f"{home}/out/data"), os.listdir(home)
    (False, ['a.txt'], ['out'])
    """
    out = Path(out).resolve()  # of a link, the folder that it names
    require_free(out)
    temp = out.with_name(f"{atomic.TEMP_PREFIX}{out.name}")
    atomic.make_folder(out.parent)
    try:
        temp.mkdir(exist_ok=True)
        with atomic.locked(temp):
            require_free(out)  # another process may have been here first
            _clear(temp, inner)
            try:
                for name in inner:
                    (temp / name).mkdir(exist_ok=True)
                yield temp
                for path in (*_files(temp, inner), *(temp / n for n in inner), temp):
                    _sync(path)
                os.rename(temp, out)
                _sync(out.parent)
            except BaseException:
                _clear(temp, inner)
                for path in (*(temp / name for name in inner), temp):
                    with contextlib.suppress(OSError):
                        path.rmdir()
                raise
    except OSError as error:
        raise UneError(f"cannot write {out}: {error.strerror or error}") from error


def require_free(out: Path) -> None:
    """Raises `UneError` unless `out` is missing or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UneError(f"{out} is not an empty folder; choose another --out")


def _files(folder: Path, inner: tuple[str, ...]) -> list[Path]:
    inside = [folder, *(folder / name for name in inner)]
    return [p for f in inside if f.is_dir() for p in f.iterdir() if not p.is_dir()]


def _clear(folder: Path, inner: tuple[str, ...]) -> None:
    for path in _files(folder, inner):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
