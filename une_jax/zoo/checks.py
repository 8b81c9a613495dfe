"""Checks of single fields, for a manifest that may come from anywhere.

Each raises `UneError` that starts with `where`, the field's dotted name; none spends
time on the message before it is needed, for a manifest may list 100,000 shards.
"""

import math
import re
import reprlib
from typing import Any

from une_jax.errors import UneError

SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_DEPTH = 64


def require(ok: bool, where: str, problem: str) -> None:
    """Raises "<where> <problem>" unless `ok`."""
    if not ok:
        raise UneError(f"{where} {problem}")


def text(value: Any, where: str, *, empty: bool = False) -> str:
    """A string that UTF-8 can hold; not "" unless `empty`."""
    require(isinstance(value, str), where, f"is {reprlib.repr(value)}, not a text")
    require(empty or value != "", where, "is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UneError(f"{where} is not UTF-8") from error
    return value


def integer(value: Any, where: str, *, low: int, high: int = 2**62) -> None:
    """An int, and no bool, with low <= value <= high."""
    if type(value) is not int or not low <= value <= high:
        problem = f"is {reprlib.repr(value)}, not an integer from {low} to {high}"
        raise UneError(f"{where} {problem}")


def match(pattern: re.Pattern[str], value: Any, where: str) -> None:
    """A string that is wholly of the form `pattern`."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        problem = f"is {reprlib.repr(value)}, not of the form {pattern.pattern}"
        raise UneError(f"{where} {problem}")


def one_of(choices: tuple[str, ...], value: Any, where: str) -> None:
    """One of `choices`."""
    if value not in choices:
        known = ", ".join(choices)
        raise UneError(f"{where} is {reprlib.repr(value)}, none of {known}")


def json_object(value: Any, where: str) -> dict[str, Any]:
    """A copy of a dict that JSON gives back unchanged: tuples turn into lists.

    Refuses NaN, infinities, keys that are no strings and objects JSON does not know.
    """
    require(isinstance(value, dict), where, "is not an object")
    return _plain(value, where, depth=0)


def _plain(value: Any, where: str, *, depth: int) -> Any:
    require(depth <= MAX_DEPTH, where, f"is nested more than {MAX_DEPTH} deep")
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        require(math.isfinite(value), where, "is not finite")
        return value
    if isinstance(value, str):
        return text(value, where, empty=True)
    if isinstance(value, list | tuple):
        return [_plain(item, where, depth=depth + 1) for item in value]
    require(isinstance(value, dict), where, f"is {type(value).__name__}, not JSON")
    return {
        text(key, where, empty=True): _plain(item, f"{where}.{key}", depth=depth + 1)
        for key, item in value.items()
    }
