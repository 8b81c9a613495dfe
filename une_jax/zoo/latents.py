"""The latents of one view, read through the page cache when they are asked for."""

import dataclasses
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
        for i in np.unique(owner):
            index, mine = self.zoo.manifest.shards[i].index, np.flatnonzero(owner == i)
            here = self.zoo.ok_rows(index)[wanted[mine] - starts[i]]
            out[_run(mine)] = self.zoo.shard_tensor(index, self.view.name)[_run(here)]
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


def _run(index: Int[np.ndarray, " m"]) -> slice | Int[np.ndarray, " m"]:
    """A slice where the indices are consecutive: numpy copies it as one block."""
    consecutive = index[-1] - index[0] == len(index) - 1 and (np.diff(index) == 1).all()
    return slice(index[0], index[-1] + 1) if consecutive else index
