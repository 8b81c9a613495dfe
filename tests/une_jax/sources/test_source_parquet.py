import doctest
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import hugging_face
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.utils import disable_progress_bars

from une_jax import images, sources
from une_jax.errors import UneError
from une_jax.sources import Source, blocks, parquet

disable_progress_bars()


def rows(n, *, start=0, **columns):
    """A table of n images whose bytes are their numbers."""
    numbers = range(start, start + n)
    image = [{"bytes": b"%d" % i, "path": f"{i:05d}.png"} for i in numbers]
    return pa.table({"image": image, **columns})


def write(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("module", [parquet, blocks])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_what_datasets_writes_is_read(tmp_path):
    folder = tmp_path / "faces"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# Faces")
    first, second = hugging_face.dataset(range(3)), hugging_face.dataset(range(3, 5))
    first.to_parquet(folder / "data/train-00000-of-00002.parquet")
    second.to_parquet(folder / "data/train-00001-of-00002.parquet")
    hugging_face.dataset([5, 6]).to_parquet(folder / "data/validation-00000-of-00001.parquet")  # fmt: skip
    source = sources.open(folder)
    assert isinstance(source, Source)
    assert (source.kind, source.name) == ("parquet", "faces")
    assert source.keys == [f"{i:04d}.png" for i in range(7)]
    hugging_face.check(source, range(7))
    assert source.columns["partition"].to_pylist() == ["train"] * 5 + ["validation"] * 2
    image = images.decode(source.read(6))
    assert np.asarray(image).tolist() == [[[6, 6, 6]] * 4] * 4

    part = sources.open(folder, partition="validation")
    assert part.keys == ["0005.png", "0006.png"]
    hugging_face.check(part, [5, 6])


def test_one_file_is_a_source_too(tmp_path):
    path = write(tmp_path / "faces.parquet", rows(3))
    source = sources.open(path)
    assert (source.kind, source.name) == ("parquet", "faces.parquet")
    assert [source.read(i) for i in range(3)] == [b"0", b"1", b"2"]
    assert (source.attributes, source.columns) == (None, {})
    named = write(tmp_path / "test-00000-of-00001.parquet", rows(1))
    assert sources.open(named).columns["partition"].to_pylist() == ["test"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [(pa.binary(), [b"a", b"b"]), (pa.large_binary(), [b"a", b"b"]),
     (pa.struct({"path": pa.string(), "bytes": pa.large_binary()}),
      [{"bytes": b"a"}, {"bytes": b"b"}])],
    ids=str,
)  # fmt: skip
def test_images_may_be_binary_or_structs_and_their_column_have_any_name(
    tmp_path, kind, values
):
    table = pa.table({"n": [5, 6], "face": pa.array(values, kind)})
    source = sources.open(write(tmp_path / "a.parquet", table))
    assert source.keys == ["000000000", "000000001"]
    assert [source.read(0), source.read(1)] == [b"a", b"b"]
    assert source.columns["n"].to_pylist() == [5, 6]


def test_rows_of_any_group_are_found(tmp_path):
    write(tmp_path / "a.parquet", rows(7), row_group_size=3)
    write(tmp_path / "b.parquet", rows(4, start=7), row_group_size=1)
    source = sources.open(tmp_path)
    order = random.Random(0).sample(range(11), 11)
    assert [source.read(row) for row in order] == [b"%d" % row for row in order]
    with pytest.raises(IndexError):
        source.read(11)


@pytest.fixture
def loads(monkeypatch):
    """The row groups that were loaded, in order."""
    loaded = []
    load = parquet._load

    def counted(file, group, count, image):
        loaded.append((file.name, group))
        return load(file, group, count, image)

    monkeypatch.setattr(parquet, "_load", counted)
    return loaded


def test_consecutive_rows_load_each_group_once(tmp_path, loads):
    write(tmp_path / "a.parquet", rows(100), row_group_size=10)
    source = sources.open(tmp_path)
    assert loads == []  # opening reads no image
    assert [source.read(row) for row in range(100)] == [b"%d" % i for i in range(100)]
    assert loads == [("a.parquet", group) for group in range(10)]


def test_threads_that_read_ahead_load_each_group_once(tmp_path, loads):
    write(tmp_path / "a.parquet", rows(400), row_group_size=50)
    source = sources.open(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(source.read, range(400))] == [b"%d" % i for i in range(400)]
    assert sorted(loads) == [("a.parquet", group) for group in range(8)]


def test_threads_in_any_order_get_what_belongs_to_their_row(tmp_path):
    write(tmp_path / "a.parquet", rows(300), row_group_size=7)
    source = sources.open(tmp_path)
    order = random.Random(1).choices(range(300), k=2000)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(source.read, order)] == [b"%d" % row for row in order]


