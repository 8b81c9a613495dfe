"""What is known of the rows before anything is computed."""

import hashlib
import shutil

import numpy as np
import pytest

from une_jax import zoo
from une_jax.cli.collection import collect, find_twins, read_prompts
from une_jax.errors import UneError


@pytest.fixture(scope="module")
def celeba(faces, tmp_path_factory):
    """CelebA's folder: images, attributes, partitions, identities."""
    folder = tmp_path_factory.mktemp("celeba") / "celeba"
    shutil.copytree(faces, folder)
    keys = sorted(file.name for file in (folder / "img_align_celeba").iterdir())
    lines = [f"{key} {1000 + i // 3}" for i, key in enumerate(keys)]
    (folder / "identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_celeba_brings_all_that_its_lists_say(celeba):
    found = collect(celeba)
    assert found.source.kind == "celeba" and len(found.source.keys) == 24
    assert "Smiling" in found.attribute_names
    facts = found.facts([3, 23])
    assert facts["key"] == ["000004.jpg", "000024.jpg"]
    assert facts["identity"].to_pylist() == [1001, 1007]
    assert facts["partition"].to_pylist() == ["train", "test"]
    described = found.describe(64)
    assert described["columns"] == {"partition": "string", "identity": "int64"}
    assert described["folder"] == "celeba" and described["size"] == 64


def test_a_partition_and_a_limit_choose_rows_and_their_labels(celeba):
    whole, part = collect(celeba), collect(celeba, partition="test")
    keys = list(part.source.keys)
    assert 0 < len(keys) < 24
    places = [list(whole.source.keys).index(key) for key in keys]
    np.testing.assert_array_equal(part.labels, whole.labels[places])
    first = collect(celeba, limit=2)
    assert list(first.source.keys) == ["000001.jpg", "000002.jpg"]
    np.testing.assert_array_equal(first.labels, whole.labels[:2])
    assert first.source.read(1) == whole.source.read(1)
    assert len(collect(celeba, limit=1000).source.keys) == 24


def test_prompts_are_of_keys(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text('key,prompt\nb.png,"a hat, red"\na.png,\n')
    assert read_prompts(file, ["a.png", "b.png"]) == ("", "a hat, red")
    with pytest.raises(UneError, match="prompts.csv: no prompt for c.png"):
        read_prompts(file, ["a.png", "c.png"])
    file.write_text("key\na.png\n")
    with pytest.raises(UneError, match="write a header and lines of key,prompt"):
        read_prompts(file, ["a.png"])
    with pytest.raises(UneError, match="nowhere.csv: cannot read"):
        read_prompts(tmp_path / "nowhere.csv", ["a.png"])


def test_twins_are_later_rows_of_the_same_bytes(faces, tmp_path):
    files = sorted((faces / "img_align_celeba").iterdir())
    for name, place in (("a", 0), ("b", 1), ("c", 0), ("d", 0), ("e", 1)):
        shutil.copy(files[place], tmp_path / f"{name}.jpg")
    assert find_twins(collect(tmp_path).source).tolist() == [-1, -1, 0, 0, 1]


def test_duplicates_are_reported_or_left_out(run, eyes, faces, tmp_path):
    files = sorted((faces / "img_align_celeba").iterdir())
    folder = tmp_path / "images"
    folder.mkdir()
    for i, place in enumerate((0, 1, 0, 2, 0)):
        shutil.copy(files[place], folder / f"{i}.jpg")
    args = ("build", "--images", folder, "--encoder", eyes, "--batch-size", 4)
    ran = run(*args, "--out", tmp_path / "all")
    assert ran.code == 0 and "5 rows ok, 0 failed\n" in ran.out
    assert "2 images are byte for byte another's" in ran.out

    ran = run(*args, "--out", tmp_path / "some", "--skip-duplicates", "--json")
    assert (ran.json["ok"], ran.json["skipped"], ran.json["duplicates"]) == (3, 2, 0)
    some, whole = zoo.open(tmp_path / "some"), zoo.open(tmp_path / "all")
    assert zoo.verify(tmp_path / "some") == []
    assert some.keys == ["0.jpg", "1.jpg", "3.jpg"]
    twin = some.all_rows.to_pylist()[4]
    assert (twin["status"], twin["reason"]) == ("skipped", "the same bytes as 0.jpg")
    assert twin["sha256"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
    np.testing.assert_array_equal(some["eyes"][:], whole["eyes"][[0, 1, 3]])
    # It is a setting of the zoo: without it, other rows would be asked for.
    ran = run(*args, "--out", tmp_path / "some")
    assert ran.code == 1 and "twins" in ran.errors[0]
