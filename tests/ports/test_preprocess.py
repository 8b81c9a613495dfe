"""Image preprocessing: the references' own, pixel by pixel, or a refusal."""

import json
from dataclasses import replace

import numpy as np
import pytest
from golden import arrays, folder
from PIL import Image

from ports import preprocess
from ports.checkpoint import CheckpointError
from ports.preprocess import PROCESSORS, RECIPES, Preprocess

CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
PREPROCESSOR, OPEN_CLIP = "preprocessor_config.json", "open_clip_config.json"


def write(folder, file, raw):
    (folder / file).write_text(json.dumps(raw))
    return str(folder)


def load(folder, **changes):
    raw = {k: v for k, v in (CLIP | changes).items() if v is not ...}
    return preprocess.load(write(folder, PREPROCESSOR, raw))


def load_open_clip(folder, image_size=32, **cfg):
    raw = {
        "model_cfg": {"vision_cfg": {"image_size": image_size}},
        "preprocess_cfg": cfg,
    }
    return preprocess.load(write(folder, OPEN_CLIP, raw))


def levels(step, image):
    """What comes out before standardisation, on the scale of 255."""
    return 255 * (step(image).astype(np.float64) * step.std + step.mean)


def grey(*rows):
    """An RGB image of these grey levels."""
    return Image.fromarray(np.asarray(rows, np.uint8)).convert("RGB")


# The worst level and the mean level that a reference may be away. open_clip resizes
# with Pillow, as we do. torchvision resizes uint8 tensors with weights of 16 bits,
# Pillow with 22. Goldens of floats are float16, which is 1/16 of a level near white.
EXACT, INTEGERS, FLOATS = (1e-3, 1e-4), (1 + 1e-3, 0.04), (0.13, 0.03)


@pytest.mark.parametrize(
    ("case", "bounds"),
    [
        ("clip", INTEGERS),
        ("dinov2", INTEGERS),
        ("vit", INTEGERS),
        ("dino", INTEGERS),
        ("dinov3", FLOATS),
        ("dinov3_bicubic", FLOATS),
        ("open_clip_shortest", EXACT),
        ("open_clip_longest", EXACT),
        ("open_clip_squash", EXACT),
    ],
)
def test_it_is_the_reference_processor(case, bounds):
    """Wide, tall, odd, tiny, thin, and an image that has the size already."""
    step, goldens = (
        preprocess.load(folder(f"preprocess/{case}")),
        arrays(f"preprocess/{case}"),
    )
    for name, pixels in arrays("preprocess").items():
        whole = goldens[name].dtype == np.uint8
        expected = goldens[name].astype(np.float64) * (1 if whole else 255)
        apart = np.abs(levels(step, Image.fromarray(pixels)) - expected)
        assert apart.shape == (24, 24, 3)
        assert apart.max() <= bounds[0] and apart.mean() <= bounds[1], name