def test_partitions_whose_keys_interleave_load_each_group_once(tmp_path, loads):
    path = [f"{i:03d}.png" for i in range(30)]
    for n, part in enumerate(["test", "train", "validation"]):
        image = [{"bytes": p.encode(), "path": p} for p in path[n::3]]
        write(tmp_path / f"{part}.parquet", pa.table({"image": image}), row_group_size=2)  # fmt: skip
    source = sources.open(tmp_path)
    assert source.keys == path
    assert [source.read(row).decode() for row in range(30)] == path
    assert len(loads) == len(set(loads)) == 15


def test_blocks_keep_what_fits_but_never_fewer_than_two(monkeypatch):
    monkeypatch.setattr(blocks, "KEPT_BYTES", 100)
    loaded = []

    def load(index):
        loaded.append(index)
        return pa.chunked_array([[b"x" * index]])

    kept = blocks.Blocks(load)
    for index in (10, 20, 30, 10, 20, 30):  # 96 bytes with their offsets: they all fit
        kept.get(index)
    assert loaded == [10, 20, 30]
    for index in (80, 90, 80, 90, 10):  # two are kept however large they are
        kept.get(index)
    assert loaded == [10, 20, 30, 80, 90, 10]
    loaded.clear()
    monkeypatch.setattr(blocks, "KEPT_BYTES", 10**9)
    for index in range(blocks.KEPT_BLOCKS + 1):
        kept.get(index)
    kept.get(1)  # still there, but the first is not
    kept.get(0)
    assert loaded == [*range(9), 0]


def test_the_blocks_used_last_are_kept():
    loaded = []

    def load(index):
        loaded.append(index)
        return pa.chunked_array([[index]])

    kept = blocks.Blocks(load)
    for index in (*range(blocks.KEPT_BLOCKS), 0, 100, 0):
        kept.get(index)
    assert loaded == [*range(blocks.KEPT_BLOCKS), 100]


def test_one_block_is_loaded_at_a_time_whoever_asks():
    inside, most = 0, 0

    def load(index):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.01)
        inside -= 1
        return pa.chunked_array([[index]])

    kept = blocks.Blocks(load)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda i: kept.get(i)[0].as_py(), [0, 1, 2, 3] * 4)]
    assert found == [0, 1, 2, 3] * 4 and most == 1


def test_an_error_is_told_to_all_who_asked():
    def load(index):
        raise UneError(f"block {index} is damaged")

    kept = blocks.Blocks(load)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(kept.get, 3) for _ in range(8)]
    assert {str(future.exception()) for future in asked} == {"block 3 is damaged"}


def test_rows_without_bytes_fail_alone(tmp_path):
    image = [{"bytes": b"a", "path": "1"}, {"bytes": None, "path": "2"}, None]
    source = sources.open(write(tmp_path / "a.parquet", pa.table({"image": image})))
    assert source.read(0) == b"a"
    for row in (1, 2):
        with pytest.raises(UneError, match="^no bytes in the image column; save"):
            source.read(row)


def test_images_that_are_too_large_fail_before_they_are_copied(tmp_path, monkeypatch):
    table = pa.table({"image": [b"small", b"x" * 101]})
    source = sources.open(write(tmp_path / "a.parquet", table))
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert source.read(0) == b"small"
    with pytest.raises(UneError, match="file of 101 bytes"):
        source.read(1)


