import doctest

import pytest

from une_jax import sources
from une_jax.errors import UneError
from une_jax.sources import classes

AFHQ = ["train/cat/1.jpg", "train/dog/1.jpg", "train/wild/2.jpg", "val/cat/1.jpg"]


def write(root, names):
    """Files whose bytes are their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_examples_in_docstrings():
    assert doctest.testmod(classes).failed == 0


@pytest.mark.parametrize("kind", ["auto", "classes"])
def test_every_class_is_an_attribute_and_the_partition_a_column(tmp_path, kind):
    source = sources.open(write(tmp_path, AFHQ), kind=kind)
    assert source.kind == "classes" and source.keys == AFHQ
    assert source.attributes.names == ("cat", "dog", "wild")
    assert source.attributes.values.astype(int).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
    ]
    assert source.columns["class"].to_pylist() == ["cat", "dog", "wild", "cat"]
    assert source.columns["partition"].to_pylist() == ["train"] * 3 + ["validation"]
    assert source.read(3) == b"val/cat/1.jpg"


def test_attributes_are_sorted_by_name_whatever_comes_first(tmp_path):
    source = sources.open(write(tmp_path, ["test/b/1.jpg", "train/C/2.jpg"]))
    assert source.attributes.names == ("C", "b")
    assert source.columns["class"].to_pylist() == ["b", "C"]
    assert source.attributes.values.tolist() == [[False, True], [True, False]]


def test_one_partition_can_be_opened(tmp_path):
    source = sources.open(write(tmp_path, AFHQ), partition="validation")
    assert source.keys == ["val/cat/1.jpg"] and source.read(0) == b"val/cat/1.jpg"
    assert source.attributes.names == ("cat", "dog", "wild")


def test_classes_without_partitions_are_found_when_asked_for(tmp_path):
    write(tmp_path, ["dog/1.jpg", "cat/1.jpg"])
    assert sources.open(tmp_path).kind == "folder"
    source = sources.open(tmp_path, kind="classes")
    assert source.keys == ["cat/1.jpg", "dog/1.jpg"] and source.kind == "classes"
    assert list(source.columns) == ["class"]
    assert source.attributes.names == ("cat", "dog")


@pytest.mark.parametrize(
    "names",
    [
        [*AFHQ, "1.jpg"],
        [*AFHQ, "train/1.jpg"],
        [*AFHQ, "train/cat/more/1.jpg"],
        [*AFHQ, "extra/cat/1.jpg"],
        ["train/all/1.jpg", "test/all/2.jpg"],
        ["cat/1.jpg", "dog/1.jpg"],
    ],
)
def test_other_trees_stay_plain_folders(tmp_path, names):
    source = sources.open(write(tmp_path, names))
    assert (source.kind, source.attributes, source.columns) == ("folder", None, {})
    assert source.keys == sorted(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*AFHQ, "zoo.jpg"], "'zoo.jpg' is not where train/class/image has"),
        ([*AFHQ, "train/9.jpg"], "'train/9.jpg' is not where train/class/image has"),
        (["cat/1.jpg", "cat/a/1.jpg"], "'cat/a/1.jpg' is not where class/image has"),
        (["1.jpg"], "'1.jpg' is not where class/image has"),
    ],
)
def test_images_outside_of_classes_are_named_when_classes_are_asked_for(
    tmp_path, names, message
):
    with pytest.raises(UneError, match=message):
        sources.open(write(tmp_path, names), kind="classes")


@pytest.mark.parametrize(("count", "few"), [(40, True), (41, False)])
def test_many_classes_are_a_column_only(tmp_path, count, few):
    names = [f"train/{i:02d}/a.jpg" for i in range(count)]
    source = sources.open(write(tmp_path, names))
    assert (source.attributes is not None) == few
    assert len(source.columns["class"].unique()) == count
