"""Commits: each on its own, once, whoever else is at work and whatever happens."""

import contextlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_zoo import (
    MANIFEST,
    all_ok,
    arrays_of,
    build,
    commit,
    contents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import atomic, codec, writer


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Nothing waits for the disk, since no power is cut here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_at(point):
    """Ends the process at the `point`-th write, fsync or rename, leaving all as it is.

    A write that is killed has written half.
    """
    count = 0

    def dying(call):
        def wrapper(*args, **kwargs):
            nonlocal count
            count += 1
            if count - 1 >= point:  # nobody cleans up after a killed process
                raise Killed
            return call(*args, **kwargs)

        return wrapper

    def write(descriptor, data):
        half = os_write(descriptor, data[: len(data) // 2])
        dying(lambda: None)()
        return half + os_write(descriptor, data[len(data) // 2 :])

    os_write = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        for name in ("fsync", "replace", "mkdir", "rmdir", "unlink"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            yield
        except Killed:
            pass


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The files of the finished zoo."""
    return contents(build(tmp_path_factory.mktemp("zoo")))


def test_a_zoo_killed_anywhere_resumes_to_the_same_bytes(tmp_path, expected):
    point = 0
    while True:
        path = tmp_path / "parents" / f"killed-{point}" / "zoo"
        finished = False
        with killed_at(point):
            build(path, [1, 0])
            finished = True
        if (path / "manifest.json").exists():
            zoo.open(path)["mini-sd"][:]  # whatever happened, readers see whole shards
        assert contents(build(path)) == expected, f"killed at call {point}"
        assert zoo.verify(path) == []
        if finished:
            break
        point += 1
    assert point > 50


def test_files_are_published_tensors_rows_record(tmp_path, monkeypatch):
    made = zoo.create(tmp_path, MANIFEST)
    order, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (order.append(b.name), replace(a, b))
    )
    commit(made, 0)
    assert order == ["00000.safetensors", "00000.parquet", "00000.json"]


def test_a_commit_neither_reads_nor_writes_the_shards_before_it(tmp_path, monkeypatch):
    made = zoo.create(tmp_path, MANIFEST)
    commit(made, 0)
    made.fold()
    commit(made, 1)  # learns what the manifest holds by now

    def refuse(*_):
        raise AssertionError("it looked at other shards")

    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(codec, "from_bytes", refuse)
        patch.setattr(codec, "record_from_bytes", refuse)
        commit(made, 2)
        with pytest.raises(zoo.AlreadyCommitted):
            commit(made, 0)
    after = contents(tmp_path)
    assert before.items() < after.items()
    assert after.keys() - before.keys() == {
        "shards/00002.safetensors",
        "rows/00002.parquet",
        "commits/00002.json",
    }
    assert made.pending() == []


def test_a_writer_sees_what_others_fold(tmp_path):
    made, other = zoo.create(tmp_path, MANIFEST), zoo.create(tmp_path, MANIFEST)
    commit(made, 0)
    for i in (1, 2):
        commit(other, i)
        other.fold()
        with pytest.raises(zoo.AlreadyCommitted):
            commit(made, i)


def test_a_fold_moves_the_records_into_the_manifest(tmp_path, expected):
    made = zoo.create(tmp_path, MANIFEST)
    settings = (tmp_path / "manifest.json").read_bytes()
    for i in (2, 0):
        commit(made, i)
    assert (tmp_path / "manifest.json").read_bytes() == settings
    assert sorted(contents(tmp_path / "commits")) == ["00000.json", "00002.json"]
    before = made.manifest
    made.fold()
    assert made.manifest == before == codec.load_folded(tmp_path)
    assert not (tmp_path / "commits").exists()
    commit(made, 1)
    made.fold()
    made.fold()
    assert contents(tmp_path) == expected


def test_shards_count_their_rows(tmp_path):
    shards = codec.load(build(tmp_path)).shards
    counts = [(s.rows, s.ok, s.failed, s.skipped) for s in shards]
    assert counts == [(4, 3, 1, 0), (4, 3, 1, 0), (2, 1, 0, 1)]


def test_records_left_by_a_kill_in_a_fold_are_removed_by_the_next(tmp_path, expected):
    made = zoo.create(build(tmp_path, fold=False), MANIFEST)
    records = contents(tmp_path / "commits")
    made.fold()
    (tmp_path / "commits").mkdir()
    for name in ("00000.json", "00002.json"):
        (tmp_path / "commits" / name).write_bytes(records[name])
    assert made.pending() == [] and zoo.open(tmp_path).complete
    with pytest.raises(zoo.AlreadyCommitted):
        commit(made, 2)
    zoo.create(tmp_path, MANIFEST).fold()
    assert contents(tmp_path) == expected


def test_a_fold_removes_no_record_that_it_did_not_fold(tmp_path):
    made = zoo.create(build(tmp_path, [0, 1], fold=False), MANIFEST)
    record = tmp_path / "commits/00001.json"
    damaged = record.read_bytes()[:-1]
    record.write_bytes(damaged)
    before = contents(tmp_path)
    with pytest.raises(UneError, match="commits/00001.json: .*remove it, and the next"):
        made.fold()
    assert contents(tmp_path) == before
    record.unlink()
    made.fold()
    assert made.pending() == [1, 2]


def test_only_our_own_leftovers_are_removed_on_resume(tmp_path):
    build(tmp_path, [0], fold=False)
    names = ["", "shards/", "rows/", "commits/"]
    for name in names:
        (tmp_path / f"{name}.une-tmp-x").write_bytes(b"")
        (tmp_path / f"{name}mine").write_bytes(b"")
    zoo.create(tmp_path, MANIFEST)
    left = set(contents(tmp_path))
    assert {f"{name}mine" for name in names} < left
    assert not [name for name in left if "une-tmp" in name]


def test_a_resuming_worker_leaves_what_another_is_staging(tmp_path, monkeypatch):
    made = zoo.create(tmp_path, MANIFEST)
    publish = atomic.Staged.publish

    def interrupted(staged):
        zoo.create(tmp_path, MANIFEST)
        assert staged.temp.exists()
        publish(staged)

    monkeypatch.setattr(atomic, "locked", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(atomic.Staged, "publish", interrupted)
    commit(made, 0)
    assert made.pending() == [1, 2]


def test_a_committed_shard_is_replaced_only_when_asked(tmp_path, expected):
    made = zoo.create(build(tmp_path), MANIFEST)
    table = all_ok(table_of(range(4)))  # row 2 had failed; now it is there
    with pytest.raises(zoo.AlreadyCommitted, match="shard 0 is committed already"):
        made.commit(0, arrays_of(range(4)), table)
    assert contents(tmp_path) == expected
    arrays = {
        name: array + array.dtype.type(1) for name, array in arrays_of(range(4)).items()
    }
    made.commit(0, arrays, table, replace=True)
    assert zoo.verify(tmp_path) == []
    assert len(zoo.open(tmp_path)["mini-sd"]) == 8
    assert made.manifest.shards[0].failed == 0
    with pytest.raises(zoo.AlreadyCommitted):
        commit(made, 0)


@pytest.mark.parametrize("folded", [True, False])
def test_a_shard_killed_while_replaced_is_old_new_or_pending(tmp_path, folded):
    seen, point, finished = set(), 0, False
    while not finished:
        path = build(tmp_path / str(point), fold=folded)
        made = zoo.create(path, MANIFEST)
        with killed_at(point):
            table = all_ok(table_of(range(4)))
            made.commit(0, arrays_of(range(4)), table, replace=True)
            finished = True
        opened = zoo.open(path)
        opened["mini-sd"][:]
        shard = opened.manifest.shard(0)
        seen.add(shard and shard.failed)
        assert made.pending() == ([] if shard else [0])
        assert opened.manifest.shard(1) and opened.manifest.shard(2)
        resumed = build(path)
        assert zoo.verify(resumed) == []
        point += 1
    assert seen == {None, 0, 1}


def test_two_writers_do_not_lose_each_others_shards(tmp_path, monkeypatch, expected):
    zoo.create(tmp_path, MANIFEST)
    checked, others = writer._checked, [1, 2]

    def slow(*args):
        if others:  # another process commits while this one is at work
            build(tmp_path, [others.pop()])
        return checked(*args)

    monkeypatch.setattr(writer, "_checked", slow)
    made = zoo.create(tmp_path, MANIFEST)
    commit(made, 0)
    made.fold()
    assert contents(tmp_path) == expected


def test_the_loser_of_a_race_touches_nothing_of_the_winners(tmp_path, monkeypatch):
    made = zoo.create(tmp_path, MANIFEST)
    checked, racing = writer._checked, [1]
    seen = {}

    def slow(*args):
        if racing and racing.pop():
            seen.update(contents(build(tmp_path, [0])))
        return checked(*args)

    monkeypatch.setattr(writer, "_checked", slow)
    with pytest.raises(zoo.AlreadyCommitted):
        made.commit(0, arrays_of(range(4)), all_ok(table_of(range(4))))
    assert contents(tmp_path) == seen


def race(path):
    """Tries to commit all shards and folds now and then; says which it won."""
    won = []
    made = zoo.create(path, MANIFEST)
    order = random.sample(range(3), 3)
    for index in order:
        try:
            commit(made, index)
            won.append(index)
        except zoo.AlreadyCommitted:
            pass
        if index == order[0]:
            made.fold()
    made.fold()
    return won


def test_threads_that_race_commit_each_shard_once(tmp_path, expected):
    for turn in range(5):
        path, wins = tmp_path / str(turn), []
        start = threading.Barrier(4)

        def work(path=path, wins=wins, start=start):
            start.wait()
            wins.extend(race(path))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(wins) == [0, 1, 2]
        assert contents(path) == expected and zoo.verify(path) == []


RACE = """
import os, pathlib, sys
from test_zoo_commits import race
os.fsync = lambda _: None
print("ready", flush=True)
for line in sys.stdin:
    print(*race(pathlib.Path(line.strip())), flush=True)
"""


def test_processes_that_race_commit_each_shard_once(tmp_path, expected):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent.parent}"}
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RACE],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for turn in range(5):
            path = tmp_path / str(turn)
            for process in processes:
                print(path, file=process.stdin, flush=True)
            wins = [process.stdout.readline().split() for process in processes]
            assert sorted(sum(wins, [])) == ["0", "1", "2"]
            assert contents(path) == expected and zoo.verify(path) == []
