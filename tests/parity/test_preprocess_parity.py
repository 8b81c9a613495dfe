"""Live against transformers' Pillow processors and torch's own resizing.

Their torchvision-backed processors and open_clip need torchvision, which the ``test``
extra does not have: what those two compute is in the goldens of preprocessing.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live import saved, scattered, to_torch, torch
from PIL import Image

from ports import preprocess
from ports.preprocess import PROCESSORS, Preprocess

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.torch

GOLDENS = Path(__file__).resolve().parent.parent / "ports/goldens/preprocess"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"height": 32, "width": 32}
SIZES = [
    (32, 32), (64, 48), (48, 64), (71, 53), (53, 71), (33, 200), (20, 27), (5, 3),
]  # fmt: skip
LEVEL = 1e-3  # of 255: no more than float32's rounding


def picture(width, height):
    """Smooth, with one noisy channel: resampling and cropping both show."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 256, (height, width))
    pixels = [255 * x / width, 127 * (1 + np.sin(y / 5)), noise]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


@pytest.fixture
def width_first(monkeypatch):
    """Pillow as it was before 13, which resizes tall images height first."""
    resize = Image.Image.resize

    def in_order(self, size, resample=None, box=None, reducing_gap=None):
        assert box is None and reducing_gap is None
        return resize(resize(self, (size[0], self.height), resample), size, resample)

    monkeypatch.setattr(Image.Image, "resize", in_order)


def apart(step, got, expected):
    """The worst difference before rescaling and standardisation: in levels of 255."""
    assert got.dtype == np.float32 and got.shape == expected.shape
    return (np.abs(np.asarray(step.std) * (got - expected)) / step.rescale).max()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("CLIP", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
        ("CLIP", {"size": 41, "crop_size": 32}),
        ("CLIP", {"size": 20, "crop_size": 33}),  # black is put around
        ("CLIP", {"size": SQUARE, "resample": 2, "crop_size": 27}),
        ("CLIP", {"size": 40, "crop_size": 33, "do_normalize": False}),
        ("Bit", {"size": {"shortest_edge": 37}, "crop_size": SQUARE, **IMAGENET}),
        ("ViT", {"size": 32, "rescale_factor": 1 / 127.5}),
        ("ViT", {"size": SQUARE, "resample": 3, **IMAGENET}),
        ("ViT", {"size": 40, "do_center_crop": True, "crop_size": 32}),
        ("ViT", {"size": 32, "do_rescale": False, "image_mean": [99.0, 98.0, 97.0]}),
    ],
)
def test_transformers_processors(tmp_path, width_first, name, raw, width, height):
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**raw)
    step = preprocess.load(saved(processor, tmp_path))
    image = picture(width, height)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    assert apart(step, step(image), expected.transpose(1, 2, 0)) < LEVEL


@pytest.mark.parametrize("name", ["CLIP", "Bit", "ViT"])
def test_the_defaults_are_theirs(tmp_path, name):
    processor = getattr(transformers, f"{name}ImageProcessorPil")()
    assert preprocess.load(saved(processor, tmp_path)) == PROCESSORS[name]


def test_the_nested_file_of_a_whole_processor(tmp_path):
    image = transformers.CLIPImageProcessorPil(size=40, crop_size=33)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    tokens = transformers.CLIPTokenizer(vocab=vocabulary, merges=[])
    saved(transformers.CLIPProcessor(image, tokens), tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    step = preprocess.load(str(tmp_path))
    assert step == replace(PROCESSORS["CLIP"], size=40, crop=33)


def torch_resized(image, side, mode):
    """What torchvision calls, for tensors of bytes and of floats."""
    pixels = to_torch(np.array(image)[None])
    options = {"size": (side, side), "mode": mode, "antialias": True}
    whole = torch.nn.functional.interpolate(pixels, **options)
    floats = torch.nn.functional.interpolate(pixels / 255, **options)
    return [x[0].permute(1, 2, 0).double().numpy() for x in (whole, 255 * floats)]


@pytest.mark.parametrize(("width", "height"), [*SIZES, (178, 218), (640, 37)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_torchs_antialiased_resizing(mode, width, height):
    """Floats agree to 1/500 of a level, bytes to one: torch's weights have 16 bits."""
    image = picture(width, height)
    whole, floats = torch_resized(image, 56, mode)
    step = Preprocess(
        resize="exact", size=56, filter=mode, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    got = replace(step, resample_dtype="float32")(image)
    assert np.abs(255 * got - floats).max() < 2e-3
    off = np.abs(255 * step(image) - whole)
    assert off.max() < 1 + LEVEL and off.mean() < 0.05


def test_dinov3(tmp_path):
    """Rescaled, resized as floats, standardised, in that order."""
    raw = {"image_processor_type": "DINOv3ViTImageProcessorFast", **IMAGENET}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(raw))
    step, image = preprocess.load(str(tmp_path)), picture(178, 218)
    _, floats = torch_resized(image, 224, "bilinear")
    mean, std = IMAGENET["image_mean"], IMAGENET["image_std"]
    assert apart(step, step(image), (floats / 255 - mean) / std) < 5e-3


def vision(name):
    """A random tower for the goldens' images of 24 pixels, pixels -> embedding."""
    torch.manual_seed(0)
    size = {"image_size": 24, "patch_size": 4, "hidden_size": 32}
    layers = {"num_hidden_layers": 3, "num_attention_heads": 4}
    if name == "clip":
        config = transformers.CLIPVisionConfig(**size, **layers, intermediate_size=64)
        model = scattered(transformers.CLIPVisionModelWithProjection(config))
        return lambda x: model(x).image_embeds
    if name == "dinov2":
        model = scattered(
            transformers.Dinov2Model(transformers.Dinov2Config(**size, **layers))
        )
    else:
        config = transformers.DINOv3ViTConfig(**size, **layers, intermediate_size=64)
        model = scattered(transformers.DINOv3ViTModel(config))
    return lambda x: model(x).pooler_output


@pytest.mark.parametrize("case", ["clip", "dinov2", "dinov3"])
def test_no_embedding_notices(case):
    """Through random towers: torchvision-backed pixels and ours, for every golden."""
    step = preprocess.load(str(GOLDENS / case))
    with np.load(GOLDENS / case / "golden.npz") as file:
        goldens = dict(file)
    with np.load(GOLDENS / "golden.npz") as file:
        images = dict(file)
    unit = 255 if goldens["wide"].dtype == np.uint8 else 1
    theirs = np.stack([goldens[name] / unit for name in images])
    theirs = ((theirs - step.mean) / step.std).astype(np.float32)
    ours = np.stack([step(Image.fromarray(pixels)) for pixels in images.values()])
    embed = vision(case)
    a, b = (embed(to_torch(x)).double() for x in (ours, theirs))
    assert torch.nn.functional.cosine_similarity(a, b).min() > 1 - 1e-5