def test_groups_that_are_too_large_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_BYTES", 5000)
    table = pa.table({"image": [b"x" * 100] * 1000})
    source = sources.open(write(tmp_path / "a.parquet", table, row_group_size=40))
    assert source.read(999) == b"x" * 100
    source = sources.open(write(tmp_path / "a.parquet", table))
    with pytest.raises(
        UneError, match="^a.parquet: row group 0: .* smaller row groups"
    ):
        source.read(0)


def test_files_of_different_columns_are_refused(tmp_path):
    write(tmp_path / "a.parquet", rows(1, x=[1]))
    write(tmp_path / "b.parquet", rows(1, x=["one"]))
    with pytest.raises(
        UneError, match="b.parquet: has .*x: string.* where other files"
    ):
        sources.open(tmp_path)
    write(tmp_path / "b.parquet", rows(1))
    with pytest.raises(UneError, match="b.parquet: has no where other files have .*x"):
        sources.open(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"x": [1]}), "a.parquet: no column of encoded images"),
        (pa.table({"a": [b""], "b": [b""]}), r"several columns of images \(a, b\)"),
        (rows(0).cast(rows(1).schema), "no rows"),
    ],
)
def test_files_without_images_are_refused(tmp_path, table, message):
    with pytest.raises(UneError, match=message):
        sources.open(write(tmp_path / "a.parquet", table))


def test_one_column_named_image_is_taken_among_several(tmp_path):
    table = pa.table({"mask": [b"m"], "image": [b"i"]})
    assert sources.open(write(tmp_path / "a.parquet", table)).read(0) == b"i"


def test_a_folder_without_parquet_is_refused(tmp_path):
    with pytest.raises(UneError, match="no .parquet files in"):
        sources.open(tmp_path, kind="parquet")
    with pytest.raises(UneError, match="nowhere does not exist"):
        sources.open(tmp_path / "nowhere", kind="parquet")


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", rows(100, value=list(range(100))))
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", whole[:-9], whole[: len(whole) // 2], b"x" * 500):
        path.write_bytes(damaged)
        with pytest.raises(UneError, match="a.parquet: cannot read: "):
            sources.open(path)


@pytest.mark.parametrize("name", ["path", "caption"])
def test_text_that_is_not_utf8_is_refused(tmp_path, name):
    bad = pa.array([b"a\xff"]).view(pa.string())
    table = {"image": [b"x"], "caption": bad}
    if name == "path":
        image = pa.StructArray.from_arrays([pa.array([b"x"]), bad], ["bytes", "path"])
        table = {"image": image}
    path = write(tmp_path / "a.parquet", pa.table(table))
    with pytest.raises(UneError, match="a.parquet: cannot read: .*UTF"):
        sources.open(path)


def test_damage_that_is_found_later_fails_the_row_and_names_no_path(tmp_path):
    path = write(tmp_path / "a.parquet", rows(100), compression="zstd")
    source = sources.open(path)
    whole = bytearray(path.read_bytes())
    whole[4:40] = bytes(36)
    path.write_bytes(whole)
    with pytest.raises(UneError, match="^a.parquet: row group 0: cannot read: ") as e:
        source.read(0)
    assert str(tmp_path) not in str(e.value)
    path.unlink()
    with pytest.raises(UneError, match="^a.parquet: row group 0: cannot read: ") as e:
        parquet._load(path, 0, 100, "image")
    assert str(tmp_path) not in str(e.value)


def test_a_file_that_has_lost_rows_since_it_was_opened_fails_them_all(tmp_path):
    source = sources.open(write(tmp_path / "a.parquet", rows(100)))
    write(tmp_path / "a.parquet", rows(99))
    with pytest.raises(UneError, match="^a.parquet: row group 0: the file has changed"):
        source.read(0)


def test_flipped_bytes_never_raise_anything_but_our_error(tmp_path):
    path = write(
        tmp_path / "a.parquet", rows(20, value=list(range(20))), row_group_size=5
    )
    whole = path.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        bad = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
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
    assert refused > 50
