"""Which image each row of a bare array is of: keys, attributes and further facts."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from une_jax import attributes as attributes_
from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import Source
from une_jax.sources.keys import Keys

PARTITIONS = ("train", "validation", "test")  # 0, 1, 2 in CelebA's list


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """n images in the order of an array's rows.

    Attributes:
        name: for a manifest: of the folder or list, and of no machine.
        kind: what they came in: a source's kind, "list" or "numbers".
        keys: n different ones.
        attribute_names: a of them.
        values: of the attributes.
        columns: further facts by name, n each, as `une_jax.sources.Source.columns`.
        source: where the images themselves can be read, if they are at hand.
    """

    name: str
    kind: str
    keys: Sequence[str]
    attribute_names: tuple[str, ...]
    values: Bool[np.ndarray, "n a"]
    columns: Mapping[str, pa.Array]
    source: Source | None = None

    def with_attributes(self, table: Attributes) -> "Listing":
        """The listing with these attributes; those of other images are ignored.

        Raises:
            UneError: an image has none.
        """
        values = attributes_.align(table, self.keys, extra="ignore")
        return dataclasses.replace(self, attribute_names=table.names, values=values)


def numbered(n: int) -> Listing:
    """Images of which nothing is known: their keys are "000000", "000001", ...

    >>> list(numbered(2).keys)
    ['000000', '000001']
    """
    digits = max(6, len(str(n - 1)))
    return _bare("unknown", "numbers", [f"{i:0{digits}d}" for i in range(n)])


def of_source(source: Source) -> Listing:
    """All that a collection of images says of them."""
    known = source.attributes
    return Listing(
        name=source.name,
        kind=source.kind,
        keys=source.keys,
        attribute_names=() if known is None else known.names,
        values=np.zeros((len(source.keys), 0), bool) if known is None else known.values,
        columns=source.columns,
        source=source,
    )


def of_file(path: Path, partition: str | None = None) -> Listing:
    """The keys in a file, told by its name.

    CelebA's `list_attr_celeba.txt` and `list_eval_partition.txt`; a `.csv` with a
    header, whose first column they are; or any other text with a key a line.

    Args:
        path: the file.
        partition: keep these rows of a `list_eval_partition.txt`.

    Raises:
        UneError: the file cannot be read, a key is empty or listed twice, or there is
            no partition to choose by.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "list_eval_partition.txt")
    ...     _ = file.write_text("000001.jpg 0\\n000002.jpg 1\\n")
    ...     list(of_file(file, "validation").keys)
    ['000002.jpg']
    """
    columns = {}
    if path.name.startswith("list_eval_partition"):
        parts = attributes_.read_partition(path)
        names = {key: PARTITIONS[part] for key, part in parts.items()}
        keys = [key for key, name in names.items() if partition in (None, name)]
        columns = {"partition": pa.array([names[key] for key in keys], pa.string())}
    elif partition is not None:
        raise UneError(
            f"--partition {partition}: {path} does not say of an image which partition "
            "it is in; give list_eval_partition.txt, or CelebA's folder as --images"
        )
    elif path.name.startswith("list_attr"):
        keys = list(attributes_.read(path).keys)
    elif path.suffix.lower() == ".csv":
        keys = _first_column(path)
    else:
        keys = _lines(path)
    if not keys:
        raise UneError(f"{path}: no keys{f' in {partition}' if partition else ''}")
    try:
        Keys.sort(keys)  # only to have them checked: rows stay in the file's order
    except UneError as error:
        raise UneError(f"{path}: {error}") from error
    return _bare(path.name, "list", keys, columns)


def _first_column(path: Path) -> list[str]:
    try:
        rows = list(csv.reader(_lines(path), strict=True))
    except csv.Error as error:
        raise UneError(f"{path}: not CSV: {error}") from error
    return [row[0] if row else "" for row in rows[1:]]


def _bare(
    name: str,
    kind: str,
    keys: Sequence[str],
    columns: Mapping[str, pa.Array] | None = None,
) -> Listing:
    return Listing(
        name=name,
        kind=kind,
        keys=keys,
        attribute_names=(),
        values=np.zeros((len(keys), 0), bool),
        columns=columns or {},
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UneError(f"{path}: not a UTF-8 text file") from error
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    if not text:
        raise UneError(f"{path}: empty file; fetch it again")
    return text.removesuffix("\n").split("\n")
