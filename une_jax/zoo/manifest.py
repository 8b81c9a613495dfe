"""The manifest of a NoiseZoo: what was asked, and which shards are committed.

`manifest.json` holds `Manifest` in one canonical spelling (sorted keys, fixed indent)
plus the sha256 of that spelling. Reading accepts nothing else, so that a flipped byte,
a foreign field and a hostile file are all refused at the door.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from une_jax.errors import UneError

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
MAX_ROWS = 100_000_000
FIXED_COLUMNS = ("key", "sha256", "status", "reason", "split")
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """One latent space: a generator's noise or an encoder's embedding.

    Attributes:
        name: letters, digits, `.`, `_`, `-`; the tensor's name in each shard.
        kind: "generator" or "encoder".
        model_id: hub id or folder name of the checkpoint.
        weights_sha256: of the weights, in hex.
        config: the checkpoint's own configuration.
        shape: of one row; (4, 64, 64), i.e. NCHW, for generators, (512,) for encoders.
        dtype: "float32", "float16" or "bfloat16".
        settings: all else that fixes the numbers: scheduler, steps, terminal t,
            eval_at, prompt, preprocessing, ...

    Raises:
        UneError: a field is not as described.
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
        _match(NAME, self.name, "views: name")
        where = f"views.{self.name}"
        _one_of(("generator", "encoder"), self.kind, f"{where}.kind")
        _one_of(tuple(DTYPES), self.dtype, f"{where}.dtype")
        _text(self.model_id, f"{where}.model_id")
        _match(SHA256, self.weights_sha256, f"{where}.weights_sha256")
        _require(type(self.shape) is tuple, f"{where}.shape", "is not a list")
        for length in self.shape:
            _integer(length, f"{where}.shape", low=1)
        ranks = (3,) if self.kind == "generator" else range(1, 9)
        _require(len(self.shape) in ranks, f"{where}.shape", "has the wrong rank")
        for field in ("config", "settings"):
            _set(self, field, _plain_dict(getattr(self, field), f"{where}.{field}"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A committed file: its name below the zoo, size in bytes and sha256 in hex."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self):
        _text(self.name, "file name")
        _integer(self.bytes, f"{self.name}: bytes", low=0)
        _match(SHA256, self.sha256, f"{self.name}: sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed shard: `rows` rows in one safetensors and one Parquet file.

    Raises:
        UneError: a field is out of range, or a file is not named after the index (so
            that no name can lead out of the zoo).
    """

    index: int
    rows: int
    tensors: File
    table: File

    def __post_init__(self):
        _integer(self.index, "shards: index", low=0)
        _integer(self.rows, f"shards.{self.index}.rows", low=1)
        for file, name in ((self.tensors, tensors_name), (self.table, table_name)):
            where = f"shards.{self.index}"
            _require(isinstance(file, File), where, "lacks a file")
            expected = name(self.index)
            _require(
                file.name == expected, where, f"names {file.name!r}, not {expected!r}"
            )


def tensors_name(index: int) -> str:
    """Where the tensors of a shard lie below the zoo."""
    return f"shards/{index:05d}.safetensors"


def table_name(index: int) -> str:
    """Where the rows of a shard lie below the zoo."""
    return f"rows/{index:05d}.parquet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a NoiseZoo is asked to hold, and the shards it holds by now.

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
        _require(
            type(self.format_version) is int and self.format_version == FORMAT_VERSION,
            "format_version",
            f"is {self.format_version!r}, and this une-jax reads {FORMAT_VERSION}; "
            "use the une-jax that wrote the zoo, or build it again",
        )
        _integer(self.row_count, "row_count", low=1, high=MAX_ROWS)
        _integer(self.shard_rows, "shard_rows", low=1, high=MAX_ROWS)
        names = [view.name for view in self.views]
        _require(bool(names), "views", "are empty; ask for a generator or an encoder")
        _require(len(set(names)) == len(names), "views", "have a name twice")
        for name in self.attribute_names:
            _text(name, "attribute_names")
            _require(
                name not in FIXED_COLUMNS and not name.startswith("residual/"),
                "attribute_names",
                f"have {name!r}, which is another column's name; rename it",
            )
        repeated = len(set(self.attribute_names)) != len(self.attribute_names)
        _require(not repeated, "attribute_names", "have a name twice")
        _set(self, "source", _plain_dict(self.source, "source"))
        self._check_source()
        indices = [shard.index for shard in self.shards]
        _require(sorted(set(indices)) == indices, "shards", "are not in order")
        for shard in self.shards:
            _require(
                shard.index < self.shard_count
                and shard.rows == len(self.rows_of(shard.index)),
                f"shards.{shard.index}",
                "does not fit row_count and shard_rows",
            )

    def _check_source(self) -> None:
        missing = {"folder", "images", "keys_sha256", "size"} - set(self.source)
        _require(not missing, "source", f"lacks {', '.join(sorted(missing))}")
        _text(self.source["folder"], "source.folder")
        _match(SHA256, self.source["keys_sha256"], "source.keys_sha256")
        if self.source["size"] is not None:
            _integer(self.source["size"], "source.size", low=1)
        images = self.source["images"]
        _integer(images, "source.images", low=1)
        _require(images == self.row_count, "source.images", "differ from row_count")

    @property
    def shard_count(self) -> int:
        """Shards of the finished zoo."""
        return -(-self.row_count // self.shard_rows)

    def rows_of(self, index: int) -> range:
        """The rows (counted through the zoo) of shard `index`.

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

    def to_bytes(self) -> bytes:
        """The one spelling of `manifest.json`."""
        content = dataclasses.asdict(self)
        digest = hashlib.sha256(_spell(content)).hexdigest()
        return _spell({**content, "sha256": digest})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Reads what `to_bytes` wrote.

        Raises:
            UneError: any other bytes.
        """
        try:
            content = json.loads(data.decode(), object_pairs_hook=_without_repeats)
        except RecursionError as error:
            raise UneError("not a manifest: nested too deeply") from error
        except ValueError as error:
            raise UneError(f"not a manifest: {error}") from error
        _require(isinstance(content, dict), "the top level", "is not an object")
        version = content.get("format_version")
        if version != FORMAT_VERSION or type(version) is not int:
            raise UneError(
                f"format_version is {version!r}, and this une-jax reads "
                f"{FORMAT_VERSION}; use the une-jax that wrote the zoo"
            )
        content.pop("sha256", None)
        for field in ("views", "attribute_names", "shards"):
            _require(isinstance(content.get(field), list), field, "is not a list")
        views = [_fields(view, View, "views") for view in content["views"]]
        shards = [_fields(shard, Shard, "shards") for shard in content["shards"]]
        for view in views:
            if isinstance(view["shape"], list):
                view["shape"] = tuple(view["shape"])
        for shard in shards:
            for part in ("tensors", "table"):
                shard[part] = File(**_fields(shard[part], File, f"shards: {part}"))
        content["views"] = tuple(View(**view) for view in views)
        content["shards"] = tuple(Shard(**shard) for shard in shards)
        for name in content["attribute_names"]:
            _text(name, "attribute_names")
        content["attribute_names"] = tuple(content["attribute_names"])
        manifest = cls(**_fields(content, cls, "the top level"))
        if manifest.to_bytes() != data:
            raise UneError("altered: the content does not match its own sha256")
        return manifest


def load(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the zoo in `folder`.

    Raises:
        UneError: there is none, or it is damaged.
    """
    path = Path(folder) / FILE_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UneError(
            f"{folder} is no NoiseZoo: cannot read {FILE_NAME} ({error.strerror}); "
            "make one with `une-jax build`"
        ) from error
    try:
        return Manifest.from_bytes(data)
    except UneError as error:
        raise UneError(f"{path}: {error}") from error


def describe_source(
    folder: str, keys: Sequence[str], size: int | None
) -> dict[str, Any]:
    """The `source` of a manifest.

    Args:
        folder: a name for the image folder (no path of one machine).
        keys: of all images in row order; stored as count and sha256.
        size: edge length of the square images in pixels; None if views differ.
    """
    joined = "\n".join(keys).encode()
    digest = hashlib.sha256(joined).hexdigest()
    return {"folder": folder, "images": len(keys), "keys_sha256": digest, "size": size}


def differences(have: Manifest, asked: Manifest) -> list[str]:
    """Where the settings of two manifests differ, shards aside; empty if nowhere.

    One line each, as `views.sd15.settings.steps: 50 in the zoo, 20 asked`.
    """
    order = [[view.name for view in manifest.views] for manifest in (have, asked)]
    settings = []
    for manifest in (have, asked):
        content = dataclasses.asdict(manifest)
        del content["shards"]
        # A missing view is one difference, not one per field.
        content["views"] = {
            view["name"]: view
            for view in content["views"]
            if view["name"] in order[0] and view["name"] in order[1]
        }
        settings.append(content)
    names = [] if order[0] == order[1] else [_difference("views", *order)]
    return names + list(_differences(*settings, where=""))


def _differences(have: Any, asked: Any, *, where: str) -> Iterator[str]:
    if not (isinstance(have, dict) and isinstance(asked, dict)):
        if have != asked:
            yield _difference(where, have, asked)
        return
    for key in sorted(have.keys() | asked.keys()):
        path = f"{where}.{key}" if where else key
        if key not in asked:
            yield f"{path}: {_short(have[key])} in the zoo, not asked"
        elif key not in have:
            yield f"{path}: not in the zoo, {_short(asked[key])} asked"
        else:
            yield from _differences(have[key], asked[key], where=path)


def _difference(where: str, have: Any, asked: Any) -> str:
    return f"{where}: {_short(have)} in the zoo, {_short(asked)} asked"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _spell(content: dict[str, Any]) -> bytes:
    text = json.dumps(
        content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise UneError("a field is there twice")
    return content


def _fields(content: Any, kind: type, where: str) -> dict[str, Any]:
    _require(isinstance(content, dict), where, "is not an object")
    expected = {field.name for field in dataclasses.fields(kind)}
    odd = sorted(expected ^ set(content))
    _require(not odd, where, f"lacks or does not know {', '.join(odd)}")
    return content


def _plain_dict(value: Any, where: str) -> dict[str, Any]:
    _require(isinstance(value, dict), where, "is not an object")
    try:
        return _plain(value, where)
    except RecursionError as error:
        raise UneError(f"{where} is nested too deeply") from error


def _plain(value: Any, where: str) -> Any:
    """A copy that JSON gives back unchanged: tuples are lists, NaN is refused."""
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        _require(math.isfinite(value), where, "is not finite")
        return value
    if isinstance(value, str):
        return _text(value, where, empty=True)
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    _require(isinstance(value, dict), where, f"is {type(value).__name__}, not JSON")
    return {
        _text(key, where, empty=True): _plain(item, f"{where}.{key}")
        for key, item in value.items()
    }


def _text(value: Any, where: str, *, empty: bool = False) -> str:
    _require(isinstance(value, str) and (empty or value != ""), where, "is not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UneError(f"{where} is not UTF-8") from error
    return value


def _integer(value: Any, where: str, *, low: int, high: int = 2**62) -> None:
    ok = type(value) is int and low <= value <= high
    _require(ok, where, f"is {value!r}, not an integer of at least {low}")


def _match(pattern: re.Pattern[str], value: Any, where: str) -> None:
    ok = isinstance(value, str) and pattern.fullmatch(value) is not None
    _require(ok, where, f"is {value!r}, not of the form {pattern.pattern}")


def _one_of(choices: tuple[str, ...], value: Any, where: str) -> None:
    _require(value in choices, where, f"is {value!r}, none of {', '.join(choices)}")


def _require(ok: bool, where: str, problem: str) -> None:
    if not ok:
        raise UneError(f"{where} {problem}")


def _set(instance: Any, field: str, value: Any) -> None:
    object.__setattr__(instance, field, value)