NULLS = dict.fromkeys(("crop_size", "do_center_crop", "do_convert_rgb", "device"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (  # openai/clip-vit-large-patch14-336
            CLIP | {"image_processor_type": ..., "size": 336, "crop_size": 336}
            | {"feature_extractor_type": "CLIPFeatureExtractor"},
            replace(PROCESSORS["CLIP"], size=336, crop=336),
        ),
        (  # facebook/dinov2-large
            CLIP | IMAGENET | {"image_processor_type": "BitImageProcessor"}
            | {"size": {"shortest_edge": 256}}
            | {"crop_size": {"height": 224, "width": 224}},
            Preprocess(
                resize="shortest", size=256, filter="bicubic", crop=224,
                mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
            ),
        ),
        (  # facebook/dino-vitb16
            IMAGENET | {"feature_extractor_type": "ViTFeatureExtractor"}
            | {"do_normalize": True, "do_resize": True, "resample": 2, "size": 224},
            Preprocess(
                resize="exact", size=224, filter="bilinear",
                mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
            ),
        ),
        (  # facebook/dinov3-vitl16-pretrain-lvd1689m
            IMAGENET | NULLS | {"image_processor_type": "DINOv3ViTImageProcessorFast"}
            | {"resample": 2, "size": {"height": 224, "width": 224}},
            PROCESSORS["DINOv3ViT"],
        ),
    ],
    ids=["clip-336", "dinov2", "dino", "dinov3"],
)  # fmt: skip
def test_files_as_they_are_published(tmp_path, raw, expected):
    raw = {k: v for k, v in raw.items() if v is not ...}
    assert preprocess.load(write(tmp_path, PREPROCESSOR, raw)) == expected


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_silent_file_means_its_processors_own_defaults(tmp_path, name):
    raw = {"image_processor_type": f"{name}ImageProcessor", "size": None}
    assert preprocess.load(write(tmp_path, PREPROCESSOR, raw)) == PROCESSORS[name]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("CLIPVisionModelWithProjection", "CLIP"),
        ("Dinov2Model", "Bit"),
        ("Dinov2WithRegistersModel", "Bit"),
        ("ViTModel", "ViT"),
        ("DINOv3ViTModel", "DINOv3ViT"),
    ],
)
def test_a_file_without_a_processor_is_read_as_its_models(tmp_path, model, name):
    write(tmp_path, "config.json", {"architectures": [model]})
    assert preprocess.load(write(tmp_path, PREPROCESSOR, {})) == PROCESSORS[name]


def test_a_lone_number_is_an_edge_for_clip_and_a_square_for_the_others(tmp_path):
    shortest = load(tmp_path, size={"shortest_edge": 40})
    exact = load(tmp_path, size={"height": 40, "width": 40})
    assert load(tmp_path, size=40, crop_size=32) == shortest
    assert load(tmp_path, size=40, default_to_square=True) == exact
    assert load(tmp_path, size=40, image_processor_type="BitImageProcessor") == exact
    assert (shortest.resize, exact.resize) == ("shortest", "exact")


def test_the_nested_file_of_transformers_5_comes_first(tmp_path):
    expected = load(tmp_path, size=40)
    nested = {
        "image_processor": CLIP | {"size": 40},
        "processor_class": "CLIPProcessor",
    }
    load(tmp_path)
    load_open_clip(tmp_path)
    step = preprocess.load(write(tmp_path, "processor_config.json", nested))
    assert step == expected
    # Older ones hold no image processor, and then the other file counts.
    older = {"processor_class": "CLIPProcessor"}
    step = preprocess.load(write(tmp_path, "processor_config.json", older))
    assert step == load(tmp_path)


def test_open_clips_own_file(tmp_path):
    step = load_open_clip(tmp_path)
    assert step == replace(PROCESSORS["CLIP"], size=32, crop=32, centre="even")
    # The size that the network was built for, over the one beside the statistics.
    assert load_open_clip(tmp_path, size=[40, 40]) == step
    assert load_open_clip(tmp_path, image_size=None, size=[32, 32]) == step
    assert load_open_clip(tmp_path, image_size=None).size == 224
    squash = load_open_clip(tmp_path, resize_mode="squash", interpolation="bilinear")
    assert (squash.resize, squash.filter, squash.crop) == ("exact", "bilinear", None)
    longest = load_open_clip(tmp_path, resize_mode="longest", mean=[0.5, 0.5, 0.5])
    assert longest == replace(step, resize="longest", mean=(0.5, 0.5, 0.5))


def test_values_are_standardized_pixels(tmp_path):
    step = load(tmp_path, image_mean=[0.5, 0.25, 0.0], image_std=[0.5, 0.25, 1.0])
    out = step(Image.new("RGB", (32, 32), (255, 0, 51)))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[3, 4], [1, -1, 0.2], rtol=1e-6)


def test_scaling_and_standardisation_as_the_file_says(tmp_path):
    white = Image.new("RGB", (32, 32), "white")
    step = load(tmp_path, do_normalize=False)
    np.testing.assert_allclose(step(white), 1, rtol=1e-6)
    step = load(tmp_path, do_normalize=False, rescale_factor=1 / 127.5)
    np.testing.assert_allclose(step(white), 2, rtol=1e-6)
    step = load(tmp_path, do_normalize=False, do_rescale=False)
    np.testing.assert_array_equal(step(white), np.full((32, 32, 3), 255, np.float32))


