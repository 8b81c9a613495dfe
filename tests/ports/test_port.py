"""A port: parameters as a plain dict, apply as a pure function of them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import arrays, folder

from ports import clip, vae
from ports.port import define, init

sys.path.insert(0, str(Path(__file__).parents[2]))  # scripts/ is no installed package

TEXT = clip.Config(
    text=clip.TextConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=5,
        eos_token_id=19,
    ),
    text_projection=6,
)
IDS = jnp.array([[3, 19, 19, 19, 19], [3, 4, 5, 19, 19]])


def paths(tree):
    return [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]  # fmt: skip


def test_define_gives_the_shapes_that_init_and_load_fill():
    shapes, _ = define(clip.Clip, TEXT)
    port = init(clip.Clip, TEXT, jax.random.key(0))
    assert paths(shapes) == paths(port.params)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, port.params)  # fmt: skip

    loaded = clip.load(folder("clip"))
    shapes, _ = define(clip.Clip, loaded.config)
    assert paths(shapes) == paths(loaded.params)


def test_parameters_are_a_plain_nested_dict_of_arrays():
    def check(node):
        assert type(node) is dict or isinstance(node, jax.Array)
        for child in node.values() if type(node) is dict else ():
            check(child)

    check(init(clip.Clip, TEXT, jax.random.key(0)).params)
    check(clip.load(folder("clip")).params)


def test_init_depends_on_the_key_alone():
    one, same, other = (init(clip.Clip, TEXT, jax.random.key(i)) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one.params, same.params)
    weight = "text_projection"
    assert rel(one.params[weight]["weight"], other.params[weight]["weight"]) > 0.1


def test_apply_is_pure_and_differentiable():
    port = init(clip.Clip, TEXT, jax.random.key(0))
    before = jax.tree.map(np.asarray, port.params)

    def loss(params):
        return jnp.square(port.apply(params, IDS, method="encode_text")).sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(port.params)
    assert value > 0 and paths(grads) == paths(port.params)
    assert min(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) >= 0
    assert float(jnp.abs(grads["text_projection"]["weight"]).max()) > 0
    jax.tree.map(np.testing.assert_array_equal, port.params, before)
    # Scaling an argument is seen: nothing was remembered.
    twice = jax.tree.map(lambda x: x, port.params)
    twice["text_projection"] = {"weight": 2 * port.params["text_projection"]["weight"]}
    assert rel(loss(twice), 4 * value) < 1e-6


def test_apply_takes_numpy_and_casts_floats_only():
    port = vae.load(folder("vae"), dtype=jnp.bfloat16)
    images = arrays("vae")["images"]
    mean = jax.eval_shape(lambda p: port.apply(p, images, method="encode"), port.params)
    assert mean.dtype == jnp.bfloat16
    text = init(clip.Clip, TEXT, jax.random.key(0))
    got = text.apply(text.params, np.asarray(IDS), method="encode_text")
    assert rel(got, text.apply(text.params, IDS, method="encode_text")) == 0


def test_a_method_that_the_network_lacks_is_an_error():
    port = init(clip.Clip, TEXT, jax.random.key(0))
    with pytest.raises(AttributeError, match="encode_sound"):
        port.apply(port.params, IDS, method="encode_sound")


def test_what_the_miniature_writes_loads_as_its_rounded_parameters(tmp_path):
    from scripts.miniature import export

    config = vae.Config(block_out_channels=(8,), norm_num_groups=4)
    shapes, _ = define(vae.AutoencoderKL, config)
    rng = np.random.default_rng(0)
    trained = jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)
    export.diffusers_model(tmp_path, "AutoencoderKL", config, trained)
    loaded = vae.load(str(tmp_path))
    assert loaded.config == config
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, np.float16(b)),
        loaded.params,
        trained,
    )
