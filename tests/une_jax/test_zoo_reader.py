import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import (
    ATTRIBUTES,
    CLIP,
    DINO,
    KEYS,
    MANIFEST,
    OK,
    SD,
    all_ok,
    arrays_of,
    build,
    latents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import codec, rows


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def path(built, tmp_path):
    return shutil.copytree(built, tmp_path / "zoo")


@pytest.mark.parametrize("view", [SD, CLIP, DINO], ids=lambda view: view.dtype)
def test_latents_come_back_bit_for_bit_without_failed_rows(path, view):
    got = zoo.open(path)[view.name]
    expected = latents(view)[OK]
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert len(got) == 7
    np.testing.assert_array_equal(np.asarray(got), expected)
    np.testing.assert_array_equal(
        np.asarray(got, np.float32), expected.astype(np.float32)
    )


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int32(3),
        slice(None),
        slice(2, 6),
        slice(None, None, -3),
        slice(5, 5),
        slice(90, 99),
        slice(-2, None),
        [6, 0, 0, -1],
        [0, 3, 1, 4, 2],
        [],
        [True, False] * 3 + [True],
        np.array([[1, 2], [6, -7]]),
        np.array([3, 1], np.uint8),
        np.zeros((0, 3), np.int16),
        np.arange(7) % 3 == 0,
        np.zeros(7, bool),
        ...,
    ],
    ids=str,
)
def test_indexing_is_numpys(path, key):
    got, expected = zoo.open(path)["mini-sd"][key], latents(SD)[OK][key]
    assert type(got) is np.ndarray
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "key",
    [7, -8, [0, 7], [-8], np.ones(8, bool), (0, 0), 1.0, "a", None, np.zeros(0)],
    ids=repr,
)
def test_bad_indices_are_index_errors_as_numpys(path, key):
    with pytest.raises(IndexError):
        zoo.open(path)["mini-sd"][key]


def test_what_is_read_can_be_written_to(path):
    view = zoo.open(path)["mini-sd"]
    view[:2][:] = 7
    np.testing.assert_array_equal(view[:2], latents(SD)[OK][:2])


def test_iteration_goes_through_the_ok_rows(path):
    np.testing.assert_array_equal(list(zoo.open(path)["mini-clip"]), latents(CLIP)[OK])


def test_a_shard_gives_all_its_rows(path):
    opened = zoo.open(path)
    assert opened.shard_rows(2).to_pylist() == table_of(range(8, 10)).to_pylist()
    for view in (SD, CLIP, DINO):
        got = opened.shard_tensor(1, view.name)
        np.testing.assert_array_equal(got, latents(view)[4:8])
    assert opened.ok_rows(1).tolist() == [0, 2, 3]
    some = zoo.open(build(path.parent / "some", [1]))
    for ask in (
        some.shard_rows,
        some.ok_rows,
        lambda i: some.shard_tensor(i, "mini-sd"),
    ):
        with pytest.raises(UneError, match="shard 0 is not committed"):
            ask(0)
    with pytest.raises(UneError, match="no view 'x'"):
        some.shard_tensor(1, "x")


def test_an_open_zoo_can_be_sent_to_another_process(path):
    opened = zoo.open(path)
    _ = opened["mini-sd"][:], opened.attributes
    sent = pickle.loads(pickle.dumps(opened))
    assert sent.manifest == opened.manifest
    np.testing.assert_array_equal(sent["mini-sd"], opened["mini-sd"])


def test_records_and_manifest_are_read_together(tmp_path):
    build(tmp_path, [0])
    build(tmp_path, [2], fold=False)
    assert [s.index for s in zoo.open(tmp_path).manifest.shards] == [0, 2]
    build(tmp_path, [1], fold=False)
    before = zoo.open(tmp_path)
    assert before.complete
    build(tmp_path, [])
    folded = zoo.open(tmp_path)
    assert folded.manifest == before.manifest
    np.testing.assert_array_equal(folded["mini-clip"], before["mini-clip"])


def test_a_reader_misses_nothing_that_is_folded_meanwhile(tmp_path, monkeypatch):
    build(tmp_path, fold=False)
    read = codec.read_records
    folding = [1]

    def slow(folder):
        records = read(folder)
        if folding and folding.pop():
            build(folder, [])
        return records

    monkeypatch.setattr(codec, "read_records", slow)
    assert zoo.open(tmp_path).complete
    assert not folding and not (tmp_path / "commits").exists()


