import dataclasses
import json
import shutil
import tracemalloc

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
    arrays_of,
    build,
    latents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import rows, tensors


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
    assert len(got) == 8
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
        [6, 0, 0, -1],
        [],
        np.array([[1, 2], [7, 0]]),
        np.array([3, 1], np.uint8),
        np.arange(8) % 3 == 0,
        np.zeros(8, bool),
        ...,
    ],
    ids=str,
)
def test_indexing_is_numpys(path, key):
    got, expected = zoo.open(path)["mini-sd"][key], latents(SD)[OK][key]
    assert type(got) is np.ndarray
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("key", [8, -9, [0, 8], np.ones(7, bool), (0, 0), 1.0, "a"])
def test_bad_indices_are_index_errors_as_numpys(path, key):
    with pytest.raises(IndexError):
        zoo.open(path)["mini-sd"][key]


def test_what_is_read_can_be_written_to(path):
    view = zoo.open(path)["mini-sd"]
    view[:2][:] = 7
    np.testing.assert_array_equal(view[:2], latents(SD)[OK][:2])


def test_iteration_goes_through_the_ok_rows(path):
    np.testing.assert_array_equal(list(zoo.open(path)["mini-clip"]), latents(CLIP)[OK])


def test_a_slice_reads_only_its_own_rows_and_shards(tmp_path, monkeypatch):
    big = dataclasses.replace(CLIP, name="big", shape=(16_384,))
    manifest = dataclasses.replace(
        MANIFEST, views=(big,), row_count=10, shard_rows=4, attribute_names=()
    )
    writer = zoo.create(tmp_path, manifest)
    for i in writer.pending():
        span = writer.rows_of(i)
        table = table_of(span).select(range(5))
        array = np.ones((len(span), 16_384), np.float32)
        array[[row in (2, 5) for row in span]] = 0
        writer.commit(i, {"big": array}, table)
    row_bytes = 4 * 16_384
    maps = []
    memmap = np.memmap
    monkeypatch.setattr(
        np,
        "memmap",
        lambda path, *a, **k: (maps.append(path.name), memmap(path, *a, **k))[1],
    )
    tracemalloc.start()
    try:
        view = zoo.open(tmp_path)["big"]
        opening = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        view[3:5]
        slicing = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opening < 9 * row_bytes  # of 10 rows; mostly pyarrow and the manifest
    assert slicing < opening + 5 * row_bytes
    assert maps == ["00001.safetensors"]


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
    assert len(opened.split("train")) + len(opened.split("test")) == 8
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
    assert some.keys == [KEYS[i] for i in (0, 1, 3, 8, 9)]
    np.testing.assert_array_equal(some["mini-sd"], latents(SD)[[0, 1, 3, 8, 9]])
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
    with pytest.raises(UneError, match=f"{name}: cannot read .*restore the file"):
        zoo.open(path)


def test_damaged_rows_are_refused(path):
    file = path / "rows/00001.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UneError, match="rows/00001.parquet: damaged"):
        zoo.open(path)


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
    with pytest.raises(UneError, match="00001.safetensors: cannot read"):
        view[:]


def rewritten(path, change):
    """The tensors of shard 0 with their header changed."""
    file = path / "shards/00000.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = change(header)
    text = (json.dumps(header) if text is None else text).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def entry(name, field, value):
    def change(header):
        header[name][field] = value

    return change


def swap(header):
    a, b = header["mini-clip"], header["mini.dino"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]


CLIP_BYTES = 4 * 8 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: "", "header is not JSON"),
        (lambda h: "[]", "not an object"),
        (
            lambda h: "\ud800".encode("utf-16", "surrogatepass").decode("latin1"),
            "header",
        ),
        (lambda h: "[" * 100_000, "nested too deeply|not JSON"),
        (lambda h: " " * (1 << 20) + json.dumps(h), "header is too large"),
        (lambda h: '{"mini-sd": 1, "mini-sd": 2}', "there twice"),
        (lambda h: h.pop("mini-sd") and None, "it holds"),
        (lambda h: h.update(more=h["mini-sd"]), "it holds"),
        (lambda h: h.update({"mini-sd": []}), "malformed entry"),
        (lambda h: h["mini-sd"].update(more=1), "malformed entry"),
        (entry("mini-sd", "dtype", "BF16"), "dtype is not float16"),
        (entry("mini-sd", "dtype", ["F16"]), "dtype is not float16"),
        (entry("mini-sd", "shape", [4, 2, 4, 2]), "shape is not"),
        (entry("mini-sd", "shape", [4, 4, 2, 2.0]), "shape is not"),
        (entry("mini-sd", "shape", "4422"), "shape is not"),
        (entry("mini-clip", "data_offsets", [0, CLIP_BYTES + 4]), "do not span"),
        (entry("mini-clip", "data_offsets", [-4, CLIP_BYTES - 4]), "do not span"),
        (entry("mini-clip", "data_offsets", [0, True]), "do not span"),
        (entry("mini-clip", "data_offsets", [0]), "do not span"),
        (entry("mini-clip", "data_offsets", [4, CLIP_BYTES + 4]), "overlap"),
        (entry("mini-clip", "data_offsets", [10**18, 10**18 + CLIP_BYTES]), "overlap"),
        (swap, "do not span"),
    ],
)
def test_hostile_headers_are_refused(path, change, message):
    rewritten(path, change)
    with pytest.raises(UneError, match=f"00000.safetensors: .*({message})|{message}"):
        zoo.open(path)


@pytest.mark.parametrize("size", [0, 7, 8, 100])
def test_tensors_cut_short_are_refused(path, size):
    file = path / "shards/00000.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UneError, match="00000.safetensors: .*(cut short|not JSON)"):
        zoo.open(path)


def test_bytes_beyond_the_tensors_are_refused(path):
    file = path / "shards/00000.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UneError, match="miss the file's end"):
        zoo.open(path)


def test_offsets_are_those_of_the_data(path):
    file = path / "shards/00000.safetensors"
    offsets = tensors.offsets(file, MANIFEST.views, 4)
    data = file.read_bytes()
    for view in MANIFEST.views:
        expected = latents(view)[:4].tobytes()
        start = offsets[view.name]
        assert data[start : start + len(expected)] == expected
