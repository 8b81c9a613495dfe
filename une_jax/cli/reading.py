"""Image files to pixels in the background, so that no device waits for a disk."""

import concurrent.futures as cf
import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from une_jax import images
from une_jax.cli.collection import Collection
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax.cli.batches import Maker


class Read(NamedTuple):
    """An image: its hash, and its pixels for each model or why there are none.

    ``seconds`` is what one thread spent on it.
    """

    sha256: str
    pixels: tuple[np.ndarray, ...] | None
    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0


class Reading(NamedTuple):
    """Rows that are being read, in order."""

    rows: Sequence[int]
    reads: Sequence["cf.Future[Read]"]


def start_reading(
    pool: cf.Executor,
    collection: Collection,
    models: Sequence["Maker"],
    rows: Sequence[int],
) -> Reading:
    """Sets the pool to work on these rows, and returns at once."""
    return Reading(rows, [pool.submit(read, collection, models, row) for row in rows])


def read(collection: Collection, models: Sequence["Maker"], row: int) -> Read:
    """Reads, hashes, decodes and prepares one image; never raises for a bad one."""
    start = time.perf_counter()
    source, twin_of = collection.source, collection.twin_of
    digest = ""
    try:
        data = source.read(row)
        digest = hashlib.sha256(data).hexdigest()
        if twin_of is not None and twin_of[row] >= 0:
            twin = source.keys[int(twin_of[row])]
            return Read(digest, None, "skipped", f"the same bytes as {twin}")
        image = images.decode(data)
        pixels = tuple(model.prepare(image) for model in models)
    except UneError as error:
        return Read(digest, None, "failed", str(error))
    return Read(digest, pixels, seconds=time.perf_counter() - start)