def test_the_centre_is_cropped(tmp_path):
    image = Image.new("RGB", (96, 32), (0, 0, 0))
    image.paste((255, 255, 255), (32, 0, 64, 32))
    step = load(tmp_path, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    np.testing.assert_array_equal(step(image), np.ones((32, 32, 3), np.float32))


@pytest.mark.parametrize(
    ("centre", "width", "left"),
    [("floor", 5, 1), ("even", 5, 2), ("floor", 7, 2), ("even", 7, 2)],
)
def test_half_a_pixel_of_margin(centre, width, left):
    """torchvision rounds 1.5 and 2.5 both to 2; transformers takes 1 and 2."""
    step = Preprocess(
        resize="shortest", size=2, filter="bicubic", crop=2, centre=centre, **PLAIN
    )
    row = [10 * x for x in range(width)]
    for each in (step, replace(step, resize="square", crop=None)):
        out = levels(each, grey(row, row))[0, :, 0]
        np.testing.assert_allclose(out, row[left : left + 2], atol=1e-4)


def test_a_crop_larger_than_the_image_is_black_around(tmp_path):
    step = load(tmp_path, size={"shortest_edge": 20})
    out = levels(step, Image.new("RGB", (40, 40), "white"))
    np.testing.assert_allclose(out[6:26, 6:26], 255, atol=1e-3)
    out[6:26, 6:26] = 0
    np.testing.assert_allclose(out, 0, atol=1e-3)


def test_resizing_is_antialiased():
    """Halving four pixels, the triangle reaches three: 3/7, 3/7 and 1/7."""
    step = Preprocess(
        resize="exact", size=2, filter="bilinear", resample_dtype="float32", **PLAIN
    )
    image = grey(*([[7, 70, 140, 210]] * 2))
    left, right = (3 * 7 + 3 * 70 + 140) / 7, (70 + 3 * 140 + 3 * 210) / 7
    np.testing.assert_allclose(levels(step, image)[0, :, 0], [left, right], rtol=1e-6)


def test_whole_levels_or_fractions_of_them():
    """uint8 is rounded after each axis, and bicubic overshoot cut; float32 is not."""
    image = grey([0, 0, 255, 255], [0, 3, 0, 255])
    whole = Preprocess(resize="exact", size=7, filter="bicubic", **PLAIN)
    floats = levels(replace(whole, resample_dtype="float32"), image)
    whole = levels(whole, image)
    np.testing.assert_allclose(whole, whole.round(), atol=1e-4)
    assert whole.min() >= 0 and floats.min() < -1
    assert np.abs(floats - floats.round()).max() > 0.4


def test_an_image_of_one_pixel_and_a_thin_one():
    step = Preprocess(resize="longest", size=8, filter="bicubic", crop=8, **PLAIN)
    for size in ((1, 1), (99, 1), (1, 99)):
        assert step(Image.new("RGB", size)).shape == (8, 8, 3)


def test_the_papers_recipe_for_dinov3():
    """The centre square, then 224 pixels, from -1 to 1; not ImageNet's statistics."""
    step = RECIPES["dinov3-paper"]
    image = Image.new("RGB", (178, 218), "red")
    image.paste((255, 255, 255), (0, 20, 178, 198))
    np.testing.assert_array_equal(step(image), np.ones((224, 224, 3), np.float32))
    assert step(Image.new("RGB", (300, 200))).max() == -1


def test_other_modes_than_rgb_are_refused():
    for mode in ("L", "RGBA", "CMYK"):
        with pytest.raises(ValueError, match=f"mode '{mode}': convert it to RGB"):
            PROCESSORS["CLIP"](Image.new(mode, (9, 9)))


def test_its_json_is_all_of_it(tmp_path):
    step = load(tmp_path)
    raw = step.as_json()
    assert json.loads(json.dumps(raw)) == raw
    assert raw.keys() == {
        "resize", "size", "filter", "antialias", "resample_dtype", "crop", "centre",
        "rescale", "mean", "std",
    }  # fmt: skip
    statistics = {"mean": tuple(raw["mean"]), "std": tuple(raw["std"])}
    assert Preprocess(**(raw | statistics)) == step


def test_its_hash_is_stable_and_tells_every_step_apart():
    step = PROCESSORS["CLIP"]
    assert step.sha256 == "290cd65612121fe8"
    assert RECIPES["dinov3-paper"].sha256 == "5aee7cd8ace5b1d5"
    others = [
        replace(step, **change)
        for change in (
            {"resize": "longest"},
            {"size": 225},
            {"filter": "bilinear"},
            {"resample_dtype": "float32"},
            {"crop": 225},
            {"centre": "even"},
            {"rescale": 1 / 127.5},
            {"mean": (0.5, 0.5, 0.5)},
            {"std": (0.5, 0.5, 0.5)},
        )
    ]
    assert len({s.sha256 for s in (step, *others)}) == 10


def test_the_side_that_comes_out(tmp_path):
    assert load(tmp_path, size=40).side == 32
    assert PROCESSORS["ViT"].side == 224


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_processor_type", "SiglipImageProcessor"),
        ("do_resize", False),
        ("do_center_crop", False),
        ("do_pad", True),
        ("do_flip_channel_order", True),
        ("resample", 1),
        ("rescale_factor", 0),
        ("rescale_factor", "1/255"),
        ("crop_size", {"height": 32, "width": 48}),
        ("crop_size", {"shortest_edge": 32}),
        ("crop_size", 0),
        ("size", {"height": 32, "width": 48}),
        ("size", {"shortest_edge": 32, "longest_edge": 64}),
        ("size", {"max_height": 32, "max_width": 32}),
        ("size", "large"),
        ("size", -1),
        ("size", 31.5),
        ("image_mean", 0.5),
        ("image_mean", [0.5]),
        ("image_std", ["a", "b", "c"]),
        ("image_std", [0.5, 0.5, 0]),
    ],
)
def test_a_step_that_it_does_not_do_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError) as error:
        load(tmp_path, **{key: value})
    message = str(error.value)
    assert f"{PREPROCESSOR}: {key} = {value!r}" in message and "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "L"),
        ("fill_color", 255),
        ("resize_mode", "stretch"),
        ("interpolation", "lanczos"),
        ("mean", [0.5]),
        ("std", [0, 1, 1]),
    ],
)
def test_open_clips_other_steps_are_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError) as error:
        load_open_clip(tmp_path, **{key: value})
    assert f"{OPEN_CLIP}: {key} = {value!r}" in str(error.value)


