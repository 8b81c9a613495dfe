"""Reading a NoiseZoo shard by shard, each when something of it is asked for."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from une_jax.errors import UneError
from une_jax.zoo import codec, rows, sealed, tensors
from une_jax.zoo.latents import Latents
from une_jax.zoo.manifest import DTYPES, Manifest, Shard, View

KEPT_SHARDS = 256  # whose headers and statuses stay in memory


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Zoo:
    """An open NoiseZoo; get one from `open`.

    Only the manifest is in memory. A shard's files are read, and checked, when
    something of that shard is asked for; `all_rows` and what is made from it
    (`rows`, `keys`, `attributes`, `split`) read the rows of all shards, once. Of a
    shard that was written anew since `open`, nothing is read any more.

    Attributes:
        path: its folder.
        manifest: its settings and committed shards.
        seal: how `manifest.json` began when it was opened.
        recorded: the shards that were not in it then, but had records.
    """

    path: Path
    manifest: Manifest
    seal: bytes
    recorded: frozenset[int]

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views."""
        return tuple(view.name for view in self.manifest.views)

    @property
    def complete(self) -> bool:
        """Whether all shards are committed."""
        return len(self.manifest.shards) == self.manifest.shard_count

    def __getitem__(self, name: str) -> Latents:
        """The latents of view `name`.

        Raises:
            UneError: there is none; it offers the closest names.
        """
        return Latents(zoo=self, view=self._view(name))

    @functools.cached_property
    def all_rows(self) -> pa.Table:
        """The rows of all committed shards: ok, failed and skipped."""
        tables = [self.shard_rows(shard.index) for shard in self.manifest.shards]
        empty = rows.schema(self.manifest).empty_table()
        return pa.concat_tables([empty, *tables]).combine_chunks()

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
        return np.flatnonzero(rows.equals(self.rows, "split", part))

    def shard_rows(self, index: int) -> pa.Table:
        """The rows of shard `index`: ok, failed and skipped.

        Raises:
            UneError: it is not committed, or its file is missing or damaged.
        """
        shard = self._shard(index)
        with self._as_opened(shard):
            return read_table(self.path, self.manifest, shard)

    def shard_tensor(self, index: int, view: str) -> np.ndarray:
        """A view of shard `index`, (rows, *shape), as a map of the file.

        It lies beside `shard_rows`: rows that are not ok are zero.

        Raises:
            UneError: it is not committed, or its file is missing or malformed.
        """
        shard, described = self._shard(index), self._view(view)
        file = self.path / shard.tensors.name
        with self._as_opened(shard):
            offset = self._offsets(index)[view]
            try:
                return np.memmap(
                    file,
                    DTYPES[described.dtype],
                    mode="r",
                    offset=offset,
                    shape=(shard.rows, *described.shape),
                )
            except (OSError, ValueError) as error:
                raise UneError(f"{file}: cannot read: {error}") from error

    @functools.cached_property
    def ok_starts(self) -> Int[np.ndarray, " s"]:
        """The place of each shard's first ok row among all of them; last, their number."""
        return np.cumsum([0, *(shard.ok for shard in self.manifest.shards)])

    def ok_rows(self, index: int) -> Int[np.ndarray, " ok"]:
        """The places of the ok rows within shard `index`."""
        shard = self._shard(index)
        mixed = shard.ok < shard.rows
        return self._mixed(index) if mixed else np.arange(shard.rows)

    @functools.cached_property
    def _mixed(self) -> Callable[[int], np.ndarray]:
        def read(index: int) -> np.ndarray:
            shard = self._shard(index)
            with self._as_opened(shard):
                return read_ok_rows(self.path, shard).astype(np.int32)

        return functools.lru_cache(KEPT_SHARDS)(read)

    @functools.cached_property
    def _offsets(self) -> Callable[[int], dict[str, int]]:
        def read(index: int) -> dict[str, int]:
            shard = self._shard(index)
            file = self.path / shard.tensors.name
            return tensors.offsets(file, self.manifest.views, shard.rows)

        return functools.lru_cache(KEPT_SHARDS)(read)

    @contextlib.contextmanager
    def _as_opened(self, shard: Shard) -> Iterator[None]:
        """Within it, files of `shard` are opened; they are as when the zoo was opened.

        A shard loses its record or place in `manifest.json` before its files change
        (see `Writer.commit`). So if it has it still, once a file is open, then that
        file is the old one.

        Raises:
            UneError: the shard was written anew.
        """
        try:
            yield
        except UneError:
            self._require_as_opened(shard)
            raise
        self._require_as_opened(shard)

    def _require_as_opened(self, shard: Shard) -> None:
        if shard.index in self.recorded and codec.has_record(self.path, shard):
            return
        seal = codec.read_bytes(self.path, sealed.SEAL_BYTES)
        if seal == self.seal and shard.index not in self.recorded:
            return
        if self._folded(seal).shard(shard.index) != shard:
            raise UneError(
                f"{self.path}: shard {shard.index} was written anew since the zoo was "
                "opened; open it again"
            )

    @functools.cached_property
    def _folded(self) -> Callable[[bytes], Manifest]:
        """The `manifest.json` that begins with a seal, or a later one."""
        return functools.lru_cache(1)(lambda seal: codec.load_folded(self.path))

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs, as one that loads batches; not what is cached."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }

    def _shard(self, index: int) -> Shard:
        shard = self.manifest.shard(index)
        if shard is None:
            raise UneError(f"{self.path}: shard {index} is not committed")
        return shard

    def _view(self, name: str) -> View:
        for view in self.manifest.views:
            if view.name == name:
                return view
        close = difflib.get_close_matches(name, self.views, n=3) or self.views
        raise UneError(f"{self.path} has no view {name!r}; it has {', '.join(close)}")


