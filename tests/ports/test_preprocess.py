"""Image preprocessing: transformers' own, step by step, or a refusal."""

import json

import numpy as np
import pytest
from PIL import Image

from ports import preprocess
from ports.checkpoint import CheckpointError

CLIP = {
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


def load(folder, **changes):
    raw = {k: v for k, v in (CLIP | changes).items() if v is not ...}
    (folder / "preprocessor_config.json").write_text(json.dumps(raw))
    return preprocess.load(str(folder))


def picture(width, height):
    """Smooth, with one noisy channel: resampling and cropping both show."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 256, (height, width))
    pixels = [255 * x / width, 127 * (1 + np.sin(y / 5)), noise]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("width", "height"),
    [(32, 32), (64, 48), (48, 64), (71, 53), (53, 71), (33, 200), (20, 27)],
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": {"shortest_edge": 41}},  # a margin is cut away
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 33}},
        {"size": {"shortest_edge": 20}},  # black is put around
        {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ],
)
def test_it_is_transformers_image_processor(tmp_path, width, height, changes):
    from transformers import CLIPImageProcessorPil  # the backend without torchvision

    image, raw = picture(width, height), CLIP | changes
    expected = CLIPImageProcessorPil(**raw)(image, return_tensors="np")["pixel_values"]
    got = load(tmp_path, **changes)(image)
    assert got.dtype == np.float32
    assert got.shape == expected[0].transpose(1, 2, 0).shape
    # The same pixels: on their scale of 255, no difference but float32's rounding.
    levels = 255 * np.asarray(raw["image_std"]) * (got - expected[0].transpose(1, 2, 0))
    assert np.abs(levels).max() < 1e-3


def test_values_are_standardized_pixels(tmp_path):
    step = load(tmp_path, image_mean=[0.5, 0.25, 0.0], image_std=[0.5, 0.25, 1.0])
    out = step(Image.new("RGB", (32, 32), (255, 0, 51)))
    np.testing.assert_allclose(out[3, 4], [1, -1, 0.2], rtol=1e-6)


def test_the_centre_is_cropped(tmp_path):
    image = Image.new("RGB", (96, 32), (0, 0, 0))
    image.paste((255, 255, 255), (32, 0, 64, 32))
    step = load(tmp_path, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    np.testing.assert_array_equal(step(image), np.ones((32, 32, 3), np.float32))


def test_sizes_of_older_files_are_plain_numbers(tmp_path):
    assert load(tmp_path, size=40, crop_size=32) == load(
        tmp_path, size={"shortest_edge": 40}
    )


def test_clips_own_defaults_where_a_file_is_silent(tmp_path):
    silent = dict.fromkeys(("size", "crop_size", "resample", "do_resize"), ...)
    step = load(tmp_path, **silent)
    assert (step.resize, step.crop, step.resample) == (224, 224, 3)


def test_its_json_is_itself(tmp_path):
    step = load(tmp_path)
    raw = step.as_json()
    assert json.loads(json.dumps(raw)) == raw
    assert raw["resize"] == 32 and raw["mean"] == CLIP["image_mean"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_resize", False),
        ("do_center_crop", False),
        ("do_rescale", False),
        ("do_normalize", False),
        ("rescale_factor", 1 / 127.5),
        ("crop_size", {"height": 32, "width": 48}),
        ("size", {"height": 32, "width": 32}),
    ],
)
def test_a_step_that_it_does_not_do_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=key):
        load(tmp_path, **{key: value})


@pytest.mark.parametrize("key", ["image_mean", "image_std"])
@pytest.mark.parametrize("value", [..., 0.5, [0.5], ["a", "b", "c"]])
def test_a_missing_or_broken_statistic_is_named(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=f"{key} must hold three numbers"):
        load(tmp_path, **{key: value})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="preprocessor_config.json is missing"):
        preprocess.load(str(tmp_path))
