"""Reading a NoiseZoo: rows in memory, latents through the page cache."""

import dataclasses
import difflib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from une_jax.errors import UneError
from une_jax.zoo import codec, rows, tensors
from une_jax.zoo.manifest import DTYPES, Manifest, Shard, View


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """The part of a view that one shard holds: rows [start, stop) of the committed."""

    path: Path
    offset: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """The ok rows of a view, (n, *shape), read when indexed and only as far as asked.

    Index it like a numpy array along axis 0: an integer, a slice, an integer array or a
    boolean mask gives a new numpy array; `np.asarray(latents)` reads all.
    """

    view: View
    blocks: tuple[Block, ...]
    ok: Int[np.ndarray, " n"]  # place of each ok row among the committed rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.ok), *self.view.shape)

    @property
    def dtype(self) -> np.dtype:
        return DTYPES[self.view.dtype]

    def __len__(self) -> int:
        return len(self.ok)

    def __getitem__(self, key: Any) -> np.ndarray:
        places = self.ok[key]  # numpy's own rules, and its IndexError
        wanted = np.ravel(places)
        out = np.empty((len(wanted), *self.view.shape), self.dtype)
        starts = np.array([block.start for block in self.blocks])
        owner = np.searchsorted(starts, wanted, side="right") - 1
        for i in np.unique(owner):
            block, mine = self.blocks[i], np.flatnonzero(owner == i)
            here = wanted[mine] - block.start
            out[_run(mine)] = self._read(block)[_run(here)]
        return out.reshape(*np.shape(places), *self.view.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("latents lie on disk; reading them makes a copy")
        values = self[:]
        return values if dtype is None else values.astype(dtype)

    def _read(self, block: Block) -> np.ndarray:
        shape = (block.stop - block.start, *self.view.shape)
        try:
            return np.memmap(
                block.path, self.dtype, mode="r", offset=block.offset, shape=shape
            )
        except (OSError, ValueError) as error:
            raise UneError(f"{block.path}: cannot read: {error}") from error


def _run(index: Int[np.ndarray, " m"]) -> slice | Int[np.ndarray, " m"]:
    """A slice where the indices are consecutive: numpy copies it as one block."""
    consecutive = index[-1] - index[0] == len(index) - 1 and (np.diff(index) == 1).all()
    return slice(index[0], index[-1] + 1) if consecutive else index


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Zoo:
    """An open NoiseZoo; get one from `open`.

    Attributes:
        path: its folder.
        manifest: its settings and committed shards.
        all_rows: the rows of all committed shards, failed ones included.
        blocks: per view, where its tensors lie.
    """

    path: Path
    manifest: Manifest
    all_rows: pa.Table
    blocks: dict[str, tuple[Block, ...]]

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views."""
        return tuple(view.name for view in self.manifest.views)

    @property
    def complete(self) -> bool:
        """Whether all shards are committed."""
        return len(self.manifest.shards) == self.manifest.shard_count

    @functools.cached_property
    def rows(self) -> pa.Table:
        """The n rows of status ok; row i is row i of every view."""
        return self.all_rows.filter(pa.array(rows.is_ok(self.all_rows)))

    @property
    def keys(self) -> list[str]:
        """The key of each ok row."""
        return self.rows.column("key").to_pylist()

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return self.manifest.attribute_names

    @functools.cached_property
    def attributes(self) -> Bool[np.ndarray, "n a"]:
        """The attributes of the ok rows.

        Raises:
            UneError: an attribute of an ok row is unknown.
        """
        values = np.zeros((self.rows.num_rows, len(self.attribute_names)), bool)
        for j, name in enumerate(self.attribute_names):
            column = self.rows.column(name)
            if column.null_count:
                raise UneError(
                    f"{self.path}: {name} is unknown for {column.null_count} images; "
                    "build with attributes for all of them"
                )
            values[:, j] = column.to_numpy()
        return values

    def split(self, part: str) -> Int[np.ndarray, " m"]:
        """Which of the ok rows are "train" or "test" in the paper's 80/20 split.

        Raises:
            UneError: `part` is neither.
        """
        if part not in ("train", "test"):
            raise UneError(f"no split {part!r}; the zoo has train and test")
        column = np.array(self.rows.column("split").to_pylist(), "<U5")
        return np.flatnonzero(column == part)

    def __getitem__(self, name: str) -> Latents:
        """The latents of view `name`.

        Raises:
            UneError: there is none; it offers the closest names.
        """
        for view in self.manifest.views:
            if view.name == name:
                ok = np.flatnonzero(rows.is_ok(self.all_rows))
                return Latents(view=view, blocks=self.blocks[name], ok=ok)
        close = difflib.get_close_matches(name, self.views, n=3) or self.views
        raise UneError(f"{self.path} has no view {name!r}; it has {', '.join(close)}")


def open(path: str | os.PathLike[str]) -> Zoo:
    """Opens the NoiseZoo in folder `path`; an unfinished one with what it has.

    Reads and checks the manifest, the rows and the headers of the tensors. The latents
    themselves are checked by `verify`.

    Raises:
        UneError: `path` is no zoo, or a file is missing or damaged.
    """
    folder = Path(path)
    manifest = codec.load(folder)
    tables = [schema_only(manifest)]
    blocks: dict[str, list[Block]] = {view.name: [] for view in manifest.views}
    start = 0
    for shard in manifest.shards:
        tables.append(read_table(folder, manifest, shard))
        file = folder / shard.tensors.name
        for name, offset in tensors.offsets(file, manifest.views, shard.rows).items():
            stop = start + shard.rows
            block = Block(path=file, offset=offset, start=start, stop=stop)
            blocks[name].append(block)
        start += shard.rows
    return Zoo(
        path=folder,
        manifest=manifest,
        all_rows=pa.concat_tables(tables).combine_chunks(),
        blocks={name: tuple(parts) for name, parts in blocks.items()},
    )


def read_table(folder: Path, manifest: Manifest, shard: Shard) -> pa.Table:
    """The rows of a shard, if the file is the one that was committed.

    Raises:
        UneError: the file is missing, or not of the manifest's sha256.
    """
    file = folder / shard.table.name
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UneError(
            f"{file}: cannot read ({error.strerror}); restore the file, "
            "`une-jax verify` lists all that is wrong"
        ) from error
    if hashlib.sha256(data).hexdigest() != shard.table.sha256:
        raise UneError(f"{file}: damaged, its sha256 is not the manifest's; restore it")
    try:
        return rows.decode(data, manifest, shard.rows)
    except UneError as error:
        raise UneError(f"{file}: {error}") from error


def schema_only(manifest: Manifest) -> pa.Table:
    """The table of a zoo without rows."""
    return rows.schema(manifest).empty_table()
