import doctest
import io
import os
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from une_jax import images, sources
from une_jax.errors import UneError
from une_jax.sources import Source, webdataset


def pack(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def listed(source):
    return {name: column.to_pylist() for name, column in source.columns.items()}


def test_examples_in_docstrings():
    assert doctest.testmod(webdataset).failed == 0


def test_one_tar_with_all_that_belongs_to_its_images(tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (2, 3), "red").save(png, "PNG")
    files = {
        "b.cls": b"7\n",
        "b.json": b'{"Smiling": false, "Male": true, "age": 40, "who": null}',
        "b.txt": "un été\n".encode(),
        "b.png": png.getvalue(),
        "a.jpg": b"jpeg",
        "a.json": b'{"Smiling": true, "Male": true, "more": {"x": true}}',
        "a.txt": b"winter",
        "a.cls": b"-1",
    }
    source = sources.open(pack(tmp_path / "faces.tar", files))
    assert isinstance(source, Source)
    assert (source.kind, source.name) == ("webdataset", "faces.tar")
    assert source.keys == ["a.jpg", "b.png"]
    assert source.attributes.names == ("Male", "Smiling")
    assert source.attributes.values.tolist() == [[True, True], [True, False]]
    assert listed(source) == {"class": [-1, 7], "caption": ["winter", "un été"]}
    assert source.read(0) == b"jpeg"
    assert images.decode(source.read(1)).size == (2, 3)


def test_a_folder_of_tars_whose_names_say_their_partition(tmp_path):
    folder = tmp_path / "set"
    for name in ("train-0000", "train-0001", "val/0000"):
        pack(folder / f"{name}.tar", {"0.jpg": name.encode(), "sub/1.jpg": b"1"})
    (folder / "README.md").write_text("two images each")
    source = sources.open(folder)
    assert (source.kind, source.name) == ("webdataset", "set")
    assert list(source.keys) == [
        "train-0000/0.jpg",
        "train-0000/sub/1.jpg",
        "train-0001/0.jpg",
        "train-0001/sub/1.jpg",
        "val/0000/0.jpg",
        "val/0000/sub/1.jpg",
    ]
    expected = [b"train-0000", b"1", b"train-0001", b"1", b"val/0000", b"1"]
    assert [source.read(row) for row in range(6)] == expected
    assert listed(source) == {"partition": ["train"] * 4 + ["validation"] * 2}
    assert source.attributes is None
    part = sources.open(folder, partition="val")
    assert [part.read(0), part.read(1)] == [b"val/0000", b"1"]


def test_all_images_of_a_sample_share_what_belongs_to_it(tmp_path):
    files = {
        "a.left.jpg": b"l",
        "a.right.png": b"r",
        "a.json": b'{"Male": true}',
        "dir.v1/a.json": b'{"Male": false}',
        "dir.v1/a.jpg": b"other",
    }
    source = sources.open(pack(tmp_path / "a.tar", files))
    assert source.keys == ["a.left.jpg", "a.right.png", "dir.v1/a.jpg"]
    assert source.attributes.values.tolist() == [[True], [True], [False]]


def test_hidden_members_and_other_files_are_passed_over(tmp_path):
    files = {"a.jpg": b"a", "._a.jpg": b"mac", ".cache/b.jpg": b"b", "a.npy": b"c", "d": b""}  # fmt: skip
    assert list(sources.open(pack(tmp_path / "a.tar", files)).keys) == ["a.jpg"]


def test_what_some_images_lack_is_null_and_never_a_no(tmp_path):
    files = {
        "a.jpg": b"",
        "a.json": b'{"Male": true, "Young": true}',
        "b.jpg": b"",
        "b.json": b'{"Male": false}',
        "b.cls": b"3",
    }
    source = sources.open(pack(tmp_path / "a.tar", files))
    assert source.attributes.names == ("Male",)
    assert listed(source) == {"Young": [True, None], "class": [None, 3]}
    pack(tmp_path / "b.tar", {"c.jpg": b""})
    source = sources.open(tmp_path)
    assert source.attributes is None
    assert listed(source)["Male"] == [True, False, None]
    assert listed(source)["class"] == [None, 3, None]


def test_threads_in_any_order_get_what_belongs_to_their_row(tmp_path):
    for number in range(4):
        files = {f"{i:03d}.jpg": b"%d/%d" % (number, i) for i in range(25)}
        pack(tmp_path / f"{number}.tar", files)
    source = sources.open(tmp_path)
    order = random.Random(0).choices(range(100), k=2000)
    with ThreadPoolExecutor(8) as pool:
        got = [*pool.map(source.read, order)]
    assert got == [b"%d/%d" % divmod(row, 25) for row in order]
    with pytest.raises(IndexError):
        source.read(100)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"[]", "'a.json' is malformed: expected an object"),
        ("a.json", b"{", "'a.json' is malformed"),
        ("a.json", b"[" * 10**5, "'a.json' is malformed"),
        ("a.json", b"\xff", "'a.json' is malformed"),
        ("a.json", b'{"\\ud800": true}', "'a.json' is malformed"),
        ("a.cls", b"cat", "'a.cls' is malformed"),
        ("a.cls", b"9" * 19, "'a.cls' is malformed: the number is too large"),
        ("a.cls", b"9" * 10**5, "'a.cls' is malformed"),
        ("a.txt", b"\xff", "'a.txt' is malformed"),
        ("a.txt", b"x" * (2**20 + 1), "'a.txt' has 1,048,577 bytes; that is no note"),
    ],
)
def test_malformed_notes_are_named(tmp_path, name, data, message):
    pack(tmp_path / "x.tar", {"a.jpg": b"", name: data})
    with pytest.raises(UneError, match=f"x.tar: {message}"):
        sources.open(tmp_path)


