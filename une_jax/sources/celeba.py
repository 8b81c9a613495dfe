"""CelebA as its authors publish it: `img_align_celeba/` and lists beside it.

Each list is optional, and taken as text (the official files) or CSV (their twins, as on
Kaggle, where the images lie one folder deeper)::

    list_attr_celeba               attributes
    list_eval_partition            partition
    identity_CelebA                identity
    list_landmarks_align_celeba    lefteye_x, lefteye_y, righteye_x, ...
    list_bbox_celeba               bbox_x, bbox_y, bbox_width, bbox_height
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from une_jax import attributes
from une_jax.errors import UneError
from une_jax.sources.base import name_of
from une_jax.sources.folder import Folder, open_folder
from une_jax.sources.keys import Keys

IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba"
PARTITION = "list_eval_partition"
PARTITIONS = ("train", "validation", "test")
POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
INTEGERS = {
    "identity_CelebA": ("identity",),
    "list_landmarks_align_celeba": tuple(f"{p}_{xy}" for p in POINTS for xy in "xy"),
    "list_bbox_celeba": ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
}
"""Lists of whole numbers -> the columns that they become."""

ATTRIBUTE_NAMES = tuple(
    """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips
    Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby
    Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin
    Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
    Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young
    """.split()
)
"""The forty, in the order that CelebA and its copies without names have them in."""

HEADLESS = ("identity_CelebA", PARTITION)
"""Text lists that begin with their first image, not with their length and names."""


def is_celeba(path: Path) -> bool:
    """Whether a folder has CelebA's images and at least one of its lists."""
    lists = (ATTRIBUTES, PARTITION, *INTEGERS)
    return (path / IMAGES).is_dir() and any(_list(path, name) for name in lists)


def open_celeba(path: Path) -> Folder:
    """CelebA's root folder, with all lists or some, all images or some.

    Raises:
        UneError: there are no images, a list is malformed, or a list lacks an image.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, IMAGES).mkdir()
    ...     _ = Path(folder, IMAGES, "000002.jpg").write_bytes(b"...")
    ...     lines = "000001.jpg 0\\n000002.jpg 1\\n"
    ...     _ = Path(folder, "list_eval_partition.txt").write_text(lines)
    ...     source = open_celeba(Path(folder))
    ...     list(source.keys), source.columns["partition"].to_pylist()
    (['000002.jpg'], ['validation'])
    """
    if not path.is_dir():
        raise UneError(f"{path} is not a folder; give the one with {IMAGES}/")
    if not (path / IMAGES).is_dir():
        raise UneError(f"{path} has no folder {IMAGES}/; is this CelebA?")
    deeper = path / IMAGES / IMAGES
    files = open_folder(deeper if deeper.is_dir() else path / IMAGES)
    keys = files.keys

    table, columns = None, {}
    if file := _list(path, ATTRIBUTES):
        table = attributes.read(file)
        rows = _rows(file, table.keys, keys)
        table = attributes.Attributes(
            keys=keys, names=table.names, values=table.values[rows]
        )
    if file := _list(path, PARTITION):
        listed, values = _integers(file, (PARTITION,))
        rows = _rows(file, listed, keys)
        if values.min() < 0 or values.max() > 2:
            raise UneError(f"{file}: a partition is none of 0, 1 and 2")
        columns["partition"] = pa.array(PARTITIONS).take(pa.array(values[rows, 0]))
    for name, parts in INTEGERS.items():
        if file := _list(path, name):
            listed, values = _integers(file, parts)
            rows = _rows(file, listed, keys)
            for i, part in enumerate(parts):
                columns[part] = pa.array(values[rows, i])
    return Folder(
        folder=files.folder,
        name=name_of(path),
        kind="celeba",
        keys=keys,
        attributes=table,
        columns=columns,
    )


def _list(path: Path, name: str) -> Path | None:
    for ending in (".txt", ".csv"):
        if (path / f"{name}{ending}").is_file():
            return path / f"{name}{ending}"
    return None


def _integers(path: Path, columns: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The keys of a list, and its numbers as (n, columns) int64."""
    lines = attributes.read_lines(path)
    if path.suffix == ".csv":
        head = 1
        table = csv.reader(lines[1:])
    else:
        head = 0 if path.stem in HEADLESS else 2
        table = (line.rsplit(maxsplit=len(columns)) for line in lines[head:])
    keys: dict[str, int] = {}
    rows = []
    for number, fields in enumerate(table, start=head + 1):
        values = fields[1:]
        whole = all(re.fullmatch(r"-?\d{1,12}", v, re.ASCII) for v in values)
        if len(fields) != len(columns) + 1 or not whole:
            raise UneError(
                f"{path}, line {number}: expected a key and {len(columns)} whole "
                "number(s)"
            )
        key = fields[0].strip()
        if key in keys:
            raise UneError(
                f"{path}, line {number}: {key!r} is already on line {keys[key]}"
            )
        keys[key] = number
        rows.append([int(value) for value in values])
    if head == 2 and lines[0].strip() != str(len(rows)):
        raise UneError(
            f"{path}, line 1: says {lines[0].strip()!r} images, but {len(rows)} "
            "follow; fetch the file again"
        )
    return list(keys), np.array(rows, np.int64).reshape(len(rows), len(columns))


def _rows(path: Path, listed: Sequence[str], keys: Keys) -> list[int]:
    """Where in a list the images are. It may have more of them, but not fewer."""
    place = {key: i for i, key in enumerate(listed)}
    missing = [key for key in keys if key not in place]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UneError(
            f"{path}: does not list {missing[0]}{rest}; fetch it again, or remove "
            "images that are not CelebA's"
        )
    return [place[key] for key in keys]
