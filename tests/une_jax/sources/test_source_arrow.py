import doctest
import json
import random
from concurrent.futures import ThreadPoolExecutor

import datasets
import hugging_face
import pyarrow as pa
import pytest
from datasets.utils import disable_progress_bars

from une_jax import images, sources
from une_jax.errors import UneError
from une_jax.sources import Source, arrow

disable_progress_bars()


def write(path, table, rows_per_batch=None):
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, rows_per_batch)
    return path


def saved(root, **changes):
    """A folder as `save_to_disk` leaves it, of two files and with another state."""
    root.mkdir(exist_ok=True)
    write(root / "data-0.arrow", pa.table({"image": [b"0", b"1"]}))
    write(root / "data-1.arrow", pa.table({"image": [b"2"]}))
    files = [{"filename": "data-0.arrow"}, {"filename": "data-1.arrow"}]
    (root / "state.json").write_text(json.dumps({"_data_files": files} | changes))
    return root


def test_examples_in_docstrings():
    assert doctest.testmod(arrow).failed == 0


def test_what_datasets_saves_is_read(tmp_path):
    hugging_face.dataset(range(7)).save_to_disk(tmp_path / "faces", num_shards=3)
    source = sources.open(tmp_path / "faces")
    assert isinstance(source, Source)
    assert (source.kind, source.name) == ("arrow", "faces")
    assert source.keys == [f"{i:04d}.png" for i in range(7)]
    hugging_face.check(source, range(7))
    assert "partition" not in source.columns


def test_a_dictionary_of_data_sets_is_read_with_its_partitions(tmp_path):
    parts = {"train": range(4), "validation": [4, 5], "test": [6]}
    parts = {name: hugging_face.dataset(numbers) for name, numbers in parts.items()}
    datasets.DatasetDict(parts).save_to_disk(tmp_path, num_shards={"train": 2, "validation": 1, "test": 1})  # fmt: skip
    source = sources.open(tmp_path)
    hugging_face.check(source, range(7))
    expected = ["train"] * 4 + ["validation"] * 2 + ["test"]
    assert source.columns["partition"].to_pylist() == expected
    part = sources.open(tmp_path, partition="val")
    assert part.keys == ["0004.png", "0005.png"]
    hugging_face.check(part, [4, 5])
    one = sources.open(tmp_path / "test")
    hugging_face.check(one, [6])


def test_one_file_is_a_source_too(tmp_path):
    source = sources.open(
        write(tmp_path / "a.arrow", pa.table({"image": [b"x", b"y"]}))
    )
    assert (source.kind, source.name) == ("arrow", "a.arrow")
    assert [source.read(0), source.read(1)] == [b"x", b"y"]


def test_files_are_taken_in_the_order_of_the_state(tmp_path):
    assert list(sources.open(saved(tmp_path)).keys) == [f"{i:09d}" for i in range(3)]
    assert [sources.open(tmp_path).read(i) for i in range(3)] == [b"0", b"1", b"2"]
    files = [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]
    source = sources.open(saved(tmp_path, _data_files=files))
    assert [source.read(i) for i in range(3)] == [b"2", b"0", b"1"]


@pytest.mark.parametrize(
    ("split", "partition"), [("val", "validation"), ("train[:10]", None), (None, None)]
)
def test_the_state_may_say_the_partition(tmp_path, split, partition):
    source = sources.open(saved(tmp_path, _split=split))
    if partition is None:
        assert source.columns == {}
    else:
        assert source.columns["partition"].to_pylist() == [partition] * 3


def test_rows_of_any_batch_are_found_by_many_threads(tmp_path):
    image = [{"bytes": b"%d" % i, "path": f"{i:03d}"} for i in range(100)]
    path = write(tmp_path / "a.arrow", pa.table({"image": image}), rows_per_batch=7)
    source = sources.open(path)
    order = random.Random(0).choices(range(100), k=2000)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(source.read, order)] == [b"%d" % row for row in order]
    with pytest.raises(IndexError):
        source.read(100)


def test_images_stay_in_the_file_until_they_are_read(tmp_path):
    path = write(tmp_path / "a.arrow", pa.table({"image": [bytes(10**7)] * 20}), 1)
    before = pa.total_allocated_bytes()
    source = sources.open(path)
    assert len(source.read(19)) == 10**7
    assert pa.total_allocated_bytes() - before < 10**6


