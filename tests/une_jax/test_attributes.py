import doctest

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from une_jax import attributes
from une_jax.attributes import Attributes
from une_jax.errors import UneError

CELEBA = """3
Male Smiling
000001.jpg -1  1
000002.jpg  1 -1
my face.jpg  1  1
"""


def some(keys=("a.jpg", "b.jpg", "c.jpg"), names=("Male", "Smiling")):
    values = np.arange(len(keys) * len(names)).reshape(len(keys), -1) % 3 == 0
    return Attributes(keys=tuple(keys), names=tuple(names), values=values)


def written(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    return path


def test_examples_in_docstrings():
    assert doctest.testmod(attributes).failed == 0


def test_celeba_layout(tmp_path):
    got = attributes.read(written(tmp_path, CELEBA))
    assert got.keys == ("000001.jpg", "000002.jpg", "my face.jpg")
    assert got.names == ("Male", "Smiling")
    assert got.values.tolist() == [[False, True], [True, False], [True, True]]


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(tmp_path, bom):
    text = bom + 'image_id,Male,Smiling\n"a,b.jpg",1,0\nc.jpg,-1,True\nd.jpg,false,1\n'
    got = attributes.read(written(tmp_path, text))
    assert got.keys == ("a,b.jpg", "c.jpg", "d.jpg")
    assert got.values.tolist() == [[True, False], [False, True], [False, True]]


@pytest.mark.parametrize("key", ["key", "image_id", "file"])
@pytest.mark.parametrize(
    "male", [[True, False], [1, 0], [1, -1], [1.0, 0.0], np.array([1, 0], np.uint8)]
)
def test_parquet(tmp_path, key, male):
    columns = {key: ["b.jpg", "a.jpg"], "Male": male, "Smiling": [-1, 1]}
    if key != "file":  # else it is the first column
        columns = dict(reversed(columns.items()))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    got = attributes.read(tmp_path / "a.parquet")
    assert got.keys == ("b.jpg", "a.jpg")
    found = dict(zip(got.names, got.values.T.tolist(), strict=True))
    assert found == {"Male": [True, False], "Smiling": [False, True]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["a", "b"]}, "expected a column of keys and columns of attributes"),
        ({"key": ["a", "b"], "x": [1, 2]}, "row 1: 'x' is 2, and none of 1, 0, -1"),
        ({"key": ["a", "b"], "x": [0.5, 1.0]}, "row 0: 'x' is 0.5, and none of"),
        ({"key": ["a", "b"], "x": [True, None]}, "row 1: 'x' is None, and none of"),
        ({"key": ["a", "b"], "x": [None, 1]}, "row 0: 'x' is None, and none of"),
        ({"key": ["a", "b"], "x": ["1", "0"]}, "row 0: 'x' is '1', and none of"),
        ({"key": ["a", "b"], "x": [[1], [0]]}, r"row 0: 'x' is \[1\], and none of"),
        ({"key": ["a", None], "x": [1, 1]}, "row 1: 'key' is None, which is no text"),
        ({"n": [7, 8], "x": [1, 1]}, "row 0: 'n' is 7, which is no text"),
        ({"key": ["a", "a"], "x": [1, 1]}, "key 'a' is listed twice"),
        ({"key": ["a", ""], "x": [1, 1]}, "one key has an empty name"),
    ],
)
def test_malformed_parquet_is_named_with_the_row(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UneError, match=f"a.parquet.*{message}"):
        attributes.read(tmp_path / "a.parquet")


