"""CLIP's refusals: inputs of another size, configs of no network; and its dtypes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import arrays, copy, folder

from ports import clip
from ports.checkpoint import CheckpointError


@pytest.fixture(scope="module", params=["clip", "open_clip"])
def port(request):
    """Trained on images of 14 x 14 and texts of 8 tokens."""
    return clip.load(folder(request.param))


@pytest.mark.parametrize("size", [(13, 13), (16, 16), (14, 28), (28, 14)])
def test_an_image_of_another_size_is_refused_with_both_sizes(port, size):
    """13 x 13 too, which has as many patches: transformers refuses it."""
    pixels = jnp.zeros((1, *size, 3))
    words = f"images of {size[0]} x {size[1]} pixels, but this model takes 14 x 14"
    with pytest.raises(ValueError, match=words):
        port.apply(port.params, pixels, method="encode_image")
    with pytest.raises(ValueError, match=words):
        jax.jit(port.apply)(port.params, pixels, jnp.zeros((1, 8), jnp.int32))


@pytest.mark.parametrize("method", ["encode_text", "hidden_text"])
def test_a_text_may_be_shorter_than_the_longest_not_longer(port, method):
    def out(length):
        ids = jnp.zeros((1, length), jnp.int32)
        return jax.eval_shape(lambda i: port.apply(port.params, i, method=method), ids)

    assert out(8).shape[-1] == out(3).shape[-1]
    with pytest.raises(ValueError, match="texts of 9 tokens, .* takes at most 8"):
        out(9)


def test_what_follows_the_end_of_a_text_changes_nothing(port):
    """It is causal, so a text cut behind its end has the same feature."""
    apply = jax.jit(port.apply, static_argnames="method")
    ids = arrays("clip")["ids"][:1]  # two words, ended and padded
    long = apply(port.params, ids, method="encode_text")
    short = apply(port.params, ids[:, :4], method="encode_text")
    np.testing.assert_allclose(short, long, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("stored", [jnp.bfloat16, jnp.float32])
def test_every_site_computes_in_the_dtype_asked_for(dtype, stored):
    port = clip.load(folder("clip"), dtype=dtype, param_dtype=stored)
    taps = ("text.block.0", "text.norm", "vision.block.1", "vision.norm")
    g = arrays("clip")
    found = jax.eval_shape(
        lambda params: port.apply(params, g["pixels"], g["ids"], taps=taps), port.params
    )
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(dtype)}


def changed(tmp_path, tower, **values) -> str:
    path = copy("clip", tmp_path)
    file = tmp_path / "config.json"
    raw = json.loads(file.read_text())
    raw[tower].update(values)
    file.write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize(
    ("tower", "key", "value", "words"),
    [
        ("text_config", "num_attention_heads", 5, "hidden_size = 12 does not divide"),
        ("vision_config", "num_attention_heads", 3, "hidden_size = 16 does not divide"),
        ("vision_config", "image_size", [14, 28], r"image_size = \[14, 28\]"),
        ("vision_config", "patch_size", [4, 4], r"patch_size = \[4, 4\]"),
        ("text_config", "eos_token_id", [53, 52], r"eos_token_id = \[53, 52\]"),
        ("text_config", "hidden_act", "mish", "hidden_act = 'mish'"),
    ],
)
def test_a_config_of_no_network_is_named(tmp_path, tower, key, value, words):
    with pytest.raises(CheckpointError, match=f"config.json: {words}") as e:
        clip.load(changed(tmp_path, tower, **{key: value}))
    assert "\n" not in str(e.value)
