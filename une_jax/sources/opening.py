"""Which kind of collection a path holds."""

import os
from collections.abc import Callable
from pathlib import Path

from une_jax import images
from une_jax.errors import UneError
from une_jax.sources import partitions
from une_jax.sources.arrow import is_saved, open_arrow
from une_jax.sources.base import Source, check, only
from une_jax.sources.celeba import is_celeba, open_celeba
from une_jax.sources.classes import as_partitions, open_classes
from une_jax.sources.folder import open_folder
from une_jax.sources.parquet import open_parquet
from une_jax.sources.webdataset import open_webdataset

READERS: dict[str, Callable[[Path], Source]] = {
    "folder": open_folder,
    "celeba": open_celeba,
    "classes": open_classes,
    "parquet": open_parquet,
    "arrow": open_arrow,
    "webdataset": open_webdataset,
}


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
    if kind not in ("auto", *READERS):
        raise UneError(f"unknown kind of source {kind!r}; use {', '.join(READERS)}")
    source = _recognise(Path(path)) if kind == "auto" else READERS[kind](Path(path))
    check(source)
    return source if partition is None else only(source, partitions.of_name(partition))


def _recognise(path: Path) -> Source:
    endings = {
        ".parquet": open_parquet,
        ".arrow": open_arrow,
        ".tar": open_webdataset,
    }
    if path.is_file() and path.suffix.lower() in endings:
        return endings[path.suffix.lower()](path)
    if is_saved(path):
        return open_arrow(path)
    if is_celeba(path):
        return open_celeba(path)
    if path.is_dir() and next(images.walk_images(path), None) is None:
        for ending, reader in endings.items():
            if partitions.files_in(path, ending):
                return reader(path)
    folder = open_folder(path)
    classes = as_partitions(folder)
    many = classes is not None and len(classes.columns["class"].unique()) > 1
    return classes if classes is not None and many else folder
