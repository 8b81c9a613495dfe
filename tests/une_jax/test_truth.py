import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from une_jax.errors import UneError
from une_jax.miniature import factors, truth


@pytest.fixture
def stored(tmp_path):
    faces = factors.draw(jax.random.key(3), 4)
    truth.write(tmp_path / truth.FILE, faces)
    return faces, tmp_path / truth.FILE


def test_what_is_written_is_read(stored):
    faces, path = stored
    for a, b in zip(faces, truth.read(path), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_are_found_by_the_images_names_in_any_order(stored):
    faces, path = stored
    some = truth.read(path, [truth.key(2), "below/000001.jpg"])
    for a, b in zip(faces, some, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[[2, 0]], b)


@pytest.mark.parametrize("name", ["000000.jpg", "000005.jpg", "me.jpg", "-1.jpg"])
def test_other_images_are_refused_by_name(stored, name):
    with pytest.raises(UneError, match=f"4 faces, and {name} is none"):
        truth.read(stored[1], [name])


def test_files_of_anything_else_are_refused(tmp_path):
    with pytest.raises(UneError, match="no file of true factors"):
        truth.read(tmp_path / "nowhere")
    (tmp_path / "text").write_text("z")
    with pytest.raises(UneError, match="no file of true factors"):
        truth.read(tmp_path / "text")
    save_file({"z": np.zeros((2, 32), np.float32)}, tmp_path / "other")
    with pytest.raises(UneError, match="une-jax faces"):
        truth.read(tmp_path / "other")
