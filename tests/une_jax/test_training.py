"""What trains the miniature: files that the ports read back, runs that go on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from ports import clip, dinov3, encoder, unet
from scripts.miniature import dino, export, loop

CLIP = clip.Config(
    text=tiny_models.TEXT,
    vision=tiny_models.VISION,
    text_projection=tiny_models.TEXT.projection_dim,
    visual_projection=tiny_models.VISION.projection_dim,
    logit_scale=True,
)


def same(loaded, params):
    """Every tensor came back, at its place, in half precision."""
    halves = jax.tree.map(lambda x: np.float32(np.float16(x)), params)
    assert jax.tree.structure(loaded) == jax.tree.structure(halves)
    jax.tree.map(np.testing.assert_array_equal, loaded, halves)


@pytest.mark.parametrize("guidance", (None, 8))
@pytest.mark.parametrize("linear", (False, True))
def test_a_unet_comes_back(tmp_path, linear, guidance):
    config = dataclasses.replace(
        tiny_models.UNET, use_linear_projection=linear, time_cond_proj_dim=guidance
    )
    params = tiny_models.random_params(unet.UNet, config, 0)
    export.diffusers_model(tmp_path, "UNet2DConditionModel", config, params)
    again = unet.load(str(tmp_path))
    assert again.config == config
    same(again.params, params)


@pytest.mark.parametrize(
    ("write", "act"),
    ((export.clip_model, "quick_gelu"), (export.open_clip_model, "gelu")),
)
def test_a_clip_comes_back(tmp_path, write, act):
    text, vision = (
        dataclasses.replace(tower, hidden_act=act) for tower in (CLIP.text, CLIP.vision)
    )
    config = dataclasses.replace(CLIP, text=text, vision=vision)
    params = tiny_models.random_params(clip.Clip, config, 0)
    write(tmp_path, config, params)
    again = clip.load(str(tmp_path))
    assert again.config.text.hidden_act == again.config.vision.hidden_act == act
    same(again.params, params)


def test_a_text_encoder_keeps_the_layers_that_are_asked_for(tmp_path):
    two = dataclasses.replace(tiny_models.TEXT, num_hidden_layers=2)
    params = tiny_models.random_params(clip.Clip, clip.Config(text=two), 0)
    export.clip_text_model(tmp_path, tiny_models.TEXT, params)
    again = clip.load(str(tmp_path))
    kept, layers = (
        p["text_model"]["encoder"]["layers"] for p in (again.params, params)
    )
    same(kept, {0: layers[0]})


def test_a_dinov3_comes_back(tmp_path):
    config = dataclasses.replace(
        dino.CONFIG, hidden_size=16, intermediate_size=32, num_hidden_layers=1
    )
    params = tiny_models.random_params(dinov3.DinoV3, config, 0)
    raw = {"architectures": ["DINOv3ViTModel"], "model_type": "dinov3_vit"}
    export.transformers_model(tmp_path, raw | dataclasses.asdict(config), params)
    export.write_json(tmp_path / "preprocessor_config.json", dino.PREPROCESSOR)
    loaded = encoder.load(str(tmp_path))
    assert loaded.port.config == config and loaded.dim == 16
    same(loaded.port.params, params)


def test_json_ends_in_a_newline_and_makes_its_folder(tmp_path):
    export.write_json(tmp_path / "a/b.json", {"x": 1})
    text = (tmp_path / "a/b.json").read_text()
    assert json.loads(text) == {"x": 1} and text.endswith("}\n")


def test_a_killed_run_goes_on_to_the_same_end(tmp_path, capsys):
    target = jnp.array([1.0, -2.0])

    def loss(params, average, batch, key):
        del average
        jitter = 0.01 * jax.random.normal(key, (2,))
        value = jnp.sum((params["w"] + jitter - batch) ** 2)
        return value, {"loss": value}

    def draw(key):
        return target + 0.1 * jax.random.normal(key, (2,))

    def run(folder, batch_fn):
        settings = dict(steps=60, rate=0.1, save_every=10)
        start = {"w": jnp.zeros(2)}
        return loop.train(folder, start, loss, batch_fn, **settings)["w"]

    # optax raises floats to integer powers.
    with jax.numpy_dtype_promotion("standard"):
        straight = run(tmp_path / "straight", draw)
    calls = 0

    def killed(key):
        nonlocal calls
        calls += 1
        if calls == 25:
            raise KeyboardInterrupt
        return draw(key)

    with jax.numpy_dtype_promotion("standard"):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", killed)
        calls = -1000
        again = run(tmp_path / "killed", killed)
    assert calls == -1000 + 40  # from step 20, the last that was saved
    np.testing.assert_array_equal(again, straight)
    assert "step 60/60  loss" in capsys.readouterr().out
    assert float(jnp.abs(straight - target).max()) < 0.3
