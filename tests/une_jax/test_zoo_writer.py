import contextlib
import dataclasses
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
from small_zoo import (
    CLIP,
    MANIFEST,
    SD,
    arrays_of,
    build,
    commit,
    contents,
    latents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import atomic, rows, writer


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
            if count - 1 == point:
                raise Killed
            return call(*args, **kwargs)

        return wrapper

    def opening(descriptor, mode):
        file = os_fdopen(descriptor, mode)

        class Half:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, data):
                file.write(data[: len(data) // 2])
                dying(lambda: None)()
                file.write(data[len(data) // 2 :])

        return Half()

    os_fdopen = os.fdopen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdopen", opening)
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(os, "mkdir", dying(os.mkdir))
        # Nobody cleans up after a killed process.
        patch.setattr(pathlib.Path, "unlink", lambda *_, **__: None)
        try:
            yield
        except Killed:
            pass


def test_a_zoo_killed_anywhere_resumes_to_the_same_bytes(tmp_path):
    expected = contents(build(tmp_path / "whole"))
    point = 0
    while True:
        path = tmp_path / "parents" / f"killed-{point}" / "zoo"
        with killed_at(point):
            build(path, [1, 0])
            break
        if (path / "manifest.json").exists():
            zoo.open(path)  # whatever happened, readers see whole shards
        assert contents(build(path)) == expected, f"killed at call {point}"
        point += 1
    assert point > 30
    assert zoo.verify(tmp_path / "whole") == []


def test_shards_may_be_committed_in_any_order(tmp_path):
    expected = contents(build(tmp_path / "a"))
    assert contents(build(tmp_path / "b", [2, 0, 1])) == expected


def test_pending_are_the_shards_not_committed(tmp_path):
    made = zoo.create(tmp_path, MANIFEST)
    assert made.pending() == [0, 1, 2]
    commit(made, 1)
    assert made.pending() == [0, 2]
    assert zoo.create(tmp_path, MANIFEST).pending() == [0, 2]
    assert made.rows_of(2) == range(8, 10)


def test_files_are_written_tensors_rows_manifest(tmp_path, monkeypatch):
    made = zoo.create(tmp_path, MANIFEST)
    order = []
    write = atomic.write_bytes_atomically
    monkeypatch.setattr(
        atomic,
        "write_bytes_atomically",
        lambda path, data: (order.append(path.name), write(path, data)),
    )
    commit(made, 0)
    assert order == ["00000.safetensors", "00000.parquet", "manifest.json"]


def test_each_file_is_synced_renamed_and_its_folder_synced(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def name_of(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", lambda d: (calls.append(name_of(d)), fsync(d)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))
    )
    atomic.write_bytes_atomically(tmp_path / "a", b"1")
    assert calls[0].startswith(".une-tmp-a.")
    assert calls[1:] == ["rename", tmp_path.name]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    atomic.write_bytes_atomically(tmp_path / "a", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UneError, match="cannot write .*/a: No space left on device"):
        atomic.write_bytes_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"old"}


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path):
    build(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_other_libraries_read_the_files(tmp_path):
    build(tmp_path)
    with safetensors.safe_open(tmp_path / "shards/00001.safetensors", "np") as file:
        assert sorted(file.keys()) == ["mini-clip", "mini-sd", "mini.dino"]
        np.testing.assert_array_equal(file.get_tensor("mini-sd"), latents(SD)[4:8])
    table = pq.read_table(tmp_path / "rows/00001.parquet")
    assert table.to_pylist() == table_of(range(4, 8)).to_pylist()
    assert table.column_names == [
        "key",
        "sha256",
        "status",
        "reason",
        "split",
        "Male",
        "Smiling",
        "residual/mini-sd",
    ]


def test_neither_strides_nor_chunks_change_the_bytes(tmp_path):
    expected = contents(build(tmp_path / "a", [0]))
    made = zoo.create(tmp_path / "b", MANIFEST)
    span = made.rows_of(0)
    arrays = {
        name: np.asfortranarray(array)
        for name, array in reversed(arrays_of(span).items())
    }
    chunked = pa.concat_tables([table_of(range(0, 3)), table_of(range(3, 4))])
    made.commit(0, arrays, chunked)
    assert contents(tmp_path / "b") == expected


def test_other_settings_are_refused_and_listed(tmp_path):
    before = contents(build(tmp_path, [0]))
    sd = dataclasses.replace(SD, settings={**SD.settings, "steps": 20})
    asked = dataclasses.replace(MANIFEST, views=(sd, *MANIFEST.views[1:]))
    message = "views.mini-sd.settings.steps: 50 in the zoo, 20 asked"
    with pytest.raises(UneError, match=message):
        zoo.create(tmp_path, asked)
    assert contents(tmp_path) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UneError, match="not empty"):
        zoo.create(tmp_path, MANIFEST)
    assert contents(tmp_path) == {"thesis.tex": b"all my work"}
    with pytest.raises(UneError, match="is a file"):
        zoo.create(tmp_path / "thesis.tex", MANIFEST)
    with pytest.raises(UneError, match="cannot make folder"):
        zoo.create(tmp_path / "thesis.tex" / "zoo", MANIFEST)


def test_a_damaged_manifest_is_not_overwritten(tmp_path):
    build(tmp_path, [0])
    (tmp_path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(UneError, match="manifest.json: format_version"):
        zoo.create(tmp_path, MANIFEST)
    assert (tmp_path / "manifest.json").read_bytes() == b"{}"


def test_only_our_own_leftovers_are_removed_on_resume(tmp_path):
    build(tmp_path, [0])
    for name in [".une-tmp-x", "shards/.une-tmp-y", "rows/.une-tmp-z", "shards/mine"]:
        (tmp_path / name).write_bytes(b"")
    zoo.create(tmp_path, MANIFEST)
    names = set(contents(tmp_path))
    assert "shards/mine" in names
    assert not [name for name in names if "une-tmp" in name]


def test_a_committed_shard_is_replaced_only_when_asked(tmp_path):
    before = contents(build(tmp_path))
    made = zoo.create(tmp_path, MANIFEST)
    span = made.rows_of(0)
    table = table_of(span)
    with pytest.raises(UneError, match="shard 0 is committed already"):
        made.commit(0, arrays_of(span), table)
    assert contents(tmp_path) == before
    # Row 2 had failed; now it is there.
    statuses = pa.array(["ok"] * 4)
    table = table.set_column(2, "status", statuses)
    table = table.set_column(3, "reason", pa.array([""] * 4))
    arrays = {
        name: array + array.dtype.type(1) for name, array in arrays_of(span).items()
    }
    made.commit(0, arrays, table, replace=True)
    assert zoo.verify(tmp_path) == []
    assert len(zoo.open(tmp_path)["mini-sd"]) == 9


def test_a_shard_killed_while_replaced_is_pending(tmp_path):
    path = build(tmp_path / "zoo")
    made = zoo.create(path, MANIFEST)
    span = made.rows_of(0)
    for point in range(4, 14):
        with killed_at(point):
            made.commit(0, arrays_of(span), table_of(span), replace=True)
        zoo.open(path)
        if point < 14 and made.pending():
            assert made.pending() == [0]
            commit(zoo.create(path, MANIFEST), 0)
    assert zoo.verify(path) == []


def test_two_writers_do_not_lose_each_others_shards(tmp_path, monkeypatch):
    zoo.create(tmp_path, MANIFEST)
    checked, others = writer._checked, [1, 2]

    def slow(*args):
        if others:  # another process commits while this one is at work
            commit(zoo.create(tmp_path, MANIFEST), others.pop())
        return checked(*args)

    monkeypatch.setattr(writer, "_checked", slow)
    commit(zoo.create(tmp_path, MANIFEST), 0)
    assert zoo.open(tmp_path).complete and zoo.verify(tmp_path) == []


def test_long_tables_do_not_depend_on_their_chunks():
    size = 30_000  # several pages
    draws = np.random.default_rng(0).random(size)
    whole = pa.table(
        {
            "key": [f"{i:060d}.jpg" for i in range(size)],
            "Male": pa.array(draws < 0.5, mask=draws > 0.9),
        }
    )
    parts = [whole.slice(i, 700) for i in range(0, size, 700)]
    assert rows.encode(pa.concat_tables(parts)) == rows.encode(whole)


def wrong(column, values, type=None):
    """Rows 0 to 3 with one column changed."""
    table = table_of(range(4))
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, type))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of(range(3)), "3 rows, not 4"),
        (table_of(range(4)).drop_columns("Male"), "columns are"),
        (table_of(range(4)).append_column("x", pa.array([1] * 4)), "columns are"),
        (table_of(range(4)).select([1, 0, *range(2, 8)]), "columns are"),
        (wrong("Male", [1, 0, 1, 0]), "column Male is int64, not bool"),
        (wrong("residual/mini-sd", [0.0] * 4), "is double, not float"),
        (wrong("key", ["a", None, "b", "c"]), "column key has nulls"),
        (wrong("key", ["a", "", "b", "c"]), "row 1: key"),
        (wrong("key", ["a", "b", "b", "c"]), "a key is there twice"),
        (wrong("status", ["ok", "ok", "skipped", "ok"]), "row 2 .*'skipped'"),
        (
            wrong("reason", ["why", "", "truncated", ""]),
            "row 0 .*status ok with reason",
        ),
        (wrong("reason", [""] * 4), "row 2 .*status failed with reason ''"),
        (wrong("sha256", ["", "", "", ""]), "row 0 .*no sha256"),
        (wrong("split", ["train"] * 4), "not the paper's split"),
        (wrong("residual/mini-sd", [np.nan] * 4, pa.float32()), "has NaN"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_written(tmp_path, table, message):
    made = zoo.create(tmp_path, MANIFEST)
    before = contents(tmp_path)
    with pytest.raises(UneError, match=f"^(shard 0: )?.*{message}"):
        made.commit(0, arrays_of(range(4)), table)
    assert contents(tmp_path) == before


def spoilt(name, change):
    arrays = {name: array.copy() for name, array in arrays_of(range(4)).items()}
    arrays[name] = change(arrays[name])
    return arrays


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mini-sd": latents(SD)[:4]}, "views are"),
        ({**arrays_of(range(4)), "more": latents(CLIP)[:4]}, "views are"),
        (
            spoilt("mini-sd", lambda a: a[:3]),
            r"mini-sd: expected float16 \(4, 4, 2, 2\)",
        ),
        (spoilt("mini-clip", lambda a: a.astype(np.float64)), "got float64"),
        (spoilt("mini-clip", lambda a: a.astype(">f4")), "got >f4"),
        (spoilt("mini-sd", put((1, 0, 0, 0), np.nan)), "mini-sd: NaN .* ok rows 1$"),
        (spoilt("mini.dino", put((3, 0), np.inf)), "mini.dino: .* ok rows 3$"),
        (
            spoilt("mini-sd", put((2, 0, 0, 0), 1)),
            "mini-sd: failed rows 2 are not zero",
        ),
        (spoilt("mini.dino", put((2, 0), 1)), "mini.dino: failed rows 2"),
    ],
)
def test_wrong_arrays_are_refused_and_nothing_is_written(tmp_path, arrays, message):
    made = zoo.create(tmp_path, MANIFEST)
    before = contents(tmp_path)
    with pytest.raises(UneError, match=message):
        made.commit(0, arrays, table_of(range(4)))
    assert contents(tmp_path) == before


def test_the_papers_split_has_the_papers_counts_and_the_authors_order():
    split = zoo.paper_split(19_867)
    assert (split == "train").sum() == 15_893 and (split == "test").sum() == 3_974
    np.random.seed(42)  # the authors' way
    order = np.arange(19_867)
    np.random.shuffle(order)
    assert set(np.flatnonzero(split == "train")) == set(order[:15_893])
