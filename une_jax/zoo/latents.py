"""The latents of one view, read through the page cache when they are asked for."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from une_jax.zoo.manifest import DTYPES, View

if TYPE_CHECKING:
    from une_jax.zoo.reader import Zoo


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """The ok rows of a view, (n, *shape), read when indexed and only as far as asked.

    Index it like a numpy array along axis 0: an integer, a slice, an integer array or a
    boolean mask gives a new numpy array; `np.asarray(latents)` reads all.
    """

    zoo: "Zoo"
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.view.shape)

    @property
    def dtype(self) -> np.dtype:
        return DTYPES[self.view.dtype]

    def __len__(self) -> int:
        return int(self.zoo.ok_starts[-1])

    def __getitem__(self, key: Any) -> np.ndarray:
        places = _places(key, len(self))
        wanted, starts = np.ravel(places), self.zoo.ok_starts
        out = np.empty((len(wanted), *self.view.shape), self.dtype)
        owner = np.searchsorted(starts, wanted, side="right") - 1
        order = np.argsort(owner, kind="stable")
        firsts = np.flatnonzero(np.diff(owner[order], prepend=-1))
        for first, stop in itertools.pairwise([*firsts, len(order)]):
            mine = order[first:stop]  # all in one shard
            i = owner[mine[0]]
            index = self.zoo.manifest.shards[i].index
            here = self.zoo.ok_rows(index)[wanted[mine] - starts[i]]
            tensor = np.asarray(self.zoo.shard_tensor(index, self.view.name))
            for to, start, length in _runs(mine, here):
                out[to : to + length] = tensor[start : start + length]
        return out.reshape(*np.shape(places), *self.view.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("latents lie on disk; reading them makes a copy")
        values = self[:]
        return values if dtype is None else values.astype(dtype)


def _places(key: Any, n: int) -> Int[np.ndarray, "..."]:
    """`np.arange(n)[key]`, and its IndexError, in memory of what it gives alone."""
    if isinstance(key, slice):
        return np.arange(*key.indices(n))
    if key is Ellipsis:
        return np.arange(n)
    if isinstance(key, tuple):
        raise IndexError("latents are indexed along their rows alone")
    index = np.asarray(key)
    if index.dtype == bool:
        if index.shape != (n,):
            raise IndexError(f"a mask of shape {index.shape} for {n} rows")
        return np.flatnonzero(index)
    if index.size == 0 and isinstance(key, list):
        index = index.astype(int)  # numpy makes it float
    if index.dtype.kind not in "iu":
        raise IndexError(f"rows are picked by integers, slices and masks, not {key!r}")
    outside = (index < -n) | (index >= n)
    if outside.any():
        raise IndexError(f"row {index[outside].flat[0]} of {n}")
    index = index.astype(np.int64)
    return np.where(index < 0, index + n, index)


def _runs(
    to: Int[np.ndarray, " m"], start: Int[np.ndarray, " m"]
) -> Iterator[tuple[int, int, int]]:
    """Where both go up by one, as (to, start, length): slices are copied in place.

    >>> list(_runs(np.array([0, 1, 2, 5]), np.array([7, 8, 2, 3])))
    [(0, 7, 2), (2, 2, 1), (5, 3, 1)]
    """
    breaks = np.flatnonzero((np.diff(to) != 1) | (np.diff(start) != 1)) + 1
    first = np.append(0, breaks)
    lengths = np.diff(first, append=len(to))
    yield from zip(
        to[first].tolist(), start[first].tolist(), lengths.tolist(), strict=True
    )
