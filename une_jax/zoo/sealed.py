"""JSON objects in one canonical spelling, sealed with their own sha256.

Reading accepts exactly what writing produces. So a flipped byte, a foreign field, a
field given twice and a hostile file are all refused at the door.
"""

import hashlib
import json
from typing import Any

from une_jax.errors import UneError
from une_jax.zoo import checks

LONG_LIST = "shards"  # the field that is spelt one item a line
SEAL_BYTES = len('{\n "sha256": "",\n') + 64  # at the start of a file


def to_bytes(content: dict[str, Any]) -> bytes:
    """The file's bytes: the seal, then the fields by name; dataclasses are objects.

    >>> print(to_bytes({"b": [1], "a": 2}).decode())
    {
     "sha256": "4bdd9fbcbd1db7bea64d1a67206387e53491ce246d51b3de6f95b4cd15ceb439",
     "a": 2,
     "b": [
      1
     ]
    }
    <BLANKLINE>
    """
    fields = (f' "{key}": {_spell(key, content[key])}' for key in sorted(content))
    body = (",\n".join(fields) + "\n}\n").encode()
    digest = hashlib.sha256(body).hexdigest()
    return f'{{\n "sha256": "{digest}",\n'.encode() + body


def parse(data: bytes) -> dict[str, Any]:
    """The fields in `data`, whose seal is still to be checked by `require_seal`.

    Raises:
        UneError: `data` is no JSON object.
    """
    try:
        content = json.loads(data.decode())
    except RecursionError as error:
        raise UneError("not JSON: nested too deeply") from error
    except ValueError as error:
        raise UneError(f"not JSON: {error}") from error
    checks.require(isinstance(content, dict), "the content", "is not an object")
    content.pop("sha256", None)
    return content


def require_seal(content: dict[str, Any], data: bytes) -> None:
    """Raises `UneError` unless `data` is what `to_bytes` makes of `content`."""
    try:
        intact = to_bytes(content) == data
    except ValueError:  # NaN, or half a surrogate pair
        intact = False
    if not intact:
        raise UneError("altered: the content does not match its own sha256")


def _spell(key: str, value: Any) -> str:
    if key == LONG_LIST and value:
        return "[\n  " + ",\n  ".join(_dumps(item, None) for item in value) + "\n ]"
    return _dumps(value, 1).replace("\n", "\n ")  # no text has a raw line break


def _dumps(value: Any, indent: int | None) -> str:
    return json.dumps(
        value,
        default=vars,
        sort_keys=True,
        indent=indent,
        ensure_ascii=False,
        allow_nan=False,
    )