def test_fields_without_end_are_refused(tmp_path):
    files = {}
    for i in range(11):
        flags = ", ".join(f'"{i}-{j}": true' for j in range(100))
        files |= {f"{i}.jpg": b"", f"{i}.json": f"{{{flags}}}".encode()}
    with pytest.raises(UneError, match="more than 1000 yes/no fields"):
        sources.open(pack(tmp_path / "a.tar", files))


@pytest.mark.parametrize("name", ["class", "caption"])
def test_a_field_with_the_name_of_a_column_is_refused(tmp_path, name):
    files = {"a.jpg": b"", "a.cls": b"1", "a.txt": b"x"}
    flag = f'{{"{name}": true}}'.encode()
    pack(tmp_path / "a.tar", files | {"a.json": flag})
    with pytest.raises(UneError, match=f"'{name}' is an attribute and a column"):
        sources.open(tmp_path)
    pack(tmp_path / "a.tar", files | {"b.jpg": b"", "b.json": flag})
    with pytest.raises(UneError, match=f"two columns are named '{name}'"):
        sources.open(tmp_path)


def test_hostile_archives_are_named_with_what_is_wrong(tmp_path):
    path = pack(tmp_path / "x.tar", {"../a.jpg": b""})
    with pytest.raises(UneError, match="x.tar: '../a.jpg' leads out of the archive"):
        sources.open(path)
    path.write_bytes(b"")
    with pytest.raises(UneError, match="x.tar: has no end: it was cut short"):
        sources.open(tmp_path)
    pack(path, {"a\nb.jpg": b""})
    with pytest.raises(UneError, match="has a line break; rename it"):
        sources.open(tmp_path)


def test_collections_without_images_are_refused(tmp_path):
    with pytest.raises(UneError, match="no .tar files in"):
        sources.open(tmp_path, kind="webdataset")
    os.mkfifo(tmp_path / "pipe.tar")  # would block whoever opens it
    with pytest.raises(UneError, match="no .tar files in"):
        sources.open(tmp_path, kind="webdataset")
    pack(tmp_path / "a.tar", {"a.txt": b"x"})
    with pytest.raises(UneError, match="no images in"):
        sources.open(tmp_path)
    with pytest.raises(UneError, match="nowhere.tar does not exist"):
        sources.open(tmp_path / "nowhere.tar", kind="webdataset")


def test_images_that_cannot_be_read_fail_alone_and_name_no_path(tmp_path, monkeypatch):
    path = pack(tmp_path / "x.tar", {"a.jpg": b"a", "b.jpg": b"b" * 101})
    source = sources.open(path)
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert source.read(0) == b"a"
    with pytest.raises(UneError, match="^file of 101 bytes"):
        source.read(1)
    path.write_bytes(path.read_bytes()[:512])
    with pytest.raises(UneError, match="^x.tar: has been cut short"):
        source.read(0)
    path.unlink()
    with pytest.raises(UneError, match="^x.tar: cannot read: No such file"):
        source.read(0)
