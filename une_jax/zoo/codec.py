"""`manifest.json` and the records in `commits/`: their bytes, and both put together."""

import contextlib
import dataclasses
import os
import re
import reprlib
from pathlib import Path
from typing import Any, get_origin

from une_jax.errors import UneError
from une_jax.zoo import checks, sealed
from une_jax.zoo.manifest import (
    FORMAT_VERSION,
    File,
    Manifest,
    Shard,
    View,
    record_name,
)

FILE_NAME = "manifest.json"
RECORDS = "commits"
RECORD = re.compile(r"[0-9]+\.json")


def to_bytes(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`; equal manifests give equal bytes."""
    return sealed.to_bytes(vars(manifest))


def from_bytes(data: bytes) -> Manifest:
    """Reads what `to_bytes` wrote.

    Raises:
        UneError: on any other bytes.
    """
    content = sealed.parse(data)
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UneError(
            f"format_version is {reprlib.repr(version)}, and this une-jax reads "
            f"{FORMAT_VERSION}; use the une-jax that wrote the zoo"
        )
    _require_fields(content, Manifest, "manifest")
    for name in content["attribute_names"]:
        checks.text(name, "attribute_names")
    lists = {
        "views": tuple(_view(item) for item in content["views"]),
        "shards": tuple(_shard(item) for item in content["shards"]),
        "attribute_names": tuple(content["attribute_names"]),
    }
    manifest = Manifest(**{**content, **lists})
    sealed.require_seal(content, data)
    return manifest


def record_to_bytes(shard: Shard) -> bytes:
    """The bytes of a shard's record."""
    return sealed.to_bytes(vars(shard))


def record_from_bytes(data: bytes) -> Shard:
    """Reads what `record_to_bytes` wrote.

    Raises:
        UneError: on any other bytes.
    """
    content = sealed.parse(data)
    shard = _shard(content)
    sealed.require_seal(content, data)
    return shard


def load(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the zoo in `folder`, with the shards that are not folded in yet.

    Raises:
        UneError: there is none, or it or a record is damaged.
    """
    manifest, shards = load_parts(folder)
    return manifest.with_shards(shards) if shards else manifest


def load_parts(folder: str | os.PathLike[str]) -> tuple[Manifest, list[Shard]]:
    """The manifest of the zoo in `folder` as it is, and the shards that have records.

    Raises:
        UneError: there is none, or it or a record is damaged.
    """
    # In this order: a record that a fold moves meanwhile is in one of them or both.
    records = read_records(folder)
    manifest = load_folded(folder)
    shards = []
    for name, data in records.items():
        try:
            shards.append(checked_record(manifest, name, data))
        except UneError as error:
            if Path(folder, name).exists():  # else it was folded, or replaced
                raise UneError(f"{Path(folder, name)}: {error}") from error
    return manifest, shards


def load_folded(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the zoo in `folder` as `manifest.json` has it.

    Raises:
        UneError: there is none, or it is damaged.
    """
    data = read_bytes(folder)
    try:
        return from_bytes(data)
    except UneError as error:
        raise UneError(f"{Path(folder, FILE_NAME)}: {error}") from error


def read_bytes(folder: str | os.PathLike[str], size: int = -1) -> bytes:
    """The bytes of the manifest in `folder`, unread; the first `size` if that is given.

    Raises:
        UneError: `folder` is no zoo.
    """
    try:
        with open(Path(folder, FILE_NAME), "rb") as file:
            return file.read(size)
    except OSError as error:
        raise UneError(
            f"{folder} is no NoiseZoo: cannot read its {FILE_NAME} "
            f"({error.strerror}); `une-jax build` makes one"
        ) from error


def read_records(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """The records in `folder`, by name below it and in order, unread.

    Raises:
        UneError: one cannot be read.
    """
    records = {}
    path = Path(folder, RECORDS)
    try:
        for name in sorted(os.listdir(path)):
            if RECORD.fullmatch(name):
                path = Path(folder, RECORDS, name)
                with contextlib.suppress(FileNotFoundError):  # it was folded just now
                    records[f"{RECORDS}/{name}"] = path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UneError(f"{path}: cannot read ({error.strerror})") from error
    return records


def has_record(folder: str | os.PathLike[str], shard: Shard) -> bool:
    """Whether `shard` has a record in `folder`, and no other shard has taken its place."""
    try:
        data = Path(folder, record_name(shard.index)).read_bytes()
    except OSError:
        return False
    return data == record_to_bytes(shard)


def checked_record(manifest: Manifest, name: str, data: bytes) -> Shard:
    """The shard in a record, if it is one of the manifest's zoo and agrees with it.

    Raises:
        UneError: it does not, or the record is damaged.
    """
    hint = "remove it, and the next build computes the shard again"
    try:
        shard = record_from_bytes(data)
        manifest.require_fit(shard)
    except UneError as error:
        raise UneError(f"{error}; {hint}") from error
    if record_name(shard.index) != name:
        raise UneError(f"is of shard {shard.index}; {hint}")
    folded = manifest.shard(shard.index)
    if folded not in (None, shard):
        raise UneError(f"differs from {FILE_NAME}; remove it to keep the manifest's")
    return shard


def _view(content: Any) -> View:
    _require_fields(content, View, "views")
    for length in content["shape"]:
        checks.integer(length, "views.shape", low=1)
    return View(**{**content, "shape": tuple(content["shape"])})


def _shard(content: Any) -> Shard:
    _require_fields(content, Shard, "shards")
    for part in ("tensors", "table"):
        _require_fields(content[part], File, f"shards.{part}")
    files = {part: File(**content[part]) for part in ("tensors", "table")}
    return Shard(**{**content, **files})


def _require_fields(content: Any, kind: type, where: str) -> None:
    """Refuses an object unless its fields are those of the dataclass and of its types."""
    checks.require(isinstance(content, dict), where, "is not an object")
    wanted = FIELDS[kind]
    if wanted.keys() != content.keys():
        missing = sorted(wanted.keys() - content.keys())
        unknown = reprlib.repr(sorted(content.keys() - wanted.keys()))
        checks.require(not missing, where, f"lacks {', '.join(missing)}")
        raise UneError(f"{where} has unknown {unknown}")
    for name, type_ in wanted.items():
        value = content[name]
        if type(value) is not type_:
            problem = f"is {reprlib.repr(value)}, not {type_.__name__}"
            raise UneError(f"{where}.{name} {problem}")


def _json_type(hint: Any) -> type:
    """A tuple is a list in JSON, and an inner dataclass an object."""
    return {str: str, int: int, tuple: list}.get(get_origin(hint) or hint, dict)


FIELDS = {
    kind: {field.name: _json_type(field.type) for field in dataclasses.fields(kind)}
    for kind in (Manifest, View, Shard, File)
}
