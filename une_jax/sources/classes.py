"""Images in one folder per class, as AFHQ and ImageNet have them.

`train/cat/1.jpg`, `val/dog/2.jpg`, or without partitions `cat/1.jpg`. Keys are the
paths, as of any folder. Each class becomes an attribute if there are few of them; the
column "class" has the name in any case.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import partitions
from une_jax.sources.folder import Folder, open_folder
from une_jax.sources.keys import Keys, pc

FEW = 40
"""More classes than this do not become attributes: CelebA has forty."""

IN_PARTITIONS = r"^(?P<partition>[^/]+)/(?P<class>[^/]+)/[^/]+$"
IN_CLASSES = r"^(?P<class>[^/]+)/[^/]+$"


def open_classes(path: Path) -> Folder:
    """A folder tree of partition/class/image or class/image.

    Raises:
        UneError: an image is at another place, or as of `open_folder`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, "val", name).mkdir(parents=True)
    ...         _ = Path(folder, "val", name, "1.jpg").write_bytes(b"...")
    ...     source = open_classes(Path(folder))
    ...     source.keys[1], source.attributes.names, source.columns["class"].to_pylist()
    ('val/dog/1.jpg', ('cat', 'dog'), ['cat', 'dog'])
    """
    folder = open_folder(path)
    found = as_partitions(folder) or _described(folder, IN_CLASSES)
    if found is not None:
        return found
    first = folder.keys[0].split("/")[0].lower()
    layout, pattern = "class/image", IN_CLASSES
    if first in partitions.NAMES:
        layout, pattern = f"{first}/class/image", IN_PARTITIONS
    fits = pc.match_substring_regex(folder.keys.array, pattern)
    example = folder.keys.array.filter(pc.invert(fits))
    lost = example[0].as_py() if len(example) else folder.keys[0]
    raise UneError(f"{path}: {lost!r} is not where {layout} has its images")


def as_partitions(folder: Folder) -> Folder | None:
    """The folder as train|val|test/class/image, or None if it is not just that."""
    found = _described(folder, IN_PARTITIONS)
    if found is None:
        return None
    names = set(found.columns["partition"].unique().to_pylist())
    return found if names <= set(partitions.NAMES.values()) else None


def _described(folder: Folder, pattern: str) -> Folder | None:
    fields = pc.extract_regex(folder.keys.array, pattern)
    if fields.null_count:
        return None
    columns = {
        name: fields.field(name).dictionary_encode()
        for name in ("partition", "class")
        if fields.type.get_field_index(name) >= 0
    }
    return dataclasses.replace(
        folder,
        kind="classes",
        attributes=one_per_class(folder.keys, columns["class"]),
        columns={
            name: _text(column, partitions.of_name if name == "partition" else str)
            for name, column in columns.items()
        },
    )


def one_per_class(keys: Keys, column: pa.DictionaryArray) -> Attributes | None:
    """An attribute for each class of a column without nulls; None if they are many."""
    names = column.dictionary.to_pylist()
    if len(names) > FEW:
        return None
    order = sorted(range(len(names)), key=names.__getitem__)
    codes = column.indices.to_numpy()[:, None]
    return Attributes(
        keys=keys, names=tuple(sorted(names)), values=codes == np.array(order)
    )


def _text(column: pa.DictionaryArray, spell: Callable[[str], str]) -> pa.StringArray:
    names = pa.array(map(spell, column.dictionary.to_pylist()), pa.string())
    return names.take(column.indices)
