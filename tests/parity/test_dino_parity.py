"""DINO against transformers' ViTModel: parts to 1e-5, the whole to 2e-5."""

import json

import jax
import pytest
from closeness import rel
from live import normal, saved, scattered, to_torch, torch
from safetensors.numpy import load_file, save_file
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

from ports import dino
from ports.checkpoint import CheckpointError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

VARIANTS = {
    "as published": {},
    "other": dict(qkv_bias=False, hidden_act="gelu_new", image_size=[16, 16]),
}


def torch_model(changes, *, kind="ViTModel", **kwargs):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL | dict(intermediate_size=40) | changes)
    return scattered(getattr(transformers, kind)(config, **kwargs))


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    model = torch_model(VARIANTS[request.param], add_pooling_layer=False)
    return Pair(model, folder, dino.load(saved(model, folder)))


@pytest.mark.parametrize("size", SIZES)
def test_features(pair, size):
    pixels = normal(2, *size, 3)
    expected = pair.model(to_torch(pixels), interpolate_pos_encoding=True)
    got = jax.jit(pair.port.apply)(pair.port.params, pixels)
    h, w = (n // 4 for n in size)
    assert got.patches.shape == (2, h, w, 36) and got.registers.shape == (2, 0, 36)
    assert rel(last_hidden_state(got), expected.last_hidden_state) <= 2e-5


def test_block(pair):
    x = normal(2, 7, 36)
    got = part(
        dino.Dino, pair.port, lambda net, x: net.layer[1](x, net.rotation(2, 3)), x
    )
    assert rel(got, pair.model.layers[1](to_torch(x))) <= 1e-5


def test_embeddings(pair):
    pixels = normal(2, 28, 12, 3)
    got = part(dino.Dino, pair.port, lambda net, x: net.embeddings(x)[0], pixels)
    expected = pair.model.embeddings(to_torch(pixels), interpolate_pos_encoding=True)
    assert rel(got, expected) <= 1e-5


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    model = torch_model({}, add_pooling_layer=False)
    return Pair(model, folder, dino.load(saved(model, folder)))


def test_the_embedding_is_the_class_token(published):
    pixels = normal(2, 16, 16, 3)
    encode = jax.jit(published.port.apply, static_argnames="method")
    got = encode(published.port.params, pixels, method="encode_image")
    expected = published.model(to_torch(pixels)).last_hidden_state[:, 0]
    assert rel(got, expected) <= 2e-5


def test_a_pooler_and_a_mask_token_change_nothing(tmp_path, published):
    model = torch_model({}, add_pooling_layer=True, use_mask_token=True)
    missing, _ = model.load_state_dict(published.model.state_dict(), strict=False)
    assert len(missing) == 3
    same(dino.load(saved(model, tmp_path)), published.port)


def test_of_a_classifier_the_trunk_is_loaded(tmp_path, published):
    """Its files have a prefix, which some trunks keep; the head is left."""
    model = torch_model({}, kind="ViTForImageClassification")
    model.vit.load_state_dict(published.model.state_dict())
    same(dino.load(saved(model, tmp_path / "classifier")), published.port)

    weights = load_file(tmp_path / "classifier" / "model.safetensors")
    trunk = {k: v for k, v in weights.items() if k.startswith("vit.")}
    assert len(trunk) == len(weights) - 2
    (tmp_path / "trunk").mkdir()
    save_file(trunk, tmp_path / "trunk" / "model.safetensors")
    config = (published.folder / "config.json").read_text()
    (tmp_path / "trunk" / "config.json").write_text(config)
    same(dino.load(str(tmp_path / "trunk")), published.port)


def test_the_names_of_published_files_and_of_transformers_5(tmp_path, published):
    same(dino.load(saved_anew(published.model, tmp_path)), published.port)
    old = set(load_file(published.folder / "model.safetensors"))
    new = set(load_file(tmp_path / "model.safetensors"))
    assert "encoder.layer.0.attention.attention.query.weight" in old
    assert "layers.0.attention.q_proj.weight" in new


def test_bfloat16_stays_near_float32(published):
    """Measured 0.7e-2 of the largest value (one rounding is 3.9e-3)."""
    assert bfloat16_error(dino.load, published) < 1.5e-2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_act": "mish"}, "hidden_act = 'mish' is not supported"),
        ({"patch_size": [4, 8]}, r"patch_size = \[4, 8\] is not supported"),
        ({"image_size": [16, 8]}, r"image_size = \[16, 8\] is not supported"),
        ({"num_attention_heads": 5}, "hidden_size 36 / num_attention_heads 5"),
        ({"architectures": ["DeiTModel"]}, "holds a DeiTModel, not a ViTModel"),
        ({"qkv_bias": False}, "query.bias: unexpected tensor"),
    ],
)
def test_what_does_not_fit_is_refused(published, tmp_path, changes, message):
    raw = json.loads((published.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    weights = (published.folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=message):
        dino.load(str(tmp_path))


def test_a_config_that_names_only_what_differs_has_transformers_defaults():
    ours, theirs = dino.Config(), transformers.ViTConfig()
    for name in ours.__dataclass_fields__:
        assert getattr(ours, name) == getattr(theirs, name), name