def test_a_reader_takes_the_manifest_where_a_record_is_replaced_meanwhile(
    tmp_path, monkeypatch
):
    build(tmp_path, fold=False)
    read = codec.read_records
    table = all_ok(table_of(range(4)))

    def slow(folder):
        records = read(folder)
        monkeypatch.undo()
        writer = zoo.create(folder, MANIFEST)
        writer.commit(0, arrays_of(range(4)), table, replace=True)
        writer.fold()
        return records

    monkeypatch.setattr(codec, "read_records", slow)
    assert zoo.open(tmp_path).shard_rows(0).to_pylist() == table.to_pylist()


def test_rows_keys_attributes_and_split_are_of_the_ok_rows(path):
    opened = zoo.open(path)
    assert opened.views == ("mini-sd", "mini-clip", "mini.dino")
    assert opened.keys == [key for key, ok in zip(KEYS, OK, strict=True) if ok]
    assert opened.rows.to_pylist() == table_of(np.flatnonzero(OK)).to_pylist()
    assert opened.all_rows.to_pylist() == table_of(range(10)).to_pylist()
    assert opened.attribute_names == ("Male", "Smiling")
    np.testing.assert_array_equal(opened.attributes, ATTRIBUTES[OK])
    for part in ("train", "test"):
        expected = np.flatnonzero(zoo.paper_split(10)[OK] == part)
        np.testing.assert_array_equal(opened.split(part), expected)
    assert len(opened.split("train")) + len(opened.split("test")) == 7
    with pytest.raises(UneError, match="'validation'"):
        opened.split("validation")


def test_an_unfinished_zoo_opens_with_what_it_has(tmp_path):
    build(tmp_path, [])
    empty = zoo.open(tmp_path)
    assert not empty.complete and empty.keys == []
    assert empty["mini-sd"][:].shape == (0, 4, 2, 2)
    assert empty.attributes.shape == (0, 2)
    assert empty.split("train").shape == (0,)
    build(tmp_path, [2, 0])
    some = zoo.open(tmp_path)
    assert not some.complete
    assert some.keys == [KEYS[i] for i in (0, 1, 3, 8)]
    np.testing.assert_array_equal(some["mini-sd"], latents(SD)[[0, 1, 3, 8]])
    assert zoo.open(build(tmp_path)).complete


def test_unknown_attributes_are_no_silent_false(tmp_path):
    writer = zoo.create(tmp_path, MANIFEST)
    table = table_of(range(4)).set_column(
        5, "Male", pa.array([True, None, None, False], pa.bool_())
    )
    writer.commit(0, arrays_of(range(4)), table)
    with pytest.raises(UneError, match="Male is unknown for 1 images"):
        _ = zoo.open(tmp_path).attributes  # row 2 has failed and does not count


def test_an_unknown_view_is_answered_with_the_known(path):
    with pytest.raises(UneError, match="'mini-sb'; it has mini-sd"):
        zoo.open(path)["mini-sb"]


def test_what_is_no_zoo_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UneError, match="is no NoiseZoo.*une-jax build"):
            zoo.open(place)


@pytest.mark.parametrize("name", ["shards/00001.safetensors", "rows/00001.parquet"])
def test_a_missing_file_is_named(path, name):
    (path / name).unlink()
    opened = zoo.open(path)
    with pytest.raises(UneError, match=f"{name}: cannot read .*restore the file"):
        read_all(opened)


def read_all(opened):
    return opened.rows, opened["mini-sd"][:]


def test_damaged_rows_are_refused(path):
    file = path / "rows/00001.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    opened = zoo.open(path)
    for ask in (lambda: opened.rows, lambda: opened.keys, lambda: opened.attributes):
        with pytest.raises(UneError, match="rows/00001.parquet: damaged"):
            ask()


@pytest.mark.parametrize("old", [b"status", b"truncated", b"PAR1"])
def test_rows_that_are_no_text_or_no_parquet_are_refused(old):
    data = rows.encode(rows.conform(table_of(range(4)), MANIFEST))
    assert rows.decode(data, MANIFEST, 4).num_rows == 4
    with pytest.raises(UneError, match="not a Parquet file"):
        rows.decode(data.replace(old, b"\xff" * len(old)), MANIFEST, 4)


def test_a_file_that_shrinks_later_is_named_when_read(path):
    view = zoo.open(path)["mini-sd"]
    (path / "shards/00001.safetensors").write_bytes(b"")
    np.testing.assert_array_equal(view[:2], latents(SD)[:2])
    with pytest.raises(UneError, match="00001.safetensors: cut short"):
        view[:]
    view = zoo.open(shutil.copytree(path, path.parent / "b"))["mini-clip"]
    assert view[6].shape == (8,)
    (path.parent / "b/shards/00002.safetensors").write_bytes(b"")
    with pytest.raises(UneError, match="00002.safetensors: cannot read"):
        view[6]
