"""Read back with the `datasets` library itself."""

import dataclasses

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
from une_jax.interop import hf, stream

SPLIT = zoo.paper_split(10)
WIDTHS = {"mini-sd": 16, "mini-clip": 8, "mini.dino": 3}
DTYPES = {"mini-sd": "float16", "mini-clip": "float32", "mini.dino": "float32"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return zoo.open(build(tmp_path_factory.mktemp("zoo")))


def write(opened, folder, views=MANIFEST.views, split=None, **options):
    (folder / "data").mkdir()
    counted = []
    counts = stream.count(opened, split)
    hf.write(opened, folder, views, counts, counted.append, **options)
    assert sum(counted) == sum(counts.values())
    return folder


@pytest.fixture(scope="module")
def folder(opened, tmp_path_factory):
    return write(opened, tmp_path_factory.mktemp("hf"))


def load(folder, tmp_path):
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_load_dataset_opens_the_folder_with_its_splits(folder, tmp_path):
    data = load(folder, tmp_path)
    assert set(data) == {"train", "test"}
    for part, rows in data.items():
        wanted = OK & (SPLIT == part)
        assert rows["key"][:] == np.array(KEYS)[wanted].tolist()
        assert rows["Male"][:] == ATTRIBUTES[wanted, 0].tolist()
        np.testing.assert_allclose(
            rows["residual/mini-sd"][:], np.flatnonzero(wanted) / 100, rtol=1e-6
        )


def test_float16_stays_float16_bit_for_bit(folder, tmp_path):
    data = load(folder, tmp_path)
    for view in (SD, CLIP, DINO):
        dtype = DTYPES[view.name]
        for part, rows in data.items():
            x = rows.with_format("numpy", columns=[view.name], dtype=np.dtype(dtype))
            got = x[:][view.name]
            wanted = latents(view)[OK & (SPLIT == part)]
            assert got.dtype == dtype and got.shape == (len(wanted), WIDTHS[view.name])
            np.testing.assert_array_equal(
                got, wanted.reshape(len(wanted), -1).astype(dtype)
            )


def test_the_features_are_fixed_size_lists(folder, tmp_path):
    value = datasets.Value
    wanted = {
        "key": value("string"),
        "sha256": value("string"),
        "Male": value("bool"),
        "Smiling": value("bool"),
        "residual/mini-sd": value("float32"),
        "mini-sd": datasets.List(value("float16"), length=16),
        "mini-clip": datasets.List(value("float32"), length=8),
        "mini.dino": datasets.List(value("float32"), length=3),
    }
    assert load(folder, tmp_path)["train"].features == wanted
    file = folder / "data/train-00000-of-00001.parquet"
    schema = pq.read_schema(file)
    assert datasets.Features.from_arrow_schema(schema) == wanted
    # What the library itself would have put there.
    assert schema.equals(datasets.Features(wanted).arrow_schema)
    assert schema.metadata.keys() == {b"huggingface"}
    assert schema.field("mini-sd").type == pa.list_(pa.float16(), 16)


def test_the_parquet_files_also_open_alone_and_streamed(folder, tmp_path):
    options = {"cache_dir": str(tmp_path), "split": "train"}
    files = {"train": str(folder / "data" / "test-*")}
    alone = datasets.load_dataset("parquet", data_files=files, **options)
    assert alone.num_rows == (OK & (SPLIT == "test")).sum()
    assert alone.features["mini-sd"].feature.dtype == "float16"
    rows = datasets.load_dataset(str(folder), streaming=True, **options)
    first = next(iter(rows))
    place = np.flatnonzero(OK & (SPLIT == "train"))[0]
    np.testing.assert_array_equal(first["mini-sd"], latents(SD)[place].ravel())


@pytest.mark.parametrize(("file_bytes", "files"), [(1, (5, 2)), (4 * 76, (2, 1))])
def test_large_splits_are_in_several_files(opened, tmp_path, file_bytes, files):
    """At most four rows of 76 bytes a file: five train rows are three and two."""
    folder = write(opened, tmp_path, file_bytes=file_bytes)
    train, test = files
    wanted = [f"test-{i:05d}-of-{test:05d}.parquet" for i in range(test)]
    wanted += [f"train-{i:05d}-of-{train:05d}.parquet" for i in range(train)]
    found = sorted((folder / "data").iterdir())
    assert [file.name for file in found] == wanted
    rows = [pq.ParquetFile(file).metadata.num_rows for file in found]
    assert rows == ([1] * 7 if file_bytes == 1 else [2, 3, 2])
    data = load(folder, tmp_path)
    assert data["train"]["key"][:] == np.array(KEYS)[OK & (SPLIT == "train")].tolist()
    assert data["test"]["key"][:] == np.array(KEYS)[OK & (SPLIT == "test")].tolist()


def test_row_groups_are_small_enough_to_be_read_one_by_one(
    opened, tmp_path, monkeypatch
):
    monkeypatch.setattr(hf, "GROUP_BYTES", 2 * 76)
    folder = write(opened, tmp_path)
    file = pq.ParquetFile(folder / "data/train-00000-of-00001.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [2, 2, 1]
    data = load(folder, tmp_path)
    assert data["train"]["key"][:] == np.array(KEYS)[OK & (SPLIT == "train")].tolist()


def test_one_view_of_one_split(opened, tmp_path):
    folder = write(opened, tmp_path, (SD,), "test")
    data = load(folder, tmp_path)
    assert set(data) == {"test"}
    names = ["key", "sha256", "Male", "Smiling", "residual/mini-sd", "mini-sd"]
    assert data["test"].column_names == names


def test_the_card_says_what_it_is_and_how_it_is_read(opened, folder, tmp_path):
    card = (folder / "README.md").read_text()
    assert card.startswith(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*\n"
        "  - split: test\n    path: data/test-*\n---\n"
    )
    assert "5 train and 2 test images" in card
    assert "| `mini-sd` | generator | some/mini-sd | 4 x 2 x 2 | float16 |" in card
    assert (
        "| `mini.dino` | encoder | some/mini-clip | 3 | float32 (was bfloat16)" in card
    )
    assert '"beta_start": 0.00085' in card
    # The lines that it offers do what they say.
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace('"PATH"', repr(str(folder)))
    code = code.replace("split=", f"cache_dir={str(tmp_path)!r}, split=")
    *lines, last = code.strip().splitlines()
    names = {}
    exec("\n".join(lines), names)
    got = eval(last.split("#")[0], names)
    np.testing.assert_array_equal(
        got, latents(SD)[OK & (SPLIT == "train")].reshape(5, 16)
    )
    assert got.dtype == np.float16


def test_unknown_attributes_and_further_columns(tmp_path):
    source = dict(MANIFEST.source)
    source["columns"] = {"class": "string", "identity": "int64"}
    manifest = dataclasses.replace(MANIFEST, source=source)
    writer = zoo.create(tmp_path / "zoo", manifest)
    for index in writer.pending():
        rows = writer.rows_of(index)
        table = table_of(rows)
        male = table.column_names.index("Male")
        table = table.set_column(male, "Male", pa.nulls(len(rows), pa.bool_()))
        table = table.add_column(7, "class", pa.nulls(len(rows), pa.string()))
        table = table.add_column(8, "identity", pa.array(list(rows), pa.int64()))
        writer.commit(index, arrays_of(rows), table)
    (tmp_path / "hf").mkdir()
    folder = write(zoo.open(tmp_path / "zoo"), tmp_path / "hf")
    train = load(folder, tmp_path)["train"]
    assert train["Male"][:] == train["class"][:] == [None] * 5
    assert train["identity"][:] == np.flatnonzero(OK & (SPLIT == "train")).tolist()


def test_a_view_with_the_name_of_a_column(opened, tmp_path):
    view = dataclasses.replace(CLIP, name="Male")
    with pytest.raises(UneError, match="view 'Male' has the name of a column"):
        hf.write(opened, tmp_path, [view], {"train": 5}, print)


def test_the_same_zoo_gives_the_same_bytes(opened, folder, tmp_path):
    again = write(opened, tmp_path)
    for name in ("README.md", "data/train-00000-of-00001.parquet"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
