"""Reading touches the shards, columns and bytes that are asked for, and no others."""

import dataclasses
import shutil
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_zoo import CLIP, MANIFEST, SD, all_ok, arrays_of, build, latents, table_of

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import codec, rows
from une_jax.zoo.manifest import table_name, tensors_name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def path(built, tmp_path):
    return shutil.copytree(built, tmp_path / "zoo")


def long_zoo(path):
    """Two shards of 64 rows of 64 kB; in each the first row is the only one to fail."""
    big = dataclasses.replace(CLIP, name="big", shape=(16_384,))
    keys = [f"{i:03d}.jpg" for i in range(128)]
    manifest = zoo.Manifest(
        views=(big,),
        source=zoo.describe_source("big", keys, 64),
        row_count=128,
        shard_rows=64,
    )
    writer = zoo.create(path, manifest)
    for i in writer.pending():
        span = writer.rows_of(i)
        array = np.ones((64, 16_384), np.float32) * np.array(span)[:, None]
        array[0] = 0
        columns = {
            "key": keys[span.start : span.stop],
            "sha256": ["0" * 64] * 64,
            "status": ["failed"] + ["ok"] * 63,
            "reason": ["truncated"] + [""] * 63,
            "split": zoo.paper_split(128, span),
        }
        writer.commit(i, {"big": array.astype(np.float32)}, pa.table(columns))
    writer.fold()
    return path


def test_a_slice_loads_no_more_than_itself(tmp_path):
    opened = zoo.open(long_zoo(tmp_path))
    row_bytes = 4 * 16_384
    opened["big"][:1]  # what pyarrow loads once, it loads here
    for key in (slice(70, 75), [70, 3, 100, 71, 80], slice(60, 65)):
        tracemalloc.start()
        try:
            values = opened["big"][key]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert values.shape == (5, 16_384)
        assert peak < 6 * row_bytes
    np.testing.assert_array_equal(opened["big"][60:65][:, 0], [61, 62, 63, 65, 66])


def test_a_slice_of_millions_of_rows_costs_what_one_of_a_shard_does(tmp_path):
    count, per_shard, row = 2_000_000, 10_000, 500_000
    tiny = dataclasses.replace(CLIP, name="tiny", shape=(1,))
    source = zoo.describe_source("many", ["not listed here"], 64)
    manifest = zoo.Manifest(
        views=(tiny,),
        source={**source, "images": count},
        row_count=count,
        shard_rows=per_shard,
    )
    writer = zoo.create(tmp_path, manifest)
    span = writer.rows_of(row // per_shard)
    ok = np.arange(per_shard) % 10 != 0
    table = pa.table(
        {
            "key": [f"{i:08d}.jpg" for i in span],
            "sha256": ["0" * 64] * per_shard,
            "status": np.where(ok, "ok", "failed"),
            "reason": np.where(ok, "", "truncated"),
            "split": zoo.paper_split(count, span),
        }
    )
    array = np.where(ok, np.arange(per_shard), 0).astype(np.float32)[:, None]
    writer.commit(row // per_shard, {"tiny": array}, table)
    # All the other shards are as this one, if only the manifest knows of them.
    shards = [
        dataclasses.replace(
            writer.manifest.shards[0],
            index=i,
            tensors=zoo.File(name=tensors_name(i), bytes=1, sha256="0" * 64),
            table=zoo.File(name=table_name(i), bytes=1, sha256="0" * 64),
        )
        for i in range(manifest.shard_count)
    ]
    del shards[row // per_shard]
    whole = writer.manifest.with_shards(shards)
    (tmp_path / "manifest.json").write_bytes(codec.to_bytes(whole))
    rows.read_ok(tmp_path / table_name(row // per_shard), per_shard)
    opened = zoo.open(tmp_path)
    tracemalloc.start()
    try:
        latents = opened["tiny"]
        values = latents[row // 10 * 9 + 90 : row // 10 * 9 + 110]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opened.complete and len(latents) == count // 10 * 9
    np.testing.assert_array_equal(values, array[ok][90:110])
    assert peak < 40 * per_shard < count  # nothing is as long as the zoo


def test_a_slice_touches_only_the_shards_it_needs(path):
    for name in (0, 2):
        (path / f"shards/0000{name}.safetensors").unlink()
        (path / f"rows/0000{name}.parquet").unlink()
    opened = zoo.open(path)
    np.testing.assert_array_equal(opened["mini-sd"][3:6], latents(SD)[[4, 6, 7]])
    np.testing.assert_array_equal(opened["mini-sd"][[5, 3]], latents(SD)[[7, 4]])
    assert opened.shard_rows(1).to_pylist() == table_of(range(4, 8)).to_pylist()
    for touching in (slice(2, 4), slice(5, 7), [0], slice(None)):
        with pytest.raises(UneError, match="0000[02].* cannot read"):
            opened["mini-sd"][touching]


def test_of_a_shards_rows_a_slice_reads_only_the_statuses(path):
    file = path / "rows/00001.parquet"
    data = file.read_bytes()

    def flipped(text):
        at = data.index(text)
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

    flipped(b"folder/005.jpg")
    opened = zoo.open(path)
    np.testing.assert_array_equal(opened["mini-sd"][3:6], latents(SD)[[4, 6, 7]])
    with pytest.raises(UneError, match="00001.parquet: damaged, its sha256"):
        _ = opened.rows
    flipped(b"failed")
    with pytest.raises(
        UneError, match="00001.parquet: not a Parquet file: .*(CRC|crc)"
    ):
        zoo.open(path)["mini-sd"][3]
    file.write_bytes(data[:-1])
    with pytest.raises(UneError, match="00001.parquet: damaged, its size"):
        zoo.open(path)["mini-sd"][3]
    file.unlink()
    with pytest.raises(UneError, match="00001.parquet: cannot read .*restore"):
        zoo.open(path)["mini-sd"][3]


def test_a_slice_of_a_shard_whose_count_is_wrong_is_refused(path):
    manifest = codec.load(path)
    shard = dataclasses.replace(manifest.shards[1], ok=2, skipped=1)
    data = codec.to_bytes(manifest.with_shards([shard]))
    (path / "manifest.json").write_bytes(data)
    problem = "00001.parquet: 3 ok rows, and 2 in the manifest"
    with pytest.raises(UneError, match=problem):
        zoo.open(path)["mini-sd"][3]


@pytest.mark.parametrize("column", [{"stat": ["ok"]}, {"status": [1]}])
def test_statuses_that_are_no_column_of_texts_are_refused(tmp_path, column):
    pq.write_table(pa.table(column), tmp_path / "a.parquet")
    with pytest.raises(UneError, match="no column of texts named status"):
        rows.read_ok(tmp_path / "a.parquet", 1)


def test_where_all_rows_are_ok_a_slice_needs_no_rows(tmp_path):
    writer = zoo.create(tmp_path, MANIFEST)
    sound = {
        name: array + array.dtype.type(1) for name, array in arrays_of(range(4)).items()
    }
    writer.commit(0, sound, all_ok(table_of(range(4))))
    (tmp_path / "rows/00000.parquet").unlink()
    np.testing.assert_array_equal(
        zoo.open(tmp_path)["mini-sd"][1:3], sound["mini-sd"][1:3]
    )


def test_opening_reads_neither_rows_nor_latents(path):
    shutil.rmtree(path / "shards")
    shutil.rmtree(path / "rows")
    opened = zoo.open(path)
    assert opened.complete and opened["mini-sd"].shape == (7, 4, 2, 2)
    assert opened["mini-sd"][2:2].shape == (0, 4, 2, 2)
