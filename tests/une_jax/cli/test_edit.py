import io

import jax
import numpy as np
import pytest
from PIL import Image

from une_jax import images, zoo
from une_jax.cli import names
from une_jax.cli.generator import Settings, load_generator
from une_jax.report import figures, teaching

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
    assert result["attributes"] == {"Smiling": 1.0} and result["how"] == "euclidean"
    assert 0 < result["left"]["Smiling"] <= 1
    np.testing.assert_allclose(result["leak"]["Smiling"], 0, atol=1e-5)


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
    found = teaching.teach(opened, "tiny").held(["Smiling"], ["Male", "Young"])
    (w,), (unit,) = found.moves, found.spread
    train = opened["tiny"][opened.split("train")].reshape(19, -1)
    np.testing.assert_allclose(unit, (train @ np.asarray(w)).std(), rtol=1e-5)
    said = [row["Smiling"] for row in result["readings"]]
    read = noise.ravel() @ found.readers[0] + found.bias[0]
    gain = np.array(STRENGTHS) * unit * (found.readers[0] @ w)
    np.testing.assert_allclose(said, read + gain, rtol=1e-3, atol=1e-3)

    step = unit * np.asarray(w).reshape(noise.shape)
    moved = np.stack([noise + s * step for s in STRENGTHS])
    with jax.default_matmul_precision("float32"):
        decoded = generator.decode(moved).astype(int)
    files = [np.asarray(images.decode(file), int) for file in result["images"]]
    assert np.abs(np.stack(files) - decoded).max() <= 1
    assert np.abs(decoded[0] - decoded[2]).max() > 10  # and it does something


@pytest.fixture
def walk(run, tiny, faces, tmp_path):
    """The edit command on one face, and the images that it wrote."""

    def walk(*args):
        image = faces / "img_align_celeba/000003.jpg"
        own = ("--image", image, "--generator", tiny, "--out", tmp_path / "walk")
        ran = run("edit", *own, *args, "--json")
        assert ran.code == 0, ran.err
        pixels = [np.asarray(images.decode(file), int) for file in ran.json["images"]]
        return ran.json, np.stack(pixels)

    return walk


def test_several_attributes_go_together_by_their_weights(walk, built):
    result, both = walk("--zoo", built, "--attribute", "Smiling", "Male=-0.5", "--strength", 0, 2)  # fmt: skip
    assert result["attributes"] == {"Smiling": 1.0, "Male": -0.5}
    one, two = (
        walk("--zoo", built, "--attribute", name, "--strength", 0, strength)[0]["readings"][1]
        for name, strength in (("Smiling", 2), ("Male", -1))
    )  # fmt: skip
    found = teaching.teach(zoo.open(built), "tiny").held(["Smiling", "Male"])
    cross = found.readers @ (found.moves * found.spread[:, None]).T
    read = result["readings"][1]
    assert read["Smiling"] == pytest.approx(one["Smiling"] - cross[0, 1], rel=1e-2)
    assert read["Male"] == pytest.approx(two["Male"] + 2 * cross[1, 0], rel=1e-2)
    assert np.abs(both[0] - both[1]).max() > 10


def test_strengths_can_be_margins_and_raw_alphas(walk, built):
    how = ("--zoo", built, "--attribute", "Young", "--strength", -1, 0, 2)
    margins, _ = walk(*how, "--unit", "margin")
    assert [row["Young"] for row in margins["readings"]] == pytest.approx([-1, 0, 2], abs=1e-3)  # fmt: skip
    raw, _ = walk(*how, "--unit", "raw")
    w = teaching.teach(zoo.open(built), "tiny").held(["Young"])
    steps = np.diff([row["Young"] for row in raw["readings"]])
    square = float((w.readers**2).sum())  # z + alpha w gains alpha |w|²
    np.testing.assert_allclose(steps, [square, 2 * square], rtol=1e-3)


def test_a_norm_is_restored_where_asked(walk, built):
    how = ("--zoo", built, "--attribute", "Smiling", "--strength", 0, 30)
    (_, off), (_, sphere) = walk(*how), walk(*how, "--norm", "sphere")
    assert np.abs(off[0] - sphere[0]).max() <= 1
    assert np.abs(off[1] - sphere[1]).max() > 10


