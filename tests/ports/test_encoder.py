"""Any encoder: the checkpoint says which family it is and how it wants its pixels."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from closeness import rel
from golden import arrays, copy, folder
from PIL import Image

from ports import clip, dino, dinov2, dinov3, encoder
from ports.checkpoint import CheckpointError, sha256

CASES = {"clip": clip, "dino": dino, "dinov2": dinov2, "dinov3": dinov3}
PROCESSOR = {
    "clip": {"image_processor_type": "CLIPImageProcessor", "crop_size": 14, "size": 14},
    "dino": {"image_processor_type": "ViTImageProcessor", "size": 12},
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "crop_size": 14,
        "size": 16,
    },
    "dinov3": {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": 16},
}


def published(case: str, to: Path, **changes) -> str:
    """A golden checkpoint with a preprocessor_config.json."""
    copy(case, to)
    raw = PROCESSOR[case] | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | changes
    (to / "preprocessor_config.json").write_text(json.dumps(raw))
    return str(to)


@pytest.mark.parametrize("case", CASES)
def test_the_family_is_the_one_that_the_config_names(tmp_path, case):
    loaded = encoder.load(published(case, tmp_path))
    alone = CASES[case].load(folder(case))
    jax.tree.map(np.testing.assert_array_equal, loaded.port.params, alone.params)
    assert loaded.weights_sha256 == sha256([Path(folder(case))])

    image = Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    pixels = loaded.preprocess(image)[None]
    apply = jax.jit(alone.apply, static_argnames="method")
    features = apply(alone.params, pixels, method="encode_image")
    assert features.shape == (1, loaded.dim)


def test_open_clips_own_layout_is_a_clip(tmp_path):
    path = Path(copy("open_clip", tmp_path))
    raw = json.loads((path / "open_clip_config.json").read_text())
    raw["preprocess_cfg"] = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (path / "open_clip_config.json").write_text(json.dumps(raw))
    loaded = encoder.load(str(path))
    alone = clip.load(folder("open_clip"))
    jax.tree.map(np.testing.assert_array_equal, loaded.port.params, alone.params)
    golden = arrays("open_clip")
    image = loaded.port.apply(loaded.port.params, golden["pixels"], method="encode_image")  # fmt: skip
    assert rel(image, golden["image"]) <= 2e-5
    assert loaded.output == "projected image feature, not normalised"


def test_a_recipe_replaces_the_checkpoints_own_preprocessing(tmp_path):
    path = published("dinov3", tmp_path)
    own, paper = encoder.load(path), encoder.load(path, recipe="dinov3-paper")
    assert own.preprocess.side == 16 and paper.preprocess.side == 224
    assert own.preprocess.sha256 != paper.preprocess.sha256
    white = Image.new("RGB", (178, 218), "white")
    assert paper.preprocess(white).max() == 1
    with pytest.raises(CheckpointError, match="no preprocessing recipe 'papr'"):
        encoder.load(path, recipe="papr")


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match="UNet2DConditionModel, which is no image"
    ):
        encoder.load(copy("unet_sd1", tmp_path / "unet"))
    with pytest.raises(CheckpointError, match="has no image tower with a projection"):
        encoder.load(copy("clip_text", tmp_path / "text"))
    path = published("clip", tmp_path / "clip", crop_size=10, size=10)
    with pytest.raises(CheckpointError, match="images of 10 pixels; .* takes 14 x 14"):
        encoder.load(path)
