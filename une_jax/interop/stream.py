"""The ok rows of a zoo, part by part, each part small whatever a shard's size."""

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import rows
from une_jax.zoo.manifest import DTYPES

pc: Any = pyarrow.compute  # makes its functions at run time

PART_BYTES = 32 << 20


class Part(NamedTuple):
    """m rows of status ok, in the zoo's order.

    Attributes:
        rows: their table, as in the zoo.
        latents: per view (m, *shape), as stored.
    """

    rows: pa.Table
    latents: dict[str, np.ndarray]


def finished(opened: zoo.Zoo) -> zoo.Zoo:
    """The zoo itself, if all of it is there.

    Raises:
        UneError: it is not: a part of a data set should not pass for the whole.
    """
    if not opened.complete:
        done, all_shards = len(opened.manifest.shards), opened.manifest.shard_count
        raise UneError(
            f"{opened.path} is unfinished, {done} of {all_shards} shards are there; "
            "finish the build, then export"
        )
    return opened


def views_of(opened: zoo.Zoo, names: Sequence[str]) -> tuple[zoo.View, ...]:
    """The views called `names`, or all.

    Raises:
        UneError: there is no such view, or it is asked for twice.
    """
    for name in names:
        opened[name]  # raises with the closest names
    if len(set(names)) != len(names):
        raise UneError(f"one view is asked for twice: {', '.join(names)}")
    known = {view.name: view for view in opened.manifest.views}
    return tuple(known[name] for name in names or known)


def row_bytes(views: Sequence[zoo.View]) -> int:
    """Bytes of one row of all `views`."""
    return sum(math.prod(v.shape) * DTYPES[v.dtype].itemsize for v in views)


def count(
    opened: zoo.Zoo, split: str | None = None, *, ok_only: bool = True
) -> dict[str, int]:
    """How many rows are "train" and "test", or of `split` alone; parts without any are
    left out.

    Raises:
        UneError: there are none at all.
    """
    counts = {part: 0 for part in ("train", "test") if split in (None, part)}
    for shard in opened.manifest.shards:
        table = opened.shard_rows(shard.index)
        for part in counts:
            mine = pc.equal(table.column("split"), part).to_numpy()
            counts[part] += int((mine & rows.is_ok(table) if ok_only else mine).sum())
    counts = {part: n for part, n in counts.items() if n}
    if not counts:
        what = "no row of status ok" if ok_only else "no row"
        where = "" if split is None else f" in its {split} split"
        raise UneError(f"{opened.path} has {what}{where}")
    return counts


def parts(
    opened: zoo.Zoo,
    views: Sequence[zoo.View],
    splits: Collection[str],
    *,
    check: bool = True,
    part_bytes: int = PART_BYTES,
) -> Iterator[Part]:
    """The ok rows of `splits` ("train", "test") with their latents in `views`.

    With `check`, all bytes of a shard are compared with the manifest's sha256 before
    they are read, so that no damage is handed on.

    Raises:
        UneError: a file is missing or damaged.
    """
    step = max(1, part_bytes // max(1, row_bytes(views)))
    for shard in opened.manifest.shards:
        if check:
            require_intact(opened, shard)
        table = opened.shard_rows(shard.index)
        places = np.flatnonzero(rows.is_ok(table) & in_splits(table, splits))
        for start in range(0, len(places), step):
            mine = places[start : start + step]
            latents = {  # mapped anew for each part: pages read once can be given back
                view.name: opened.shard_tensor(shard.index, view.name)[mine]
                for view in views
            }
            yield Part(table.take(pa.array(mine)), latents)


def in_splits(table: pa.Table, splits: Collection[str]) -> np.ndarray:
    """(rows,) bool: whose split is one of `splits`."""
    return pc.is_in(table.column("split"), pa.array(splits, pa.string())).to_numpy()


def plain(latents: np.ndarray) -> np.ndarray:
    """(m, *shape) -> (m, d) of a dtype that every tool knows: bfloat16 -> float32."""
    flat = latents.reshape(len(latents), -1)
    return flat.astype(np.float32) if flat.dtype == DTYPES["bfloat16"] else flat


def plain_dtype(view: zoo.View) -> np.dtype:
    """The dtype of `plain`."""
    return DTYPES["float32" if view.dtype == "bfloat16" else view.dtype]


def require_intact(opened: zoo.Zoo, shard: zoo.Shard) -> None:
    """Compares the bytes of a shard's tensors with the manifest's sha256.

    Raises:
        UneError: they differ, or cannot be read.
    """
    path = opened.path / shard.tensors.name
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    if digest != shard.tensors.sha256:
        raise UneError(
            f"{path}: damaged, its sha256 is not the manifest's; restore it, "
            "`une-jax verify` lists all that is wrong"
        )


def notes(views: Sequence[zoo.View]) -> list[str]:
    """What `plain` changes of the views, for people."""
    return [
        f"{view.name} is bfloat16, and written as float32"
        for view in views
        if view.dtype == "bfloat16"
    ]
