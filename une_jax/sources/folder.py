"""A folder tree of image files; keys are the paths relative to it."""

import dataclasses
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from une_jax import images
from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources.base import Keys, name_of


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """Image files below `folder`; see `une_jax.sources.Source`.

    It serves all kinds whose images are files: "folder", "celeba" and "classes".
    """

    folder: Path
    name: str
    kind: str
    keys: Keys
    attributes: Attributes | None = None
    columns: Mapping[str, pa.Array] = dataclasses.field(default_factory=dict)

    def read(self, row: int) -> bytes:
        """The file of a row."""
        return read_file(self.folder / self.keys[row])


def open_folder(path: Path) -> Folder:
    """A folder tree as `images.list_images` sees it.

    Raises:
        UneError: there is no such folder, no image in it, or a file with a bad name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "b.jpg").write_bytes(b"no image yet")
    ...     source = open_folder(Path(folder))
    ...     source.keys[0], source.read(0)
    ('b.jpg', b'no image yet')
    """
    keys, _ = Keys.sort(images.walk_images(path))
    if not len(keys):
        endings = ", ".join(images.EXTENSIONS)
        raise UneError(f"no images in {path}; it should hold {endings}")
    return Folder(folder=path, name=name_of(path), kind="folder", keys=keys)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A regular file's bytes.

    Raises:
        UneError: it cannot be read, is no regular file (a pipe would block) or is
            larger than an image can be. The message does not name the path.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UneError("not a regular file")
            check_size(status.st_size)
            return file.read(images.MAX_BYTES)
    except OSError as error:
        raise UneError(f"cannot read: {error.strerror or error}") from error


def check_size(size: int) -> None:
    """That a file of `size` bytes may be read into memory.

    Raises:
        UneError: it is larger than `images.MAX_BYTES`.
    """
    if size > images.MAX_BYTES:
        raise UneError(
            f"file of {size:,} bytes; images of up to {images.MAX_BYTES:,} are read"
        )
