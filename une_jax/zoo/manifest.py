"""What a NoiseZoo is asked to hold, and which of its shards are committed."""

import bisect
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from une_jax.errors import UneError
from une_jax.zoo import checks

FORMAT_VERSION = 1
MAX_ROWS = 100_000_000
KINDS = ("generator", "latent", "encoder", "control", "code")
STATUSES = ("ok", "failed", "skipped")
FIXED_COLUMNS = ("key", "sha256", "status", "reason", "split")
MEASURES = ("residual", "round_trip", "psnr")
COLUMN_TYPES = ("string", "int64", "float32", "bool")
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
        kind: "generator" (the noise of a latent diffusion pipeline), "latent" (of
            another generative model: VAE, VQVAE, flow, pixel diffusion, GAN), "encoder",
            "control" (latents of a generator's shape that its noise is compared with) or
            "code" (what its noise needs beside it to decode: the second sample of BDIA,
            the noise of each step of a DPM-Encoder).
        model_id: hub id or folder name of the checkpoint.
        weights_sha256: of the weights, in hex.
        config: the checkpoint's own configuration.
        shape: of one row; (4, 64, 64), i.e. NCHW, for generators, (512,) for encoders,
            either for latents.
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
        ranks = {"encoder": range(1, 9), "latent": (1, 3)}.get(self.kind, (3,))
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
        checks.integer(self.bytes, f"{self.name}: bytes", low=0)
        checks.match(checks.SHA256, self.sha256, f"{self.name}: sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed shard: `rows` rows in one safetensors and one Parquet file.

    Of these `ok` have latents; `failed` and `skipped` ones have a reason instead.

    Raises:
        UneError: a field is out of range, a row is neither ok nor failed nor skipped,
            or a file is not named after the index; so no name leads out of the zoo.
    """

    index: int
    rows: int
    ok: int
    failed: int
    skipped: int
    tensors: File
    table: File

    def __post_init__(self):
        checks.integer(self.index, "shards: index", low=0, high=MAX_ROWS)
        where = f"shards.{self.index}"
        checks.integer(self.rows, f"{where}.rows", low=1)
        for status in STATUSES:
            checks.integer(getattr(self, status), f"{where}.{status}", low=0)
        if self.rows != self.ok + self.failed + self.skipped:
            raise UneError(
                f"{where} has {self.rows} rows, but {self.ok} ok + {self.failed} "
                f"failed + {self.skipped} skipped"
            )
        for file, name in (
            (self.tensors, tensors_name(self.index)),
            (self.table, table_name(self.index)),
        ):
            if file.name != name:
                raise UneError(f"{where} names {file.name!r}, not {name}")


def tensors_name(index: int) -> str:
    """Where the tensors of a shard lie below the zoo."""
    return f"shards/{index:05d}.safetensors"


def table_name(index: int) -> str:
    """Where the rows of a shard lie below the zoo."""
    return f"rows/{index:05d}.parquet"


def record_name(index: int) -> str:
    """Where the record of a shard lies until it is folded into the manifest."""
    return f"commits/{index:05d}.json"


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
        _copy_json(self, "source", "source")
        _check_source(self.source, self.row_count)
        for where, columns in (
            ("attribute_names", self.attribute_names),
            ("source.columns", self.columns),
        ):
            for name in columns:
                checks.text(name, where)
                taken = name in (*FIXED_COLUMNS, "prompt")
                taken = taken or name.partition("/")[0] in MEASURES
                problem = f"have {name!r}, another column's name; rename it"
                checks.require(not taken, where, problem)
        _different(self.attribute_names, "attribute_names")
        _different((*self.attribute_names, *self.columns), "source.columns")
        indices = [shard.index for shard in self.shards]
        checks.require(sorted(set(indices)) == indices, "shards", "are not in order")
        for shard in self.shards:
            self.require_fit(shard)

    @property
    def columns(self) -> dict[str, str]:
        """Further columns of the rows, name -> type; by name, as JSON has no order."""
        return dict(sorted(self.source.get("columns", {}).items()))

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns that generators measure, as `residual/sd15`.

        Always the residual; the round trip's error in the latent and the pixels' PSNR
        by the setting `round_trip` ("latent", "pixels").
        """
        names = []
        for view in self.views:
            if view.kind == "generator":
                count = {"latent": 2, "pixels": 3}
                asked = count.get(str(view.settings.get("round_trip")), 1)
                names += [f"{measure}/{view.name}" for measure in MEASURES[:asked]]
        return tuple(names)

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

    def require_fit(self, shard: Shard) -> None:
        """Raises `UneError` unless `shard` is one of this zoo's, of the right length."""
        fits = shard.index < self.shard_count
        if not fits or shard.rows != len(self.rows_of(shard.index)):
            raise UneError(
                f"shards.{shard.index} does not fit row_count and shard_rows"
            )

    def shard(self, index: int) -> Shard | None:
        """Shard `index`, or None if it is not committed."""
        at = bisect.bisect_left(self.shards, index, key=lambda shard: shard.index)
        found = self.shards[at : at + 1]
        return found[0] if found and found[0].index == index else None

    def with_shards(self, shards: Iterable[Shard]) -> "Manifest":
        """The manifest with `shards` committed, in place of any of their indices."""
        known = {shard.index: shard for shard in self.shards}
        known |= {shard.index: shard for shard in shards}
        ordered = tuple(known[index] for index in sorted(known))
        return dataclasses.replace(self, shards=ordered)

    def without_shard(self, index: int) -> "Manifest":
        """The manifest with shard `index` pending."""
        shards = tuple(shard for shard in self.shards if shard.index != index)
        return dataclasses.replace(self, shards=shards)


def describe_source(
    folder: str,
    keys: Sequence[str],
    size: int | None,
    *,
    kind: str = "folder",
    columns: dict[str, str] | None = None,
    prompts: Sequence[str] | None = None,
    hashed: bool = True,
) -> dict[str, Any]:
    """The `source` of a manifest.

    Args:
        folder: a name for the image folder (no path of one machine).
        keys: of all images in row order; stored as their count and their sha256.
        size: edge length of the square images in pixels; None where views differ.
        kind: what the images came in: "folder", "celeba", "webdataset", ...
        columns: further columns of the rows, name -> "string", "int64", "float32" or
            "bool".
        prompts: of all images in row order, if each has its own; stored as their sha256.
        hashed: whether the image files were at hand, so that ok rows have their sha256.
    """
    source: dict[str, Any] = {
        "folder": folder,
        "images": len(keys),
        "keys_sha256": keys_sha256(keys),
        "kind": kind,
        "size": size,
    }
    if columns:
        source["columns"] = columns
    if prompts is not None:
        source["prompts_sha256"] = prompts_sha256(prompts)
    if not hashed:
        source["hashed"] = False
    return source


def keys_sha256(keys: Iterable[str]) -> str:
    """The sha256 of the keys, one a line, in hex."""
    digest = hashlib.sha256()
    for i, key in enumerate(keys):
        digest.update(f"\n{key}".encode() if i else key.encode())
    return digest.hexdigest()


def prompts_sha256(prompts: Iterable[str]) -> str:
    """The sha256 of the prompts, one `prompt_line` each, in hex."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(prompt_line(prompt))
    return digest.hexdigest()


def prompt_line(prompt: str) -> bytes:
    """A prompt as one line of JSON, for it may have line breaks itself."""
    return json.dumps(prompt).encode() + b"\n"


def _check_source(source: dict[str, Any], row_count: int) -> None:
    missing = sorted({"folder", "images", "keys_sha256", "size"} - set(source))
    checks.require(not missing, "source", f"lacks {', '.join(missing)}")
    checks.text(source["folder"], "source.folder")
    checks.match(checks.SHA256, source["keys_sha256"], "source.keys_sha256")
    if source["size"] is not None:
        checks.integer(source["size"], "source.size", low=1)
    checks.integer(source["images"], "source.images", low=1)
    checks.text(source.get("kind", "folder"), "source.kind")
    columns = source.get("columns", {})
    checks.require(isinstance(columns, dict), "source.columns", "is not an object")
    for name, kind in columns.items():
        checks.one_of(COLUMN_TYPES, kind, f"source.columns.{name}")
    if "prompts_sha256" in source:
        digest = source["prompts_sha256"]
        checks.match(checks.SHA256, digest, "source.prompts_sha256")
    right = type(source.get("hashed", True)) is bool
    checks.require(right, "source.hashed", "is neither true nor false")
    same = source["images"] == row_count
    checks.require(same, "source.images", f"is not row_count ({row_count})")


def _different(names: Sequence[str], where: str) -> None:
    checks.require(len(set(names)) == len(names), where, "have one name twice")


def _copy_json(instance: View | Manifest, field: str, where: str) -> None:
    value = checks.json_object(getattr(instance, field), where)
    object.__setattr__(instance, field, value)  # frozen, but still under construction
