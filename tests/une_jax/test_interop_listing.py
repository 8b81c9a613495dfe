import numpy as np
import pyarrow as pa
import pytest

from une_jax import sources
from une_jax.attributes import Attributes
from une_jax.errors import UneError
from une_jax.interop import listing

CELEBA = """\
2
Male Smiling
000002.jpg -1  1
000001.jpg  1 -1
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("keys.txt", "b.jpg\na.jpg\n"),
        ("keys", "b.jpg\na.jpg"),
        ("keys.txt", "\ufeffb.jpg\r\na.jpg\r\n"),
        ("keys.csv", "file,more\nb.jpg,1\na.jpg,2\n"),
        ("list_attr_celeba.txt", "2\nMale\nb.jpg 1\na.jpg -1\n"),
        ("list_attr_celeba.csv", "image_id,Male\nb.jpg,1\na.jpg,-1\n"),
        ("list_eval_partition.txt", "b.jpg 2\na.jpg 0\n"),
    ],
)
def test_keys_stay_in_the_order_of_their_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    found = listing.of_file(tmp_path / name)
    assert list(found.keys) == ["b.jpg", "a.jpg"]
    assert (found.name, found.kind) == (name, "list")
    assert found.attribute_names == () and found.values.shape == (2, 0)


def test_keys_may_look_like_anything_but_a_line_break(tmp_path):
    keys = ["000002", " a b", 'c,"d"', "é"]
    (tmp_path / "keys.txt").write_text("\n".join(keys), encoding="utf-8")
    assert list(listing.of_file(tmp_path / "keys.txt").keys) == keys


def test_one_partition_of_celeba(tmp_path):
    file = tmp_path / "list_eval_partition.txt"
    file.write_text("1.jpg 0\n2.jpg 1\n3.jpg 0\n4.jpg 2\n")
    train = listing.of_file(file, "train")
    assert list(train.keys) == ["1.jpg", "3.jpg"]
    assert train.columns["partition"].to_pylist() == ["train", "train"]
    every = listing.of_file(file)
    assert every.columns["partition"].to_pylist() == [
        "train", "validation", "train", "test",
    ]  # fmt: skip
    file.write_text("1.jpg 0\n")
    with pytest.raises(UneError, match="no keys in test"):
        listing.of_file(file, "test")


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("keys.txt", b"a\nb\na\n", "'a' occurs twice"),
        ("keys.txt", b"a\n\nb\n", "key '' is empty"),
        ("keys.txt", b"a\n../b\n", "key '../b' leads out of its folder"),
        ("keys.csv", b"key\na,1\n\n\nb,1\n", "key '' is empty"),
        ("list_eval_partition.txt", b"/a 1\n", "key '/a' leads out of its folder"),
        ("keys.txt", b"", "empty file"),
        ("keys.txt", b"\xff", "not a UTF-8 text file"),
        ("keys.csv", b'key\n"a', "not CSV"),
        ("keys.csv", b"key\n", "no keys"),
        ("list_attr_celeba.txt", b"1\nMale\na.jpg 7\n", "line 3: value '7'"),
        ("list_eval_partition.txt", b"a.jpg 7\n", "line 1: expected a key and 0, 1"),
    ],
)
def test_lists_that_are_none(tmp_path, name, data, problem):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UneError, match=problem) as refused:
        listing.of_file(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_lists_that_are_not_there_or_have_no_partitions(tmp_path):
    with pytest.raises(UneError, match="keys.txt: cannot read: No such file"):
        listing.of_file(tmp_path / "keys.txt")
    (tmp_path / "keys.txt").write_text("a\n")
    with pytest.raises(UneError, match="does not say .* give list_eval_partition.txt"):
        listing.of_file(tmp_path / "keys.txt", "train")


def test_numbers_sort_as_the_rows_do():
    assert list(listing.numbered(3).keys) == ["000000", "000001", "000002"]
    many = listing.numbered(1_000_001).keys
    assert many[0] == "0000000" and many[-1] == "1000000"
    assert list(many) == sorted(many)


def test_attributes_are_found_by_key():
    table = Attributes(
        keys=("x", "000001", "000000"),
        names=("Male",),
        values=np.array([[False], [True], [False]]),
    )
    found = listing.numbered(2).with_attributes(table)
    assert found.attribute_names == ("Male",)
    assert found.values.tolist() == [[False], [True]]
    with pytest.raises(UneError, match="no attributes for 000002"):
        listing.numbered(3).with_attributes(table)


def test_a_collection_of_images_tells_all_it_knows(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    for name in ("000001.jpg", "000002.jpg"):
        (tmp_path / "img_align_celeba" / name).write_text(name)
    (tmp_path / "list_attr_celeba.txt").write_text(CELEBA)
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
    found = listing.of_source(sources.open(tmp_path))
    assert (found.name, found.kind) == (tmp_path.name, "celeba")
    assert list(found.keys) == ["000001.jpg", "000002.jpg"]
    assert found.attribute_names == ("Male", "Smiling")
    assert found.values.tolist() == [[True, False], [False, True]]
    assert found.columns["partition"].equals(pa.array(["train", "test"]))
    assert found.source is not None and found.source.read(1) == b"000002.jpg"
    (tmp_path / "list_attr_celeba.txt").unlink()
    assert listing.of_source(sources.open(tmp_path)).values.shape == (2, 0)