def test_files_that_are_broken_or_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="preprocessor_config.json is missing"):
        preprocess.load(str(tmp_path))
    with pytest.raises(CheckpointError, match="image_size = .224, 240. is not supp"):
        load_open_clip(tmp_path, image_size=[224, 240])
    write(tmp_path, OPEN_CLIP, {"model_cfg": {"vision_cfg": "ViT-B-16"}})
    with pytest.raises(CheckpointError, match="vision_cfg = 'ViT-B-16' is not an obj"):
        preprocess.load(str(tmp_path))
    write(tmp_path, PREPROCESSOR, {"size": 224})
    with pytest.raises(CheckpointError, match="image_processor_type is missing"):
        preprocess.load(str(tmp_path))
    write(tmp_path, "processor_config.json", {"image_processor": ["CLIP"]})
    with pytest.raises(
        CheckpointError, match=r"image_processor = \['CLIP'\] is not an"
    ):
        preprocess.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"crop": None}, "resize = 'shortest' needs a crop"),
        ({"size": 0}, "size = 0, crop = 224: use 1 or more"),
        ({"crop": 0}, "size = 224, crop = 0: use 1 or more"),
        ({"antialias": False}, "antialias = False is not supported"),
        ({"std": (1.0, 0.0, 1.0)}, "use positive numbers"),
    ],
)
def test_a_preprocess_that_makes_no_sense(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(PROCESSORS["CLIP"], **change)
