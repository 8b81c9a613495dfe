import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from small_zoo import contents

from une_jax import attributes, image_metrics, images
from une_jax.miniature import factors, render

SEED = 5


def test_faces_are_in_celebas_layout_and_the_readers_read_it(faces):
    keys = images.list_images(faces / "img_align_celeba")
    table = attributes.read(faces / "list_attr_celeba.txt")
    parts = attributes.read_partition(faces / "list_eval_partition.txt")
    assert keys == [f"{i:06d}.jpg" for i in range(1, 25)]
    assert table.keys == tuple(keys) == tuple(parts)
    assert table.names == factors.NAMES
    assert np.bincount(list(parts.values())).tolist() == [20, 2, 2]
    sizes = {images.decode(faces / "img_align_celeba" / key).size for key in keys}
    assert sizes == {(64, 64)}


def test_the_truth_beside_them_is_that_of_the_images_and_the_attributes(faces):
    truth = factors.draw(jax.random.key(SEED), 24)
    stored = load_file(faces / "truth.safetensors")
    assert sorted(stored) == ["nuisance", "scores", "z"]
    for name, value in stored.items():
        np.testing.assert_allclose(value, getattr(truth, name), atol=1e-6)
    table = attributes.read(faces / "list_attr_celeba.txt")
    np.testing.assert_array_equal(table.values, truth.attributes)
    painted = np.asarray(render.faces(truth.scores[:3], truth.nuisance[:3]))
    for key, face in zip(table.keys, painted, strict=False):
        image = images.decode(faces / "img_align_celeba" / key)
        read = np.asarray(image, np.float32)[None] / np.float32(255)
        assert image_metrics.psnr(read, face[None])[0] > 30  # JPEG loses a little


def test_a_face_does_not_depend_on_how_many_there_are(run, faces, tmp_path):
    ran = run("faces", "--out", tmp_path / "few", "--n", 5, "--seed", SEED, "--json")
    assert ran.json == {"faces": str(tmp_path / "few"), "n": 5, "seed": SEED}
    few = contents(tmp_path / "few" / "img_align_celeba")
    many = contents(faces / "img_align_celeba")
    assert few == {key: many[key] for key in sorted(many)[:5]}


def test_the_same_again_does_nothing_and_an_interrupted_one_is_finished(run, tmp_path):
    args = ("faces", "--out", tmp_path / "f", "--n", 3)
    assert run(*args).code == 0
    whole = contents(tmp_path / "f")
    first = tmp_path / "f" / "img_align_celeba" / "000001.jpg"
    first.write_bytes(b"touched")
    assert run(*args).code == 0
    assert first.read_bytes() == b"touched"
    (tmp_path / "f" / "truth.safetensors").unlink()  # it is written last
    assert run(*args).code == 0
    assert contents(tmp_path / "f") == whole


def test_other_settings_are_refused(run, faces):
    before = contents(faces)
    ran = run("faces", "--out", faces, "--n", 9, "--seed", SEED)
    assert ran.code == 1
    (error,) = ran.errors
    assert '"n": 24' in error and "choose another --out" in error
    assert contents(faces) == before


def test_the_real_celeba_is_not_painted_over(run, tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    Image.new("RGB", (178, 218)).save(tmp_path / "img_align_celeba" / "000001.jpg")
    (tmp_path / "list_attr_celeba.txt").write_text("1\nYoung\n000001.jpg 1\n")
    before = contents(tmp_path)
    ran = run("faces", "--out", tmp_path, "--n", 1)
    assert ran.code == 1 and "is not an empty folder" in ran.errors[0]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--seed", factors.TRAINING_SEED, "the miniature models were trained on"),
        ("--seed", factors.TRAINING_SEED + 2**32, "use 0 to"),  # jax would wrap it
        ("--seed", -1, "use 0 to"),
        ("--n", 0, "use 1 or more"),
    ],
)
def test_seeds_and_numbers_that_are_refused(run, tmp_path, option, value, problem):
    ran = run("faces", "--out", tmp_path / "faces", option, value)
    assert ran.code == 1
    (error,) = ran.errors
    assert error.startswith(f"{option} {value}") and problem in error
    assert not (tmp_path / "faces").exists()
