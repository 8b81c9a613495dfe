"""What a NoiseZoo is asked to hold, and which of its shards are committed."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from une_jax.zoo import checks

FORMAT_VERSION = 1
MAX_ROWS = 100_000_000
KINDS = ("generator", "encoder", "control")
FIXED_COLUMNS = ("key", "sha256", "status", "reason", "split")
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """One latent space: a generator's noise or an encoder's embedding.

    Attributes:
        name: letters, digits, `.`, `_`, `-`; the tensor's name in each shard.
        kind: "generator", "encoder", or "control" (latents of a generator's shape that
            its noise is compared with).
        model_id: hub id or folder name of the checkpoint.
        weights_sha256: of the weights, in hex.
        config: the checkpoint's own configuration.
        shape: of one row; (4, 64, 64), i.e. NCHW, for generators, (512,) for encoders.
        dtype: "float32", "float16" or "bfloat16".
        settings: all else that fixes the numbers: scheduler, steps, terminal_t,
            eval_at, prompt, preprocessing, ...

    Raises:
        UneError: a field is not as described.

    >>> clip = View(
    ...     name="clip-b16", kind="encoder", model_id="openai/clip-vit-base-patch16",
    ...     weights_sha256="0" * 64, config={}, shape=(512,), dtype="float32",
    ...     settings={"normalised": False},
    ... )
    """

    name: str
    kind: str
    model_id: str
    weights_sha256: str
    config: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str
    settings: dict[str, Any]

    def __post_init__(self):
        checks.match(checks.NAME, self.name, "views: name")
        where = f"views.{self.name}"
        checks.one_of(KINDS, self.kind, f"{where}.kind")
        checks.one_of(tuple(DTYPES), self.dtype, f"{where}.dtype")
        checks.text(self.model_id, f"{where}.model_id")
        checks.match(checks.SHA256, self.weights_sha256, f"{where}.weights_sha256")
        checks.require(type(self.shape) is tuple, f"{where}.shape", "is not a list")
        for length in self.shape:
            checks.integer(length, f"{where}.shape", low=1)
        ranks = range(1, 9) if self.kind == "encoder" else (3,)
        right = len(self.shape) in ranks
        checks.require(right, f"{where}.shape", "has the wrong number of axes")
        _copy_json(self, "config", f"{where}.config")
        _copy_json(self, "settings", f"{where}.settings")


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A committed file: its name below the zoo, size in bytes and sha256 in hex."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self):
        checks.text(self.name, "file name")
        checks.integer(self.bytes, f"{self.name!r}: bytes", low=0)
        checks.match(checks.SHA256, self.sha256, f"{self.name!r}: sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed shard: `rows` rows in one safetensors and one Parquet file.

    Raises:
        UneError: a field is out of range, or a file is not named after the index; so no
            name leads out of the zoo.
    """

    index: int
    rows: int
    tensors: File
    table: File

    def __post_init__(self):
        checks.integer(self.index, "shards: index", low=0, high=MAX_ROWS)
        where = f"shards.{self.index}"
        checks.integer(self.rows, f"{where}.rows", low=1)
        for file, name in (
            (self.tensors, tensors_name(self.index)),
            (self.table, table_name(self.index)),
        ):
            checks.require(file.name == name, where, f"names {file.name!r}, not {name}")


def tensors_name(index: int) -> str:
    """Where the tensors of a shard lie below the zoo."""
    return f"shards/{index:05d}.safetensors"


