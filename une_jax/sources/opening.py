"""Which kind of collection a path holds."""

import os
from collections.abc import Callable
from pathlib import Path

from une_jax.errors import UneError
from une_jax.sources.base import Source, check, only
from une_jax.sources.folder import open_folder

READERS: dict[str, Callable[[Path], Source]] = {"folder": open_folder}


def open(
    path: str | os.PathLike[str], *, kind: str = "auto", partition: str | None = None
) -> Source:
    """Opens a collection of images; its images are read later, one by one.

    Args:
        path: a folder or a file.
        kind: as `Source.kind`, or "auto" to tell it from what lies there.
        partition: keep only the rows of "train", "validation" or "test".

    Raises:
        UneError: there is nothing of this kind, or it is malformed.
    """
    if kind == "auto":
        kind = kind_of(Path(path))
    if kind not in READERS:
        raise UneError(f"unknown kind of source {kind!r}; use {', '.join(READERS)}")
    source = READERS[kind](Path(path))
    check(source)
    return source if partition is None else only(source, partition)


def kind_of(path: Path) -> str:
    """What `open` takes a path for."""
    return "folder"
