"""Shard after shard: the next rows are read, and the last ones written, meanwhile."""

import concurrent.futures as cf
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from une_jax import zoo
from une_jax.cli import retry
from une_jax.cli.collection import reader_count
from une_jax.cli.job import Job
from une_jax.cli.progress import Progress
from une_jax.cli.reading import Reading, start_reading

# Rows that are read and computed at once: at least, and for the sake of full batches at
# most.
MIN_PART, MAX_PART = 128, 1024


class Split(NamedTuple):
    """Where a shard's time went, in seconds.

    ``decode`` is of all reading threads together, beside the device; ``waited`` is how
    long the device stood still for them.
    """

    rows: int
    decode: float
    waited: float
    compute: float
    write: float

    def __str__(self) -> str:
        return (
            f"decode {self.decode:.1f} s (waited {self.waited:.1f} s), "
            f"compute {self.compute:.1f} s, write {self.write:.1f} s"
        )


class Worker:
    """Computes and commits shards of a zoo; ``with Worker(...) as worker``.

    ``redo`` maps committed shards to those of their rows that are to be computed anew.
    """

    def __init__(
        self,
        writer: zoo.Writer,
        job: Job,
        progress: Progress,
        redo: Mapping[int, Sequence[int]] | None = None,
    ):
        self.writer, self.job, self.progress = writer, job, progress
        self.redo = redo or {}
        self.readers = cf.ThreadPoolExecutor(reader_count(), "read")
        self.committer = cf.ThreadPoolExecutor(1, "commit")
        self.committing: cf.Future[Split] | None = None
        self.ahead: Reading | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.readers.shutdown(cancel_futures=True)
        self.committer.shutdown()  # a commit that has begun comes to its end

    def rows_of(self, index: int) -> Sequence[int]:
        """The rows of a shard that are to be computed."""
        return self.redo.get(index, self.job.manifest.rows_of(index))

    def shard(self, index: int, then: int | None = None) -> "cf.Future[Split]":
        """Computes shard ``index`` and hands it to be committed.

        ``then`` is the shard that will be asked for next: its first rows are read while
        this one is computed. Waits for the commit before this one, so that at most two
        shards are in memory; an error of that commit is raised here.
        """
        rows = self.rows_of(index)
        parts = list(self._parts(rows))
        following = [*parts[1:], next(self._parts(self.rows_of(then))) if then is not None else ()]  # fmt: skip
        arrays: dict[str, np.ndarray] = {}
        tables = []
        decode = waited = compute = 0.0
        done = 0
        for part, later in zip(parts, following, strict=True):
            reading = self._started(part)
            self.ahead = self._start(later) if later else None
            start = time.perf_counter()
            reads = [future.result() for future in reading.reads]
            read = time.perf_counter()
            values, table = self.job.compute(part, reads)
            for name, value in values.items():
                whole = arrays.setdefault(
                    name, np.empty((len(rows), *value.shape[1:]), value.dtype)
                )
                whole[done : done + len(part)] = value
            tables.append(table)
            done += len(part)
            decode += sum(read.seconds for read in reads)
            waited, compute = (
                waited + read - start,
                compute + time.perf_counter() - read,
            )
            self.progress.add(len(part))
        self.finish()
        split = Split(len(rows), decode, waited, compute, 0.0)
        self.committing = self.committer.submit(
            self._commit, index, arrays, pa.concat_tables(tables), split
        )
        return self.committing

    def finish(self) -> None:
        """Waits until what was computed is on disk; raises what went wrong there."""
        if self.committing is not None:
            self.committing.result()
            self.committing = None

    def _commit(
        self, index: int, arrays: dict[str, np.ndarray], table: pa.Table, split: Split
    ) -> Split:
        start = time.perf_counter()
        what = "written"
        try:
            if index in self.redo:
                arrays, table = retry.merge(
                    self.writer.path, index, self.redo[index], arrays, table
                )
                self.writer.commit(index, arrays, table, replace=True)
            else:
                self.writer.commit(index, arrays, table)
        except zoo.AlreadyCommitted:
            what = "was there before, by another worker"
        split = split._replace(write=time.perf_counter() - start)
        self.progress.shard(f"shard {index} {what}: {split}")
        return split

    def _parts(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        """Rows in parts that fill every model's batches."""
        batches = [model.batch_size for model in self.job.models]
        size = math.lcm(*batches)
        if size > MAX_PART:  # batches that do not fit each other: pad some
            size = max(batches)
        size *= max(1, MIN_PART // size)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _started(self, rows: Sequence[int]) -> Reading:
        ahead, self.ahead = self.ahead, None
        if ahead is not None and list(ahead.rows) == list(rows):
            return ahead
        return self._start(rows)

    def _start(self, rows: Sequence[int]) -> Reading:
        return start_reading(self.readers, self.job.collection, self.job.models, rows)
