import io

import jax
import numpy as np
import pytest
from PIL import Image

from une_jax import edits, images, zoo
from une_jax.cli import names
from une_jax.cli.generator import Settings, load_generator
from une_jax.report import figures, probing

STRENGTHS = (-3.0, -1.5, 0.0, 2.0)


@pytest.fixture(scope="module")
def edited(run, built, tiny, faces, tmp_path_factory):
    """The edit command's JSON, and the folder that it wrote."""
    out = tmp_path_factory.mktemp("edit") / "out"
    ran = run(
        *("edit", "--zoo", built, "--generator", tiny, "--out", out),
        *("--image", faces / "img_align_celeba/000007.jpg"),
        *("--attribute", "Smiling", "--keep", "Male", "Young"),
        *("--strength", *STRENGTHS, "--json"),
    )
    assert ran.code == 0, ran.err
    return ran.json, out


def test_a_file_for_each_strength_and_a_grid(edited):
    result, out = edited
    labels = ("-3", "-1.5", "0", "+2")
    files = [out / f"000007_Smiling_{label}.png" for label in labels]
    assert result["images"] == [str(file) for file in files]
    assert result["grid"] == str(out / "grid.png")
    assert sorted(out.iterdir()) == sorted([*files, out / "grid.png"])
    assert {images.decode(file).size for file in files} == {(16, 16)}
    width, height = images.decode(out / "grid.png").size
    assert width == 5 * 98 and height == 22 + 98  # the image and four edits
    assert result["keep"] == ["Male", "Young"] and result["strength"] == [*STRENGTHS]


def test_edits_are_decoded_from_the_inverted_noise_moved_along_the_direction(
    edited, built, tiny, faces
):
    """Strength 0 is the plain reconstruction; the unit is the train rows' deviation."""
    result, _ = edited
    opened = zoo.open(built)
    generator = load_generator(names.resolve(f"tiny={tiny}"), Settings(steps=3), rows=4)
    image = images.decode(faces / "img_align_celeba/000007.jpg")
    row = opened.keys.index("000007.jpg")
    with jax.default_matmul_precision("float32"):
        noise = generator.compute(generator.prepare(image)[None], np.zeros(1, int))
    noise = noise.arrays["tiny"][0]
    np.testing.assert_allclose(noise, opened["tiny"][row], atol=2e-5)
    probed = probing.probe_view(opened, "tiny")
    w, unit = probed.direction(opened.attribute_names, "Smiling", ("Male", "Young"))
    train = opened["tiny"][opened.split("train")].reshape(19, -1)
    np.testing.assert_allclose(unit, (train @ np.asarray(w)).std(), rtol=1e-5)

    step = unit * np.asarray(w).reshape(noise.shape)
    moved = np.stack([noise + s * step for s in STRENGTHS])
    with jax.default_matmul_precision("float32"):
        decoded = generator.decode(moved).astype(int)
    files = [np.asarray(images.decode(file), int) for file in result["images"]]
    assert np.abs(np.stack(files) - decoded).max() <= 1
    assert np.abs(decoded[0] - decoded[2]).max() > 10  # and it does something


def test_directions_leave_the_kept_ones_alone(built):
    opened = zoo.open(built)
    probed = probing.probe_view(opened, "tiny")
    at = opened.attribute_names.index
    plain, _ = probed.direction(opened.attribute_names, "Smiling")
    held, _ = probed.direction(opened.attribute_names, "Smiling", ("Male", "Young"))
    weights = [probed.probe.weight[at(name)] for name in ("Male", "Young")]
    others = jax.numpy.stack([edits.unit(w) for w in weights])
    assert np.abs(others @ plain).max() > 1e-2
    np.testing.assert_allclose(others @ held, 0, atol=1e-6)
    for direction in (plain, held):
        np.testing.assert_allclose(np.linalg.norm(direction), 1, rtol=1e-5)


def test_a_direction_that_the_kept_ones_use_up_is_an_error(built):
    opened = zoo.open(built)
    probed = probing.probe_view(opened, "tiny")
    with pytest.raises(ValueError, match="Male has no direction of its own in tiny"):
        probed.direction(opened.attribute_names, "Male", ("Young", "Male"))


def test_the_text_says_what_was_written(run, built, tiny, faces, tmp_path):
    image = tmp_path / "my best photo!.png"
    images.decode(faces / "img_align_celeba/000002.jpg").save(image)
    ran = run(
        *("edit", "--zoo", built, "--generator", tiny, "--image", image),
        *("--attribute", "Male", "--strength", -1, 1, 0, 2, "--out", tmp_path / "out"),
    )
    assert ran.code == 0
    assert ran.out.startswith(f"Male: 4 images and {tmp_path / 'out/grid.png'}")
    assert (tmp_path / "out/my_best_photo__Male_-1.png").exists()


def test_a_sheet_has_its_labels_beside_whole_pixels():
    tiles = np.full((2, 3, 4, 4, 3), 255, np.uint8)
    tiles[1, 2] = (255, 0, 0)
    png = figures.sheet(tiles, rows=["one", "two"], columns=["a", "b", "c"], tile=8)
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image)
    red = (pixels == (255, 0, 0)).all(-1)
    assert red.sum() == 64 and red[-10:-2, -10:-2].all()  # nothing is smoothed
    assert pixels.shape[0] == 22 + 2 * (8 + 2)
    assert (pixels[:22] < 100).any() and (pixels[22:, :-30] < 100).any()
