import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_zoo import CLIP, KEYS, MANIFEST, OK, SD, build, latents, table_of

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.interop import stream, table


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return zoo.open(build(tmp_path_factory.mktemp("zoo")))


def write(opened, folder, views=(), split=None):
    counted = []
    counts = stream.count(opened, split, ok_only=bool(views))
    table.write(opened, folder, views, counts, counted.append)
    assert sum(counted) == sum(counts.values())
    return pq.read_table(folder / "rows.parquet")


def test_all_rows_in_one_table_failed_ones_included(opened, tmp_path):
    got = write(opened, tmp_path)
    assert got.equals(table_of(range(10)).cast(got.schema))
    assert got.schema.names == zoo.schema(MANIFEST).names
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 1


def test_one_split(opened, tmp_path):
    got = write(opened, tmp_path, split="test")
    mine = zoo.paper_split(10) == "test"
    assert got.column("key").to_pylist() == np.array(KEYS)[mine].tolist()


@pytest.mark.parametrize("view", [SD, CLIP], ids=lambda view: view.name)
def test_x_and_y_are_the_first_principal_components_of_the_ok_rows(
    opened, tmp_path, view
):
    got = write(opened, tmp_path, [view])
    assert got.column("key").to_pylist() == np.array(KEYS)[OK].tolist()
    assert got.schema.field("x").type == got.schema.field("y").type == pa.float32()
    x = latents(view)[OK].reshape(OK.sum(), -1).astype(np.float64)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    for name, want in (("x", u[:, 0] * s[0]), ("y", u[:, 1] * s[1])):
        places = got.column(name).to_numpy()
        sign = np.sign(places @ want)
        np.testing.assert_allclose(places, sign * want, atol=5e-3)


def test_groups_of_rows_are_large_whatever_the_shards(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "GROUP_ROWS", 8)
    got = write(opened, tmp_path)
    assert got.equals(table_of(range(10)).cast(got.schema))
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 2


def test_what_cannot_be_drawn(opened, tmp_path):
    with pytest.raises(UneError, match="one pair of x and y; give one --view"):
        write(opened, tmp_path, [SD, CLIP])
    manifest = dataclasses.replace(MANIFEST, attribute_names=("Male", "x"))
    other = dataclasses.replace(opened, manifest=manifest)
    with pytest.raises(UneError, match="column 'x' is in the way"):
        table.write(other, tmp_path, [SD], {"train": 1}, print)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_before_anything_is_drawn(tmp_path):
    path = build(tmp_path / "zoo")
    file = path / "shards/00002.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UneError, match="00002.safetensors: damaged"):
        write(zoo.open(path), tmp_path, [SD])
