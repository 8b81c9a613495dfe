"""Keys of millions of images in little memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Int64

from une_jax.errors import UneError

pc: Any = pyarrow.compute  # makes its functions at run time
CHUNK = 65_536
BAD = {
    r"^$": "is empty",
    r"[\r\n\x00]": "has a line break",
    r"^/|(^|/)\.\.(/|$)": "leads out of its folder",
}
"""What no key may match, since a zoo hands keys on as names of files below a folder."""


class Keys(Sequence[str]):
    """Strings in an Arrow array: a few bytes each beside their text, for millions.

    >>> keys, order = Keys.sort(["b", "c", "a"])
    >>> keys[0], keys[1:] == ["b", "c"], order.tolist()
    ('a', True, [2, 0, 1])
    """

    def __init__(self, array: pa.LargeStringArray):
        self.array = array

    @classmethod
    def sort(
        cls, words: Iterable[str] | pa.Array | pa.ChunkedArray
    ) -> tuple["Keys", Int64[np.ndarray, " n"]]:
        """The keys by code point, and at which place among `words` each was.

        Raises:
            UneError: a key is missing, listed twice or as in `BAD`.
        """
        array = _array(words)
        if array.null_count:
            raise UneError("a key is missing (null); every image needs one")
        for regex, problem in BAD.items():
            bad = pc.match_substring_regex(array, regex)
            if pc.any(bad).as_py():
                first = array.filter(bad)[0].as_py()
                raise UneError(f"key {first!r} {problem}; rename it")
        order = pc.sort_indices(array)  # by UTF-8 bytes, which is by code point
        array = array.take(order)
        twice = pc.equal(array[1:], array[:-1])
        if pc.any(twice).as_py():
            raise UneError(f"key {array[1:].filter(twice)[0].as_py()!r} occurs twice")
        return cls(array), order.to_numpy().astype(np.int64)

    def take(self, rows: Int64[np.ndarray, " m"]) -> "Keys":
        """The keys of some rows."""
        return type(self)(self.array.take(pa.array(rows)))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Keys": ...
    def __getitem__(self, index: int | slice) -> "str | Keys":
        found = self.array[index]
        return Keys(found) if isinstance(index, slice) else found.as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.array), CHUNK):
            yield from self.array.slice(start, CHUNK).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Keys):
            return self.array.equals(other.array)
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            a == b for a, b in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Keys of {len(self)} rows, from {self[0]!r}" if len(self) else "Keys()"


def _array(words: Any) -> pa.Array:
    if isinstance(words, pa.Array):
        return words.cast(pa.large_string())
    if isinstance(words, pa.ChunkedArray):
        return words.cast(pa.large_string()).combine_chunks()
    return pa.concat_arrays(_chunks(words))


def _chunks(words: Iterable[str]) -> Iterator[pa.Array]:
    chunk = []
    for word in words:
        chunk.append(word)
        if len(chunk) == CHUNK:
            yield pa.array(chunk, pa.large_string())
            chunk = []
    yield pa.array(chunk, pa.large_string())
