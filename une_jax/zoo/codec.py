"""`manifest.json`: one canonical spelling, sealed with its own sha256.

Reading accepts exactly what writing produces. So a flipped byte, a foreign field, a
field given twice and a hostile file are all refused at the door.
"""

import dataclasses
import hashlib
import json
import os
import reprlib
from pathlib import Path
from typing import Any, get_origin

from une_jax.errors import UneError
from une_jax.zoo import checks
from une_jax.zoo.manifest import FORMAT_VERSION, File, Manifest, Shard, View

FILE_NAME = "manifest.json"


def to_bytes(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`; equal manifests give equal bytes."""
    content = dataclasses.asdict(manifest)
    digest = hashlib.sha256(_spell(content)).hexdigest()
    return _spell({**content, "sha256": digest})


def from_bytes(data: bytes) -> Manifest:
    """Reads what `to_bytes` wrote.

    Raises:
        UneError: on any other bytes.
    """
    try:
        content = json.loads(data.decode(), object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise UneError("not a manifest: nested too deeply") from error
    except ValueError as error:
        raise UneError(f"not a manifest: {error}") from error
    checks.require(isinstance(content, dict), "manifest", "is not an object")
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UneError(
            f"format_version is {reprlib.repr(version)}, and this une-jax reads "
            f"{FORMAT_VERSION}; use the une-jax that wrote the zoo"
        )
    content.pop("sha256", None)  # compared below, with all the rest
    content = _fields(content, Manifest, "manifest")
    for name in content["attribute_names"]:
        checks.text(name, "attribute_names")
    lists = {
        "views": tuple(_view(item) for item in content["views"]),
        "shards": tuple(_shard(item) for item in content["shards"]),
        "attribute_names": tuple(content["attribute_names"]),
    }
    manifest = Manifest(**{**content, **lists})
    if to_bytes(manifest) != data:
        raise UneError("altered: the content does not match its own sha256")
    return manifest


def load(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the zoo in `folder`.

    Raises:
        UneError: there is none, or it is damaged.
    """
    data = read_bytes(folder)
    try:
        return from_bytes(data)
    except UneError as error:
        raise UneError(f"{Path(folder, FILE_NAME)}: {error}") from error


def read_bytes(folder: str | os.PathLike[str]) -> bytes:
    """The bytes of the manifest in `folder`, unread.

    Raises:
        UneError: `folder` is no zoo.
    """
    try:
        return Path(folder, FILE_NAME).read_bytes()
    except OSError as error:
        raise UneError(
            f"{folder} is no NoiseZoo: cannot read its {FILE_NAME} "
            f"({error.strerror}); `une-jax build` makes one"
        ) from error


def _view(content: Any) -> View:
    content = _fields(content, View, "views")
    for length in content["shape"]:
        checks.integer(length, "views.shape", low=1)
    return View(**{**content, "shape": tuple(content["shape"])})


def _shard(content: Any) -> Shard:
    content = _fields(content, Shard, "shards")
    files = {
        part: File(**_fields(content[part], File, f"shards.{part}"))
        for part in ("tensors", "table")
    }
    return Shard(**{**content, **files})


def _fields(content: Any, kind: type, where: str) -> dict[str, Any]:
    """The fields of an object, if they are those of the dataclass, and of its types."""
    checks.require(isinstance(content, dict), where, "is not an object")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    missing, unknown = sorted(set(fields) - set(content)), set(content) - set(fields)
    checks.require(not missing, where, f"lacks {', '.join(missing)}")
    checks.require(not unknown, where, f"has unknown {reprlib.repr(unknown)}")
    for name, hint in fields.items():
        # A tuple is a list in JSON, and an inner dataclass an object.
        wanted = {str: str, int: int, tuple: list}.get(get_origin(hint) or hint, dict)
        problem = f"is {reprlib.repr(content[name])}, not {wanted.__name__}"
        checks.require(type(content[name]) is wanted, f"{where}.{name}", problem)
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    checks.require(len(dict(pairs)) == len(pairs), "a field", "is there twice")
    return dict(pairs)


def _spell(content: dict[str, Any]) -> bytes:
    text = json.dumps(
        content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode()
