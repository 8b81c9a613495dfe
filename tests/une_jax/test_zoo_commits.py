"""Commits: each on its own, once, whoever else is at work; faults/ has the kills."""

import contextlib
import os
import random
import threading

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


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The files of the finished zoo."""
    return contents(build(tmp_path_factory.mktemp("zoo")))


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
    made.fold()  # killed before it removed the folder
    assert not (tmp_path / "commits").exists()
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


def test_even_without_locks_a_fold_removes_no_record_that_comes_meanwhile(
    tmp_path, monkeypatch, expected
):
    made = zoo.create(build(tmp_path, [0, 1], fold=False), MANIFEST)
    load = codec.load

    def slow(folder):
        manifest = load(folder)
        monkeypatch.setattr(codec, "load", load)
        commit(made, 2)
        return manifest

    monkeypatch.setattr(atomic, "locked", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(codec, "load", slow)
    made.fold()
    assert made.pending() == [] and list(contents(tmp_path / "commits"))
    made.fold()
    assert contents(tmp_path) == expected


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