def table_name(index: int) -> str:
    """Where the rows of a shard lie below the zoo."""
    return f"rows/{index:05d}.parquet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The settings of a NoiseZoo and its committed shards.

    Attributes:
        views: at least one, with different names.
        source: as from `describe_source`; more fields are welcome.
        row_count: rows of the finished zoo, one per image, failed ones included.
        shard_rows: rows per shard; the last shard has the rest.
        attribute_names: the boolean columns of the rows.
        shards: the committed ones, by index.

    Raises:
        UneError: a field is not as described.
    """

    views: tuple[View, ...]
    source: dict[str, Any]
    row_count: int
    shard_rows: int
    attribute_names: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        version = self.format_version
        right = type(version) is int and version == FORMAT_VERSION
        checks.require(right, "format_version", f"is not {FORMAT_VERSION}")
        checks.integer(self.row_count, "row_count", low=1, high=MAX_ROWS)
        checks.integer(self.shard_rows, "shard_rows", low=1, high=MAX_ROWS)
        names = [view.name for view in self.views]
        checks.require(bool(names), "views", "are empty; ask for a model")
        _different(names, "views")
        for name in self.attribute_names:
            checks.text(name, "attribute_names")
            taken = name in FIXED_COLUMNS or name.startswith("residual/")
            problem = f"have {name!r}, another column's name; rename the attribute"
            checks.require(not taken, "attribute_names", problem)
        _different(self.attribute_names, "attribute_names")
        _copy_json(self, "source", "source")
        _check_source(self.source, self.row_count)
        indices = [shard.index for shard in self.shards]
        checks.require(sorted(set(indices)) == indices, "shards", "are not in order")
        for shard in self.shards:
            fits = shard.index < self.shard_count
            fits = fits and shard.rows == len(self.rows_of(shard.index))
            problem = "does not fit row_count and shard_rows"
            checks.require(fits, f"shards.{shard.index}", problem)

    @property
    def shard_count(self) -> int:
        """Shards of the finished zoo."""
        return -(-self.row_count // self.shard_rows)

    def rows_of(self, index: int) -> range:
        """The rows of shard `index`, counted through the zoo.

        Raises:
            IndexError: there is no such shard.
        """
        if not 0 <= index < self.shard_count:
            raise IndexError(f"shard {index} of {self.shard_count}")
        start = index * self.shard_rows
        return range(start, min(start + self.shard_rows, self.row_count))

    def with_shard(self, shard: Shard) -> "Manifest":
        """The manifest with `shard` committed, in place of any of that index."""
        others = self.without_shard(shard.index).shards
        shards = sorted((*others, shard), key=lambda shard: shard.index)
        return dataclasses.replace(self, shards=tuple(shards))

    def without_shard(self, index: int) -> "Manifest":
        """The manifest with shard `index` pending."""
        shards = tuple(shard for shard in self.shards if shard.index != index)
        return dataclasses.replace(self, shards=shards)


def describe_source(
    folder: str, keys: Sequence[str], size: int | None
) -> dict[str, Any]:
    """The `source` of a manifest.

    Args:
        folder: a name for the image folder (no path of one machine).
        keys: of all images in row order; stored as their count and their sha256.
        size: edge length of the square images in pixels; None where views differ.
    """
    return {
        "folder": folder,
        "images": len(keys),
        "keys_sha256": keys_sha256(keys),
        "size": size,
    }


def keys_sha256(keys: Sequence[str]) -> str:
    """The sha256 of the keys, one a line, in hex."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _check_source(source: dict[str, Any], row_count: int) -> None:
    missing = sorted({"folder", "images", "keys_sha256", "size"} - set(source))
    checks.require(not missing, "source", f"lacks {', '.join(missing)}")
    checks.text(source["folder"], "source.folder")
    checks.match(checks.SHA256, source["keys_sha256"], "source.keys_sha256")
    if source["size"] is not None:
        checks.integer(source["size"], "source.size", low=1)
    checks.integer(source["images"], "source.images", low=1)
    same = source["images"] == row_count
    checks.require(same, "source.images", f"is not row_count ({row_count})")


def _different(names: Sequence[str], where: str) -> None:
    checks.require(len(set(names)) == len(names), where, "have one name twice")


def _copy_json(instance: View | Manifest, field: str, where: str) -> None:
    value = checks.json_object(getattr(instance, field), where)
    object.__setattr__(instance, field, value)  # frozen, but still under construction
