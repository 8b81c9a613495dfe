import doctest
import os
import threading

import numpy as np
import pyarrow as pa
import pytest

from une_jax import attributes, images, sources
from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.sources import Source, base, folder
from une_jax.sources.folder import Folder
from une_jax.sources.keys import Keys


def fill(root, *names):
    """Files whose bytes are their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


@pytest.mark.parametrize("module", [sources, base, folder])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_a_folder_tree_is_listed_as_images_list_it(tmp_path):
    fill(tmp_path, "b.jpg", "a/z.PNG", "a.tiff", "notes.txt", ".hidden.jpg")
    source = sources.open(tmp_path)
    assert isinstance(source, Source)
    assert list(source.keys) == images.list_images(tmp_path) == ["a.tiff", "a/z.PNG", "b.jpg"]  # fmt: skip
    assert (source.kind, source.attributes, source.columns) == ("folder", None, {})
    assert [source.read(row) for row in range(3)] == [b"a.tiff", b"a/z.PNG", b"b.jpg"]


def test_a_folder_of_images_stays_one_whatever_lies_beside_them(tmp_path):
    fill(tmp_path, "data/train-00000-of-00001.parquet", "a.tar", "list_attr_celeba.txt",
         "deep/b.jpg")  # fmt: skip
    source = sources.open(tmp_path)
    assert source.kind == "folder" and source.keys == ["deep/b.jpg"]


def test_the_name_is_the_last_part_of_the_path(tmp_path, monkeypatch):
    fill(tmp_path, "faces/a.jpg")
    monkeypatch.chdir(tmp_path / "faces")
    names = [sources.open(p).name for p in (".", f"{tmp_path}/faces/", "../faces")]
    assert names == ["faces"] * 3
    (tmp_path / "other").symlink_to(tmp_path / "faces")
    assert sources.open(tmp_path / "other").name == "faces"


def test_links_to_files_are_read_through(tmp_path):
    fill(tmp_path, "elsewhere/a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/link.png").symlink_to(tmp_path / "elsewhere/a.png")
    assert sources.open(tmp_path / "images").read(0) == b"elsewhere/a.png"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("file", "not a folder"), ("empty", "no images")],
)
def test_a_bad_folder_is_named(tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UneError, match=rf"{name}.*{message}|{message}.*{name}"):
        sources.open(tmp_path / name)
    with pytest.raises(UneError, match=rf"{name}.*{message}|{message}.*{name}"):
        sources.open(tmp_path / name, kind="folder")


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UneError, match="'zip'; use folder, "):
        sources.open(tmp_path, kind="zip")


def test_files_that_cannot_be_read_say_why_without_their_path(tmp_path, monkeypatch):
    fill(tmp_path, "big.jpg", "gone.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = sources.open(tmp_path, kind="folder")
    (tmp_path / "gone.jpg").unlink()
    monkeypatch.setattr(images, "MAX_BYTES", 6)
    reasons = {}
    for row, key in enumerate(source.keys):
        try:
            reasons[key] = source.read(row)
        except UneError as error:
            reasons[key] = str(error)
    assert reasons == {
        "big.jpg": "file of 7 bytes; images of up to 6 are read",
        "empty.jpg": b"",  # for `images.decode` to complain of
        "gone.jpg": "cannot read: No such file or directory",
        "pipe.jpg": "not a regular file",
    }


def test_threads_read_what_belongs_to_their_row(tmp_path):
    names = [f"{i:03d}.png" for i in range(50)]
    fill(tmp_path, *names)
    source = sources.open(tmp_path)
    got: dict[int, list[bytes]] = {}

    def work(n):
        got[n] = [source.read(row) for row in range(50)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: [name.encode() for name in names] for n in range(8)}


def described(tmp_path, **columns):
    """Three images, one attribute, and these columns."""
    fill(tmp_path, "a.png", "b.png", "c.png")
    keys, _ = Keys.sort(["a.png", "b.png", "c.png"])
    values = np.array([[True], [False], [True]])
    table = Attributes(keys=keys, names=("Smiling",), values=values)
    return Folder(
        folder=tmp_path, name="x", kind="folder", keys=keys, attributes=table,
        columns={name: pa.array(column) for name, column in columns.items()},
    )  # fmt: skip


def test_one_partition_keeps_its_rows_with_all_that_is_known_of_them(tmp_path):
    source = described(
        tmp_path, partition=["test", "train", "test"], identity=[5, 6, None]
    )
    part = base.only(source, "test")
    assert isinstance(part, Source) and part.keys == ["a.png", "c.png"]
    assert part.attributes.values.tolist() == [[True], [True]]
    assert part.attributes.keys == part.keys
    assert part.columns["partition"].to_pylist() == ["test", "test"]
    assert part.columns["identity"].to_pylist() == [5, None]
    assert [part.read(0), part.read(1)] == [b"a.png", b"c.png"]
    assert (part.name, part.kind) == ("x", "folder")
    base.check(part)


def test_a_partition_that_is_not_there_is_refused(tmp_path):
    source = described(tmp_path, partition=["train", "train", None])
    with pytest.raises(UneError, match="nothing in partition 'test'; has train"):
        base.only(source, "test")
    with pytest.raises(UneError, match="x says of no image which partition"):
        base.only(described(tmp_path), "test")


def test_an_attribute_and_a_column_of_one_name_are_refused(tmp_path):
    with pytest.raises(UneError, match="'Smiling' is an attribute and a column"):
        base.check(described(tmp_path, Smiling=[1, 2, 3]))


@pytest.mark.parametrize("column", [[1, 2], [1.0, 2.0, 3.0], [[1], [2], [3]]])
def test_a_source_with_columns_of_other_lengths_or_types_is_a_mistake(tmp_path, column):
    with pytest.raises(ValueError, match="column 'x'"):
        base.check(described(tmp_path, x=column))


def test_attributes_may_have_keys_of_a_source(tmp_path):
    source = described(tmp_path)
    got = attributes.align(source.attributes, ["c.png", "a.png", "b.png"])
    assert np.asarray(got).tolist() == [[True], [True], [False]]
