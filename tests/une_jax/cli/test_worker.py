"""Shards flow: rows are read ahead, commits go on behind, and memory stays flat."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import flat_memory
import numpy as np
import pytest

from une_jax import zoo
from une_jax.cli import reading
from une_jax.cli.collection import Collection
from une_jax.cli.job import Job
from une_jax.cli.progress import Progress
from une_jax.cli.worker import Worker
from une_jax.errors import UneError

ROWS, SHARD_ROWS = 600, 200


@pytest.fixture
def job(monkeypatch):
    """Three shards of the synthetic collection, in parts of 100 rows."""
    monkeypatch.setattr(flat_memory, "ROWS", ROWS)
    monkeypatch.setattr("une_jax.cli.worker.MIN_PART", 100)
    collection = Collection(
        source=flat_memory.Synthetic(),
        attribute_names=(),
        labels=np.zeros((ROWS, 0), bool),
    )
    manifest = zoo.Manifest(
        views=(flat_memory.VIEW,),
        source=collection.describe(None),
        row_count=ROWS,
        shard_rows=SHARD_ROWS,
    )
    return Job(manifest, collection, [flat_memory.Tiny()])


def worker_of(folder, job, **options):
    writer = zoo.create(folder, job.manifest)
    return Worker(writer, job, Progress(ROWS, "", quiet=True), **options)


def test_a_hundred_thousand_rows_take_no_more_memory_than_a_few(tmp_path):
    script = str(Path(flat_memory.__file__))
    ran = subprocess.run(
        [sys.executable, script, str(tmp_path / "zoo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["ok"], found["failed"]) == (99_000, 1_000)
    held = found["held"]
    assert len(held) == 50
    # 100,000 rows' tensors alone are 26 MB, their pixels, keys and hashes 15 MB more.
    assert max(held[25:]) - max(held[5:25]) < 5e6, held
    last = zoo.open(tmp_path / "zoo")["tiny"][-1]
    assert last.tolist() == [99_998 % 10 + 99_998] * flat_memory.WIDTH


def test_the_next_rows_are_read_while_these_are_computed(job, tmp_path):
    """Computing a part waits until the part after it is being read: no deadlock."""
    read = {row: threading.Event() for row in range(ROWS)}
    source = job.collection.source
    plain = source.read

    def noted(row):
        read[row].set()
        return plain(row)

    source.read = noted
    tiny = job.models[0]
    compute = tiny.compute

    def after_the_next(pixels, rows, prompts=None):
        following = int(rows[-1]) + 1
        if following < ROWS:
            assert read[following].wait(20), f"nobody reads row {following}"
        return compute(pixels, rows, prompts)

    tiny.compute = after_the_next
    with worker_of(tmp_path / "zoo", job) as worker:
        for index, then in ((0, 1), (1, 2), (2, None)):
            worker.shard(index, then)
        worker.finish()
    assert zoo.verify(tmp_path / "zoo") == []


def test_a_shard_is_written_while_the_next_is_computed(job, tmp_path, monkeypatch):
    computing = threading.Event()
    commit = zoo.Writer.commit

    def slow(self, index, *rest, **options):
        if index == 0:
            assert computing.wait(20), "shard 1 waits for shard 0's commit"
        commit(self, index, *rest, **options)

    monkeypatch.setattr(zoo.Writer, "commit", slow)
    tiny = job.models[0]
    compute = tiny.compute

    def noted(pixels, rows, prompts=None):
        if rows[0] >= SHARD_ROWS:
            computing.set()
        return compute(pixels, rows, prompts)

    tiny.compute = noted
    with worker_of(tmp_path / "zoo", job) as worker:
        worker.shard(0, then=1)
        worker.shard(1, then=2)
        split = worker.shard(2).result()
    assert split.rows == SHARD_ROWS
    assert min(split.decode, split.compute, split.write) > 0 and split.waited >= 0


def test_what_goes_wrong_with_a_commit_is_raised(job, tmp_path, monkeypatch):
    def full(self, index, *rest, **options):
        raise UneError("No space left on device")

    monkeypatch.setattr(zoo.Writer, "commit", full)
    with worker_of(tmp_path / "zoo", job) as worker:
        worker.shard(0)
        with pytest.raises(UneError, match="No space left"):
            worker.shard(1)


def test_a_shard_that_another_worker_committed_is_left_alone(job, tmp_path, capsys):
    with worker_of(tmp_path / "zoo", job) as worker:
        worker.shard(0)
        worker.finish()
    before = {f: f.read_bytes() for f in (tmp_path / "zoo").rglob("*") if f.is_file()}
    job.models[0].compute = lambda pixels, rows, prompts=None: flat_memory.Output(
        arrays={"tiny": np.ones((len(rows), flat_memory.WIDTH), np.float32)}
    )
    writer = zoo.create(tmp_path / "zoo", job.manifest)
    with Worker(writer, job, Progress(ROWS, "rows")) as worker:
        worker.shard(0)
        worker.finish()
    assert "shard 0 was there before" in capsys.readouterr().err
    assert before == {f: f.read_bytes() for f in before}


def test_reading_a_bad_image_says_why_and_raises_nothing(job):
    good, bad = (reading.read(job.collection, job.models, row) for row in (98, 99))
    assert good.status == "ok" and good.pixels[0].shape == (4, 4, 3)
    assert bad.status == "failed" and bad.pixels is None and len(bad.sha256) == 64
    assert "cannot" in bad.reason and "/" not in bad.reason
