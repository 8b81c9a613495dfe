import doctest

import pytest

from une_jax import sources
from une_jax.errors import UneError
from une_jax.sources import celeba, partitions

ATTRIBUTES = """\
3
Male Smiling
000001.jpg -1  1
000002.jpg  1 -1
000003.jpg  1  1
"""
PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
IDENTITY = "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 8692\n"
LANDMARKS = """\
3
lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y
000001.jpg   69  109  106  113   77  142   73  152  108  154
000002.jpg   69  110  107  112   81  135   70  151  108  153
000003.jpg   76  112  104  106  108  128   74  156   98  158
"""
BOXES = """\
3
image_id x_1 y_1 width height
000001.jpg    95  71 226 313
000002.jpg    72  94 221 306
000003.jpg   216  59  91 126
"""
LISTS = {
    "list_attr_celeba.txt": ATTRIBUTES,
    "list_eval_partition.txt": PARTITION,
    "identity_CelebA.txt": IDENTITY,
    "list_landmarks_align_celeba.txt": LANDMARKS,
    "list_bbox_celeba.txt": BOXES,
}
POINTS = LANDMARKS.splitlines()[1].split()
BOX = ["bbox_x", "bbox_y", "bbox_width", "bbox_height"]


def write(root, lists, images=("000001.jpg", "000002.jpg", "000003.jpg"), below=""):
    """CelebA with these lists, and images whose bytes are their names."""
    folder = root / "img_align_celeba" / below
    folder.mkdir(parents=True)
    for name in images:
        (folder / name).write_bytes(name.encode())
    for name, text in lists.items():
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("module", [celeba, partitions])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_all_lists_are_read_and_keys_are_as_the_lists_spell_them(tmp_path):
    source = sources.open(write(tmp_path / "celeba", LISTS))
    assert (source.kind, source.name) == ("celeba", "celeba")
    assert list(source.keys) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert source.attributes.names == ("Male", "Smiling")
    assert source.attributes.values.tolist() == [[False, True], [True, False], [True, True]]  # fmt: skip
    columns = {name: column.to_pylist() for name, column in source.columns.items()}
    assert columns.pop("partition") == ["train", "validation", "test"]
    assert columns.pop("identity") == [2880, 2937, 8692]
    assert list(columns) == POINTS + BOX
    assert columns["lefteye_x"] == [69, 69, 76] and columns["rightmouth_y"][0] == 154
    assert [columns[name][2] for name in BOX] == [216, 59, 91, 126]
    assert source.read(1) == b"000002.jpg"


@pytest.mark.parametrize("name", LISTS)
def test_one_list_is_enough(tmp_path, name):
    source = sources.open(write(tmp_path, {name: LISTS[name]}))
    assert source.kind == "celeba"
    assert (source.attributes is not None) == (name == "list_attr_celeba.txt")


def test_images_without_lists_are_a_folder(tmp_path):
    source = sources.open(write(tmp_path, {"list.txt": ATTRIBUTES}))
    assert source.kind == "folder" and source.keys[0] == "img_align_celeba/000001.jpg"
    listed = sources.open(tmp_path / "img_align_celeba")
    assert listed.kind == "folder" and listed.keys[0] == "000001.jpg"


def test_some_of_the_images_are_enough(tmp_path):
    source = sources.open(write(tmp_path, LISTS, images=["000003.jpg", "000001.jpg"]))
    assert source.keys == ["000001.jpg", "000003.jpg"]
    assert source.attributes.values.tolist() == [[False, True], [True, True]]
    assert source.columns["partition"].to_pylist() == ["train", "test"]
    assert source.columns["nose_x"].to_pylist() == [77, 108]


@pytest.mark.parametrize("name", LISTS)
def test_images_that_a_list_lacks_are_named(tmp_path, name):
    images = ["000001.jpg", "000002.jpg", "000007.jpg", "000008.jpg"]
    write(tmp_path, {name: LISTS[name]}, images=images)
    with pytest.raises(UneError, match=f"{name}: does not list 000007.jpg and 1 more;"):
        sources.open(tmp_path)


@pytest.mark.parametrize("spelling", ["validation", "val", "valid"])
def test_one_partition_can_be_opened(tmp_path, spelling):
    source = sources.open(write(tmp_path, LISTS), partition=spelling)
    assert source.keys == ["000002.jpg"] and source.read(0) == b"000002.jpg"
    assert source.attributes.values.tolist() == [[True, False]]
    assert source.columns["identity"].to_pylist() == [2937]


def test_the_layout_of_kaggle_is_the_same_as_csv_and_one_folder_deeper(tmp_path):
    lists = {
        "list_attr_celeba.csv": "image_id,Male,Smiling\n000001.jpg,-1,1\n000002.jpg,1,-1\n",
        "list_eval_partition.csv": "image_id,partition\n000001.jpg,0\n000002.jpg,2\n",
        "list_bbox_celeba.csv": "image_id,x_1,y_1,width,height\n000001.jpg,1,2,3,4\n000002.jpg,5,6,7,8\n",
    }
    images = ["000001.jpg", "000002.jpg"]
    write(tmp_path, lists, images=images, below="img_align_celeba")
    source = sources.open(tmp_path)
    assert source.keys == images and source.read(0) == b"000001.jpg"
    assert source.attributes.values.tolist() == [[False, True], [True, False]]
    assert source.columns["partition"].to_pylist() == ["train", "test"]
    assert source.columns["bbox_height"].to_pylist() == [4, 8]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "-1  1", "-1", "line 3: expected a key and 2 values"),
        ("list_eval_partition.txt", "jpg 1", "jpg x", "line 2: expected a key and 1"),
        ("list_eval_partition.txt", "jpg 1", "jpg 3", "a partition is none of 0, 1"),
        ("list_eval_partition.txt", "jpg 1", "jpg -1", "a partition is none of 0, 1"),
        ("identity_CelebA.txt", "2937", "", "line 2: expected a key and 1 whole"),
        ("identity_CelebA.txt", "2937", "9" * 20, "line 2: expected a key and 1"),
        ("identity_CelebA.txt", "000002", "000001", "line 2: '000001.jpg' is already"),
        ("list_bbox_celeba.txt", " 306", "", "line 4: expected a key and 4 whole"),
        ("list_bbox_celeba.txt", "3\n", "4\n", "line 1: says '4' images, but 3 follow"),
        ("list_landmarks_align_celeba.txt", "77", "7.7", "line 3: expected a key and"),
        ("list_landmarks_align_celeba.txt", "\n000002", "\n\n2", "line 4: expected a"),
    ],
)  # fmt: skip
def test_malformed_lists_are_named_with_the_line(tmp_path, name, old, new, message):
    write(tmp_path, {name: LISTS[name].replace(old, new, 1)})
    with pytest.raises(UneError, match=f"{name}.*{message}"):
        sources.open(tmp_path)


def test_what_is_not_celeba_is_refused_when_asked_for_it(tmp_path):
    (tmp_path / "file").write_text(ATTRIBUTES)
    with pytest.raises(UneError, match="file is not a folder"):
        sources.open(tmp_path / "file", kind="celeba")
    with pytest.raises(UneError, match="has no folder img_align_celeba/"):
        sources.open(tmp_path, kind="celeba")
    with pytest.raises(UneError, match="no images in .*img_align_celeba"):
        sources.open(write(tmp_path / "empty", LISTS, images=[]))
