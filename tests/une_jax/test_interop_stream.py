import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import CLIP, DINO, KEYS, MANIFEST, OK, SD, build, latents

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.interop import stream

SPLIT = zoo.paper_split(10)
BOTH = ("train", "test")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return zoo.open(build(tmp_path_factory.mktemp("zoo")))


def joined(parts, view):
    return np.concatenate([part.latents[view.name] for part in parts])


@pytest.mark.parametrize("part_bytes", [1, 100, 1 << 20])
@pytest.mark.parametrize("splits", [BOTH, ("train",), ("test",)])
def test_the_ok_rows_of_a_split_in_order(opened, splits, part_bytes):
    views = (SD, CLIP, DINO)
    parts = list(stream.parts(opened, views, splits, part_bytes=part_bytes))
    wanted = OK & np.isin(SPLIT, splits)
    keys = [key for part in parts for key in part.rows.column("key").to_pylist()]
    assert keys == [key for key, ok in zip(KEYS, wanted, strict=True) if ok]
    for view in views:
        got = joined(parts, view)
        assert got.dtype == latents(view).dtype
        np.testing.assert_array_equal(got, latents(view)[wanted])


def test_a_part_is_as_small_as_asked(opened):
    row = 16 * 2 + 8 * 4
    assert stream.row_bytes((SD, CLIP)) == row
    parts = list(stream.parts(opened, (SD, CLIP), BOTH, part_bytes=2 * row))
    # Shards of 4, 4 and 2 rows, of which 3, 3 and 1 are ok.
    assert [part.rows.num_rows for part in parts] == [2, 1, 2, 1, 1]


def test_the_rows_alone(opened):
    parts = list(stream.parts(opened, (), BOTH))
    assert sum(part.rows.num_rows for part in parts) == OK.sum()
    assert all(part.latents == {} for part in parts)


def test_counts(opened):
    train, test = (int((OK & (SPLIT == part)).sum()) for part in BOTH)
    assert stream.count(opened) == {"train": train, "test": test}
    assert stream.count(opened, "test") == {"test": test}
    assert stream.count(opened, ok_only=False) == {"train": 8, "test": 2}


def test_a_zoo_without_such_rows(tmp_path):
    view = dataclasses.replace(CLIP, shape=(1,))
    manifest = zoo.Manifest(
        views=(view,),
        source=zoo.describe_source("a", ["a"], 1),
        row_count=1,
        shard_rows=1,
    )
    writer = zoo.create(tmp_path, manifest)
    row = {"key": "a", "sha256": "", "status": "failed", "reason": "b", "split": "test"}
    table = pa.table({name: [value] for name, value in row.items()})
    writer.commit(0, {view.name: np.zeros((1, 1), np.float32)}, table)
    opened = zoo.open(tmp_path)
    assert stream.count(opened, ok_only=False) == {"test": 1}
    with pytest.raises(UneError, match="has no row of status ok$"):
        stream.count(opened)
    with pytest.raises(UneError, match="has no row in its train split$"):
        stream.count(opened, "train", ok_only=False)
    with pytest.raises(UneError, match="has no row of status ok in its test split$"):
        stream.count(opened, "test")


def test_views_by_name(opened):
    assert stream.views_of(opened, ()) == MANIFEST.views
    assert stream.views_of(opened, ("mini.dino", "mini-sd")) == (DINO, SD)
    with pytest.raises(UneError, match="has no view 'mini'"):
        stream.views_of(opened, ("mini-sd", "mini"))
    with pytest.raises(UneError, match="one view is asked for twice: mini-sd, mini-sd"):
        stream.views_of(opened, ("mini-sd", "mini-sd"))


def test_a_part_of_a_zoo_is_no_zoo(tmp_path, opened):
    assert stream.finished(opened) is opened
    half = zoo.open(build(tmp_path, shards=[0, 2]))
    with pytest.raises(UneError, match="is unfinished, 2 of 3 shards are there"):
        stream.finished(half)


def test_damage_is_not_handed_on(tmp_path):
    """Even where no file's length and no header is wrong."""
    path = build(tmp_path)
    file = path / "shards/00001.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    opened = zoo.open(path)
    parts = stream.parts(opened, (SD,), BOTH)
    assert next(parts).rows.num_rows == 3
    with pytest.raises(UneError, match="00001.safetensors: damaged, its sha256"):
        next(parts)
    assert len(list(stream.parts(opened, (SD,), BOTH, check=False))) == 3
    file.unlink()
    with pytest.raises(UneError, match="00001.safetensors: cannot read: No such"):
        list(stream.parts(opened, (SD,), BOTH))


def test_one_large_shard_is_never_in_memory(tmp_path):
    n, width = 1000, 8192  # 16 MB
    view = dataclasses.replace(CLIP, shape=(width,), dtype="float16")
    keys = [str(i) for i in range(n)]
    manifest = zoo.Manifest(
        views=(view,),
        source=zoo.describe_source("a", keys, 1),
        row_count=n,
        shard_rows=n,
    )
    table = pa.table(
        {
            "key": keys,
            "sha256": ["0" * 64] * n,
            "status": ["ok"] * n,
            "reason": [""] * n,
            "split": zoo.paper_split(n).tolist(),
        }
    )
    writer = zoo.create(tmp_path, manifest)
    writer.commit(0, {view.name: np.ones((n, width), np.float16)}, table)
    opened, total = zoo.open(tmp_path), 0
    tracemalloc.start()
    for part in stream.parts(opened, (view,), BOTH, part_bytes=1 << 20):
        total += part.rows.num_rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == n
    assert peak < 4e6


def test_plain_latents_are_of_a_dtype_that_every_tool_knows():
    for view in (SD, CLIP):
        x = latents(view)
        plain = stream.plain(x)
        assert plain.dtype == x.dtype == stream.plain_dtype(view)
        np.testing.assert_array_equal(plain, x.reshape(10, -1))
    plain = stream.plain(latents(DINO))
    assert plain.dtype == stream.plain_dtype(DINO) == np.float32
    np.testing.assert_array_equal(plain, latents(DINO).astype(np.float32))
