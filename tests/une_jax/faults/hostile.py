"""Datasets that somebody made to do harm: what they hold, and whether it does."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flips
import little
import shim
from hypothesis import strategies as st

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import sealed
from une_jax.zoo.manifest import record_name, table_name, tensors_name

TRICKS = (
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "shards/../../x",
        "shards/./00001.safetensors",
    ),
    *("shards\\00001.safetensors", "shards/00001.safetensors\0", "C:\\x", "~/x", "."),
    *("", "\n", "é", "\u202e", "sha256", "clip", "key", "9" * 300, "0" * 64),
)
numbers = (
    st.integers()
    | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 10**400, -1, 0])
    | st.floats()
)
scalars = st.none() | st.booleans() | numbers | st.text() | st.sampled_from(TRICKS)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(TRICKS), inner, max_size=3)
    ),
    max_leaves=6,
) | st.integers(60, 300).map(lambda depth: nested(depth))


def nested(depth: int) -> Any:
    """Lists and objects in one another."""
    value: Any = 0
    for i in range(depth):
        value = [value] if i % 2 else {"a": value}
    return value


def places(content: Any) -> list[tuple[Any, Any]]:
    """Each (object or list, key or index) below `content`."""
    found, inner = [], [content]
    while inner:
        parent = inner.pop()
        if isinstance(parent, dict | list):
            keys = list(parent) if isinstance(parent, dict) else range(len(parent))
            found += [(parent, key) for key in keys]
            inner += [parent[key] for key in keys]
    return found


@st.composite
def altered(draw: Callable, text: str, times: int = 3) -> Any:
    """JSON `text` with up to `times` changes, each of any kind, anywhere."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, times))):
        found = places(content)
        if not found:
            break
        parent, key = found[draw(st.integers(0, len(found) - 1))]
        match draw(st.sampled_from(["set", "set", "remove", "add", "copy"])):
            case "set":
                parent[key] = draw(values)
            case "remove":
                del parent[key]
            case "add" if isinstance(parent, dict):
                parent[draw(st.text(max_size=5) | st.sampled_from(TRICKS))] = parent[
                    key
                ]
            case "copy":
                other, place = found[draw(st.integers(0, len(found) - 1))]
                if isinstance(other, list) or place in other:
                    parent[key] = json.loads(json.dumps(other[place]))
    return content


def spelt(content: Any) -> bytes:
    """As the zoo would spell it and seal it, if it can; else somehow."""
    try:
        return sealed.to_bytes(content)
    except (TypeError, ValueError, RecursionError, AttributeError):
        return json.dumps(content).encode()


def build(path: Path) -> None:
    """Two shards, of which the second has a record."""
    flips.build(path)


def plant(
    path: Path, *, tensors: bytes | None = None, table: bytes | None = None
) -> None:
    """Puts other bytes in place of the second shard's, with a record that is of them."""
    record = json.loads((path / record_name(1)).read_bytes())
    for part, name, data in (
        ("tensors", tensors_name(1), tensors),
        ("table", table_name(1), table),
    ):
        if data is not None:
            (path / name).write_bytes(data)
            record[part]["bytes"] = len(data)
            record[part]["sha256"] = hashlib.sha256(data).hexdigest()
    record.pop("sha256")
    (path / record_name(1)).write_bytes(sealed.to_bytes(record))


def survive(path: Path) -> list[str]:
    """Opens, reads, verifies and resumes; gives what was said.

    Raises:
        AssertionError: an error that is not ours, or a file that is not below `path`.
    """
    seen: list[str] = []
    said: list[str] = []
    deeds: list[Callable[[], Any]] = [
        lambda: flips.read(path),
        lambda: zoo.verify(path),
        lambda: zoo.Writer(path).pending(),
        lambda: zoo.create(path, little.manifest(flips.TINY)),
    ]
    with shim.watched(lambda call: seen.append(os.path.realpath(call.path))):
        for deed in deeds:
            try:
                answer = deed()
            except UneError as error:
                assert "\n" not in str(error), str(error)
                said.append(str(error))
                continue
            if isinstance(answer, dict):
                for value in answer.values():
                    assert not isinstance(value, str), value  # some other error
                said += [str(v) for v in answer.values() if isinstance(v, UneError)]
            elif isinstance(answer, list):
                said += [text for text in answer if isinstance(text, str)]
    outside = [file for file in seen if not file.startswith(os.path.realpath(path))]
    assert not [file for file in outside if "/site-packages/" not in file], outside
    return said
