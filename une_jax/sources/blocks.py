"""A cache of the blocks that consecutive rows are read from."""

import collections
import concurrent.futures as cf
import threading
from collections.abc import Callable

import pyarrow as pa

KEPT_BYTES, KEPT_BLOCKS = 256 << 20, 8
"""As many of the blocks used last are kept as fit, but never fewer than two."""


class Blocks:
    """Blocks in memory: each loaded once for many rows, the ones used last kept.

    Any number of threads may `get`; one at a time loads, so memory stays bounded.

    >>> blocks = Blocks(lambda i: pa.chunked_array([[i, i + 1]]))
    >>> blocks.get(5).to_pylist()
    [5, 6]
    """

    def __init__(self, load: Callable[[int], pa.ChunkedArray]):
        self._load = load
        self._kept: collections.OrderedDict[int, cf.Future] = collections.OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def get(self, index: int) -> pa.ChunkedArray:
        """Block `index`, loaded now if it is not in memory.

        What loading it raised goes to the next to ask too, while that is kept.
        """
        with self._lock:
            block = self._kept.get(index)
            mine = block is None
            if block is None:
                block = self._kept[index] = cf.Future()
            self._kept.move_to_end(index)
        if mine:
            with self._loading:
                try:
                    block.set_result(self._load(index))
                except BaseException as error:
                    block.set_exception(error)
            with self._lock:
                self._evict()
        return block.result()

    def _evict(self) -> None:
        total = 0
        for age, index in enumerate(reversed(list(self._kept))):
            block = self._kept[index]
            if not block.done():
                continue
            total += 0 if block.exception() else block.result().nbytes
            if age >= KEPT_BLOCKS or (age >= 2 and total > KEPT_BYTES):
                del self._kept[index]
