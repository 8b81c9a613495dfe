"""DINOv2 against transformers: parts to 1e-5, the whole to 2e-5."""

import json

import jax
import numpy as np
import pytest
from closeness import rel
from live import normal, saved, scattered, to_torch, torch
from safetensors.numpy import load_file
from vits import (
    SIZES,
    SMALL,
    Pair,
    bfloat16_error,
    last_hidden_state,
    part,
    same,
    saved_anew,
)

from ports import dinov2
from ports.checkpoint import CheckpointError
from ports.resample import cubic

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

VARIANTS = {
    "plain": ("Dinov2", dict(mlp_ratio=2)),
    "giant": (
        "Dinov2",
        dict(
            hidden_size=26,  # two thirds of three times that are no multiple of eight
            num_attention_heads=2,
            mlp_ratio=3,
            use_swiglu_ffn=True,
            hidden_act="mish",
            use_mask_token=False,
        ),
    ),
    "registers": ("Dinov2WithRegisters", dict(qkv_bias=False, hidden_act="relu")),
    "giant, registers": (
        "Dinov2WithRegisters",
        dict(use_swiglu_ffn=True, num_register_tokens=2),
    ),
    "no registers of its class": (
        "Dinov2WithRegisters",
        dict(num_register_tokens=0, mlp_ratio=1, drop_path_rate=0.5),
    ),
}


def torch_model(variant, head="Model"):
    family, changes = VARIANTS[variant]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL | changes)
    return scattered(getattr(transformers, family + head)(config))


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    model = torch_model(request.param)
    return Pair(model, folder, dinov2.load(saved(model, folder)))


@pytest.mark.parametrize("size", SIZES)
def test_features(pair, size):
    pixels = normal(2, *size, 3)
    expected = pair.model(to_torch(pixels))
    got = jax.jit(pair.port.apply)(pair.port.params, pixels)
    (h, w), d = (n // 4 for n in size), pair.model.config.hidden_size
    assert got.patches.shape == (2, h, w, d)
    registers = getattr(pair.model.config, "num_register_tokens", 0)
    assert got.registers.shape == (2, registers, d)
    assert rel(last_hidden_state(got), expected.last_hidden_state) <= 2e-5
    assert rel(got.cls, expected.pooler_output) <= 2e-5


def test_block(pair):
    x = normal(2, 7, pair.model.config.hidden_size)
    got = part(
        dinov2.DinoV2, pair.port, lambda net, x: net.layer[1](x, net.rotation(2, 3)), x
    )
    assert rel(got, pair.model.encoder.layer[1](to_torch(x))) <= 1e-5


def embedded(pair, size):
    """The tokens before the first block: ours and torch's."""
    pixels = normal(2, *size, 3)
    got = part(dinov2.DinoV2, pair.port, lambda net, x: net.embeddings(x)[0], pixels)
    return got, pair.model.embeddings(to_torch(pixels))


def test_embeddings(pair):
    assert rel(*embedded(pair, (28, 12))) <= 1e-5


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_are_resampled_as_torch_does(antialias):
    """The classes differ: with registers, torch's antialiased kernel."""
    for n in (1, 2, 3, 4, 7, 16, 37):
        for m in (1, 2, 3, 5, 16, 23, 37, 74):
            expected = torch.nn.functional.interpolate(
                torch.eye(n)[None, None],
                size=(m, n),
                mode="bicubic",
                align_corners=False,
                antialias=antialias,
            )
            np.testing.assert_allclose(
                cubic(n, m, antialias), expected[0, 0], atol=2e-6 * max(1, m / n)
            )


@pytest.fixture(scope="module")
def giant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    model = torch_model("giant, registers")
    return Pair(model, folder, dinov2.load(saved(model, folder)))


def test_with_as_many_patches_as_positions_these_stay_as_they_are(giant):
    assert rel(*embedded(giant, (17, 19))) <= 1e-5


def test_the_embedding_is_the_class_token(giant):
    pixels = normal(2, 16, 16, 3)
    encode = jax.jit(giant.port.apply, static_argnames="method")
    got = encode(giant.port.params, pixels, method="encode_image")
    assert rel(got, giant.model(to_torch(pixels)).pooler_output) <= 2e-5


def test_of_a_classifier_the_trunk_is_loaded(tmp_path, giant):
    """Its files have a prefix; the head is left."""
    model = torch_model("giant, registers", "ForImageClassification")
    model.dinov2_with_registers.load_state_dict(giant.model.state_dict())
    same(dinov2.load(saved(model, tmp_path)), giant.port)


@pytest.mark.parametrize("variant", ["plain", "giant, registers"])
def test_the_names_of_published_files_and_of_transformers_5(tmp_path, variant):
    model = torch_model(variant)
    published = dinov2.load(saved(model, tmp_path / "published"))
    anew = dinov2.load(saved_anew(model, tmp_path / "anew"))
    same(published, anew)
    names = [
        set(load_file(tmp_path / which / "model.safetensors"))
        for which in ("published", "anew")
    ]
    layer = "encoder.layer.0"
    assert f"{layer}.attention.attention.query.weight" in names[0]
    assert f"{layer}.attention.q_proj.weight" in names[1]
    if variant != "plain":  # the gate and its values as one matrix, and as two
        assert f"{layer}.mlp.weights_in.weight" in names[0]
        assert f"{layer}.mlp.gate_proj.weight" in names[1]


def test_bfloat16_stays_near_float32(giant):
    """Measured 0.8e-2 of the largest value (one rounding is 3.9e-3)."""
    assert bfloat16_error(dinov2.load, giant) < 1.5e-2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"use_swiglu_ffn": False, "hidden_act": "mish"}, "hidden_act = 'mish'"),
        ({"patch_size": [4, 8]}, r"patch_size = \[4, 8\] is not supported"),
        ({"image_size": [16, 8]}, r"image_size = \[16, 8\] is not supported"),
        ({"num_attention_heads": 5}, "hidden_size 36 / num_attention_heads 5"),
        ({"architectures": ["ViTModel"]}, "holds a ViTModel, not a Dinov2Model"),
        ({"architectures": ["Dinov2Model"]}, "register_tokens: unexpected tensor"),
        ({"num_register_tokens": 5}, r"\(1, 2, 36\), expected \(1, 5, 36\)"),
        ({"use_swiglu_ffn": False}, "mlp.weights_in.bias: unexpected tensor"),
        ({"image_size": 20}, r"\(1, 17, 36\), expected \(1, 26, 36\)"),
    ],
)
def test_what_does_not_fit_is_refused(giant, tmp_path, changes, message):
    raw = json.loads((giant.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    weights = (giant.folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=message):
        dinov2.load(str(tmp_path))


@pytest.mark.parametrize("family", ["Dinov2", "Dinov2WithRegisters"])
def test_a_config_that_names_only_what_differs_has_transformers_defaults(family):
    ours = dinov2.config_from_json({"architectures": [f"{family}Model"]})
    theirs = getattr(transformers, f"{family}Config")()
    for name in ours.__dataclass_fields__:
        assert getattr(ours, name) == getattr(theirs, name, None), name