def open(path: str | os.PathLike[str]) -> Zoo:
    """Opens the NoiseZoo in folder `path`; an unfinished one with what it has.

    Reads and checks the manifest. Rows are checked when they are first read, and so are
    the headers of the tensors; the latents themselves by `verify`.

    Raises:
        UneError: `path` is no zoo, or its manifest is damaged.
    """
    folder = Path(path)
    seal = codec.read_bytes(folder, sealed.SEAL_BYTES)  # before the rest is read
    folded, shards = codec.load_parts(folder)
    recorded = {shard.index for shard in shards if folded.shard(shard.index) is None}
    return Zoo(
        path=folder,
        manifest=folded.with_shards(shards) if shards else folded,
        seal=seal,
        recorded=frozenset(recorded),
    )


def read_table(folder: Path, manifest: Manifest, shard: Shard) -> pa.Table:
    """The rows of a shard, if the file is the one that was committed.

    Raises:
        UneError: the file is missing, or not of the manifest's sha256.
    """
    file = folder / shard.table.name
    with _refusals(file):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != shard.table.sha256:
            raise UneError("damaged, its sha256 is not the manifest's; restore it")
        return rows.decode(data, manifest, shard.rows)


def read_ok_rows(folder: Path, shard: Shard) -> Int[np.ndarray, " ok"]:
    """The places of the ok rows within a shard, read from that column alone.

    Raises:
        UneError: the file is missing, or that column is damaged.
    """
    file = folder / shard.table.name
    with _refusals(file):
        if file.stat().st_size != shard.table.bytes:
            raise UneError("damaged, its size is not the manifest's; restore it")
        ok = np.flatnonzero(rows.read_ok(file, shard.rows))
        if len(ok) != shard.ok:
            raise UneError(f"{len(ok)} ok rows, and {shard.ok} in the manifest")
        return ok


@contextlib.contextmanager
def _refusals(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UneError(
            f"{file}: cannot read ({error.strerror}); restore the file, "
            "`une-jax verify` lists all that is wrong"
        ) from error
    except UneError as error:
        raise UneError(f"{file}: {error}") from error
