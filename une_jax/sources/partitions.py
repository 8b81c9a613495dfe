"""The names that data sets give to their partitions."""

import os
import re
from pathlib import Path

from une_jax.errors import UneError

NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""How a partition may be spelled -> "train", "validation" or "test"."""

SHARD = re.compile(r"(.+)-\d+-of-\d+")


def of_name(name: str) -> str:
    """The partition that a name means; other names than `NAMES` stand for themselves.

    >>> of_name("Val"), of_name("extra")
    ('validation', 'extra')
    """
    return NAMES.get(name.lower(), name)


def of_file(path: str) -> str | None:
    """The partition that a file is of by its path below the data set, if it says so.

    As the Hugging Face hub tells it: `NAME-00000-of-00002`, or one of `NAMES` as the
    first word of the file, or as the name of a folder that it is in.

    >>> of_file("data/train-00000-of-00002.parquet"), of_file("data/extra-0-of-1.tar")
    ('train', 'extra')
    >>> of_file("default/val/0000.parquet"), of_file("test.parquet"), of_file("a.tar")
    ('validation', 'test', None)
    """
    *folders, file = path.split("/")
    stem = file.rsplit(".", maxsplit=1)[0]
    shard = SHARD.fullmatch(stem)
    if shard:
        return of_name(shard[1])
    first = re.match(r"[A-Za-z]*", stem)
    for word in (first[0] if first else "", *reversed(folders)):
        if word.lower() in NAMES:
            return NAMES[word.lower()]
    return None


def files_in(path: Path, ending: str) -> list[tuple[str | None, Path]]:
    """The files below a folder with this ending, if any, and the partition of each.

    By partition, then by path, so that those of one partition follow each other. Hidden
    files and folders are skipped, and linked folders are not entered. A path that is a
    file itself is the only one.

    Raises:
        UneError: the path does not exist or cannot be listed.
    """
    if path.is_file():
        return [(of_file(path.name), path)]
    if not path.is_dir():
        raise UneError(f"{path} does not exist; check the path")

    def unreadable(error: OSError) -> None:
        raise UneError(f"cannot list {error.filename}: {error.strerror}") from error

    found = []
    for root, folders, names in os.walk(path, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(root, name)
            if name.startswith(".") or not name.lower().endswith(ending):
                continue
            if file.is_file():  # and no pipe, which would block
                found.append((of_file(file.relative_to(path).as_posix()), file))
    return sorted(found, key=lambda pair: (pair[0] or "", pair[1].as_posix()))