@pytest.mark.parametrize("how", teaching.KEEPINGS)
def test_a_file_of_directions_edits_as_the_zoo_that_taught_them(run, walk, built, tmp_path, how):  # fmt: skip
    file = tmp_path / "smile.safetensors"
    options = ("--keep", "Male", "--how", how)
    ran = run("directions", built, "--attribute", "Smiling", *options, "--out", file)
    assert ran.code == 0 and ran.out.rstrip().endswith(str(file))
    shared, from_file = walk("--directions", file, "--strength", 0, 3)
    taught, from_zoo = walk("--zoo", built, "--attribute", "Smiling", *options, "--strength", 0, 3)  # fmt: skip
    np.testing.assert_array_equal(from_file, from_zoo)
    assert shared["keep"] == ["Male"] and shared["how"] == how
    assert shared["leak"] == taught["leak"]


def test_another_model_refuses_a_file_of_directions(run, built, tiny, faces, tmp_path):
    file, out = tmp_path / "all.safetensors", tmp_path / "out"
    assert run("directions", built, "--out", file).code == 0
    edit = ("edit", "--directions", file, "--image", faces / "img_align_celeba/000001.jpg", "--out", out)  # fmt: skip
    ran = run(*edit, "--attribute", "Smiling", "--generator", "mini-sd15")
    assert ran.code == 1 and "other weights than the model that made view 'tiny'" in ran.err  # fmt: skip
    ran = run(*edit, "--generator", tiny)
    assert ran.code == 1 and "choose --attribute" in ran.err
    ran = run(*edit, "--generator", tiny, "--attribute", "Smilin")
    assert ran.code == 1 and "did you mean Smiling" in ran.err
    ran = run(*edit, "--generator", tiny, "--attribute", "Smiling", "--keep", "Male")
    assert ran.code == 1 and "held when it is made" in ran.err
    assert not out.exists()


def test_zoo_or_file_and_weights_that_are_numbers(run, built, faces, tmp_path):
    image = ("--image", faces / "img_align_celeba/000001.jpg", "--out", tmp_path / "out")  # fmt: skip
    ran = run("edit", *image)
    assert ran.code == 1 and "give --zoo to learn directions from, or --directions" in ran.err  # fmt: skip
    ran = run("edit", *image, "--zoo", built)
    assert ran.code == 1 and "which --attribute?" in ran.err
    for weight in ("much", "nan", ""):
        ran = run("edit", *image, "--zoo", built, "--attribute", f"Smiling={weight}")
        assert ran.code == 1 and "write NAME or NAME=WEIGHT" in ran.err


def test_directions_say_how_entangled_they_are(run, built):
    ran = run("directions", built, "--attribute", "Smiling", "Young", "--keep", "Male", "--json")  # fmt: skip
    found = teaching.teach(zoo.open(built), "tiny").held(["Smiling", "Young"], ["Male"])
    assert [row["direction"] for row in ran.json["table"]] == ["Smiling", "Young"]
    assert ran.json["table"][1]["left"] == pytest.approx(found.method["left"]["Young"], abs=1e-4)  # fmt: skip
    assert ran.json["cosines"]["Smiling"]["Smiling"] == pytest.approx(1, abs=1e-5)
    assert ran.json["file"] is None


def test_interpolation_goes_from_one_image_to_the_other(run, built, tiny, faces, tmp_path):  # fmt: skip
    one, two = (faces / f"img_align_celeba/00000{i}.jpg" for i in (1, 2))
    how = ("interpolate", "--zoo", built, "--generator", tiny, "--image", one, "--to", two)  # fmt: skip
    ran = run(*how, "--places", 3, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["places"] == [0, 0.5, 1] and -1 <= ran.json["cosine"] <= 1
    first, middle, last = (np.asarray(images.decode(f), int) for f in ran.json["images"])  # fmt: skip
    opened = zoo.open(built)
    generator = load_generator(names.resolve(f"tiny={tiny}"), Settings(steps=3), rows=3)
    at = [opened.keys.index(file.name) for file in (one, two)]
    ends = generator.decode(opened["tiny"][at]).astype(int)
    assert np.abs(first - ends[0]).max() <= 2 and np.abs(last - ends[1]).max() <= 2
    assert min(np.abs(middle - end).max() for end in ends) > 10
    ran = run(*how, "--places", 1, "--out", tmp_path / "none")
    assert ran.code == 1 and "--places is 1; use 2 or more" in ran.err


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