def test_rows_without_bytes_or_with_too_many_fail_alone(tmp_path, monkeypatch):
    image = [{"bytes": b"a", "path": "1"}, {"bytes": None, "path": "2"}, None,
             {"bytes": b"x" * 101, "path": "4"}]  # fmt: skip
    source = sources.open(write(tmp_path / "a.arrow", pa.table({"image": image})))
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert source.read(0) == b"a"
    for row, message in {1: "no bytes", 2: "no bytes", 3: "file of 101 bytes"}.items():
        with pytest.raises(UneError, match=f"^{message}"):
            source.read(row)


@pytest.mark.parametrize(
    "changes",
    [
        {"_data_files": None},
        {"_data_files": "data-0.arrow"},
        {"_data_files": ["data-0.arrow"]},
        {"_data_files": [{"filename": 3}]},
        {"_data_files": [{"filename": "../data-0.arrow"}]},
        {"_data_files": [{"filename": "/etc/passwd"}]},
        {"_data_files": [{"filename": ".."}]},
        {"_data_files": [{"filename": ""}]},
        {"_indices_data_files": [{"filename": "indices.arrow"}]},
    ],
)
def test_a_state_that_leads_elsewhere_is_refused(tmp_path, changes):
    with pytest.raises(UneError, match="state.json: expected the names of data files"):
        sources.open(saved(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "\0"])
def test_a_state_that_is_no_json_is_refused(tmp_path, text):
    saved(tmp_path)
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(UneError, match="state.json: not JSON"):
        sources.open(tmp_path)


@pytest.mark.parametrize("splits", [None, "train", ["../train"], [3], ["/"]])
def test_partitions_that_lead_elsewhere_are_refused(tmp_path, splits):
    saved(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(UneError, match="dataset_dict.json: expected the names of the"):
        sources.open(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    (saved(tmp_path / "train") / "data-1.arrow").unlink()
    with pytest.raises(UneError, match="data-1.arrow: cannot read: "):
        sources.open(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test"]}')
    with pytest.raises(UneError, match="test/state.json: cannot read: No such file"):
        sources.open(tmp_path)
    for state in ({"_data_files": []}, {}):
        (tmp_path / "dataset_dict.json").write_text('{"splits": []}')
        (tmp_path / "state.json").write_text(json.dumps(state))
        with pytest.raises(UneError, match="no rows"):
            sources.open(tmp_path)


def test_files_of_different_columns_are_refused(tmp_path):
    saved(tmp_path)
    write(tmp_path / "data-1.arrow", pa.table({"picture": [b"2"]}))
    with pytest.raises(
        UneError, match="data-1.arrow: has .*picture.* where other files"
    ):
        sources.open(tmp_path)


def test_files_that_were_cut_short_are_named(tmp_path):
    path = write(tmp_path / "a.arrow", pa.table({"image": [b"x"] * 50}), 10)
    whole = path.read_bytes()
    for end in (0, 5, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(
            UneError, match="a.arrow: (not an Arrow stream|cannot read)"
        ):
            sources.open(path)


def test_offsets_that_lead_out_of_the_file_are_refused(tmp_path):
    path = write(tmp_path / "a.arrow", pa.table({"image": [b"abcd", b"efgh"]}))
    whole = path.read_bytes()
    offsets = b"\0\0\0\0\4\0\0\0\x08\0\0\0"
    assert whole.count(offsets) == 1
    for wrong in (
        b"\0\0\0\0\4\0\0\0\xff\xff\0\0",
        b"\0\0\0\0\xf4\xff\xff\xff\x08\0\0\0",
    ):
        path.write_bytes(whole.replace(offsets, wrong))
        with pytest.raises(UneError, match="a.arrow: cannot read: .*[Oo]ffset"):
            sources.open(path)


def test_flipped_bytes_never_raise_anything_but_our_error(tmp_path):
    image = [{"bytes": b"%d" % i, "path": f"{i:03d}"} for i in range(10)]
    table = pa.table({"image": image, "value": list(range(10))})
    path = write(tmp_path / "a.arrow", table, 4)
    whole = path.read_bytes()
    chance = random.Random(0)
    refused = 0
    for number in range(300):
        bad = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        # A new name: what is mapped must not change.
        path = tmp_path / f"{number}.arrow"
        path.write_bytes(bad)
        try:
            source = sources.open(path)
            told = [
                list(source.keys),
                *map(pa.Array.to_pylist, source.columns.values()),
            ]
            assert all(len(facts) == len(source.keys) for facts in told)
            for row in range(len(source.keys)):
                source.read(row)
        except UneError:
            refused += 1
    assert refused > 30