def test_damaged_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UneError, match="a.parquet: cannot read: "):
        attributes.read(tmp_path / "a.parquet")
    keys = pa.array([b"a\xff"]).view(pa.string())
    pq.write_table(pa.table({"key": keys, "x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UneError, match="a.parquet: cannot read: .*UTF"):
        attributes.read(tmp_path / "a.parquet")


def test_what_is_written_is_read_back(tmp_path):
    attributes.write_celeba(tmp_path / "a.txt", some())
    got = attributes.read(tmp_path / "a.txt")
    assert (got.keys, got.names) == (some().keys, some().names)
    np.testing.assert_array_equal(got.values, some().values)


def test_celeba_layout_is_written_as_celeba_does(tmp_path):
    attributes.write_celeba(tmp_path / "a.txt", some())
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert lines[:4] == ["3", "Male Smiling", "a.jpg  1 -1", "b.jpg -1  1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("3\n", "line 2"),
        (CELEBA.replace("3", "4", 1), "line 1: says 4 images, but 3 follow"),
        (CELEBA.replace(" -1  1", " -1", 1), "line 3: expected a key and 2 values"),
        (CELEBA.replace("  1 -1", "  2 -1"), "line 4: value '2'"),
        (
            CELEBA.replace("000002", "000001"),
            "line 4: '000001.jpg' is already on line 3",
        ),
        (CELEBA.replace("Male", "Smiling"), "'Smiling' is repeated"),
        ("hello\n", "line 1: expected the number of images"),
        ("\nkey,Male\na,1\n", "line 1"),
        ("key,Male\na.jpg,1,1\n", "line 2: .* found 3 fields"),
        ("key,Male\na.jpg,1\n\nb.jpg,1\n", "line 3: .* found 0 fields"),
        ("key,Male\na.jpg,\n", "line 2: value ''"),
        ("key,Male\n,1\n", "line 2: the key is empty"),
        ("key,Male,\na.jpg,1,1\n", "repeated or empty"),
        ('key,Male\n"a.jpg,1\n', "not CSV"),
    ],
)
def test_malformed_files_are_named_with_the_line(tmp_path, text, message):
    with pytest.raises(UneError, match=f"list.txt.*{message}"):
        attributes.read(written(tmp_path, text))


def test_files_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UneError, match="a.txt: not a UTF-8 text"):
        attributes.read(tmp_path / "a.txt")
    with pytest.raises(UneError, match="gone.txt: cannot read"):
        attributes.read(tmp_path / "gone.txt")


def test_attributes_check_themselves():
    with pytest.raises(UneError, match="key 'a' is listed twice"):
        some(keys=("a", "a"))
    with pytest.raises(UneError, match="attribute 'Male' is listed twice"):
        some(names=("Male", "Male"))
    with pytest.raises(ValueError, match="1 keys"):
        Attributes(keys=("a",), names=("Male",), values=np.zeros((2, 1), bool))


@pytest.mark.parametrize("key", ["", " a.jpg", "a\nb.jpg"])
def test_keys_that_the_layout_cannot_hold_are_not_written(tmp_path, key):
    with pytest.raises(UneError):
        attributes.write_partition(tmp_path / "p.txt", {key: 0})
    assert not (tmp_path / "p.txt").exists()


def test_names_that_the_layout_cannot_hold_are_not_written(tmp_path):
    with pytest.raises(UneError, match="Big Nose"):
        attributes.write_celeba(tmp_path / "a.txt", some(names=("Big Nose", "Male")))
    assert not (tmp_path / "a.txt").exists()


def test_partition_round_trip(tmp_path):
    partition = {"000002.jpg": 2, "000001.jpg": 0, "my face.jpg": 1}
    attributes.write_partition(tmp_path / "p.txt", partition)
    assert (tmp_path / "p.txt").read_text().startswith("000002.jpg 2\n000001.jpg 0\n")
    assert list(attributes.read_partition(tmp_path / "p.txt").items()) == list(
        partition.items()
    )


@pytest.mark.parametrize("line", ["a.jpg 3", "a.jpg", "a.jpg 1 x", "000001.jpg 1", ""])
def test_malformed_partitions_are_named_with_the_line(tmp_path, line):
    path = written(tmp_path, f"000001.jpg 0\n{line}\nb.jpg 0\n")
    with pytest.raises(UneError, match="list.txt, line 2"):
        attributes.read_partition(path)


def test_align_follows_the_keys():
    got = attributes.align(some(), ["c.jpg", "a.jpg", "b.jpg"])
    np.testing.assert_array_equal(got, some().values[[2, 0, 1]])


def test_align_names_three_images_without_attributes_and_counts_the_rest():
    keys = ["a.jpg", *(f"{i}.jpg" for i in range(5))]
    with pytest.raises(UneError, match="for 0.jpg, 1.jpg, 2.jpg and 2 more;"):
        attributes.align(some(), keys, extra="ignore")


def test_align_refuses_attributes_of_unknown_images_unless_told():
    with pytest.raises(UneError, match="unknown images: b.jpg, c.jpg;"):
        attributes.align(some(), ["a.jpg"])
    got = attributes.align(some(), ["a.jpg"], extra="ignore")
    np.testing.assert_array_equal(got, some().values[:1])


def test_resolve_finds_the_name_or_offers_the_closest():
    assert attributes.resolve(("Male", "Smiling"), "Smiling") == 1
    with pytest.raises(UneError, match="'smilng'; did you mean Smiling?"):
        attributes.resolve(("Male", "Smiling"), "smilng")
    with pytest.raises(UneError, match="known: Male, Smiling"):
        attributes.resolve(("Male", "Smiling"), "xyz")
