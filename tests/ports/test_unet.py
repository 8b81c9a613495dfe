"""The UNet's config and its condition: what is refused, and what is broadcast."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import folder

from ports import unet
from ports.checkpoint import CheckpointError
from ports.conditioning import Condition, guidance_embedding, sinusoids

RAW = json.loads((Path(folder("unet_sd1")) / "config.json").read_text())
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 30,
}


def config(**changes):
    return unet.config_from_json(RAW | changes)


def test_a_published_config_is_read():
    assert config().block_out_channels == (8, 16)
    assert config(transformer_layers_per_block=[1, 2]).depth(1) == 2
    assert config(attention_head_dim=[1, 4]).heads(1) == 4
    assert config(num_attention_heads=4).heads(0) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_head_dim": [1, 2, 4]}, "attention_head_dim has 3 entries for 2"),
        ({"transformer_layers_per_block": [1]}, "has 1 entries for 2 levels"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types has 1 entries"),
        ({"layers_per_block": [1, 2]}, r"layers_per_block = \[1, 2\] is not supported"),
        ({"cross_attention_dim": [8, 8]}, r"cross_attention_dim = \[8, 8\] is not"),
        (XL | {"addition_time_embed_dim": None}, "needs addition_time_embed_dim"),
        ({"resnet_skip_time_act": True}, "resnet_skip_time_act = True"),
        ({"time_embedding_dim": 99}, "time_embedding_dim = 99"),
        ({"class_embeddings_concat": True}, "class_embeddings_concat = True"),
    ],
)
def test_a_config_of_another_network_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        config(**changes)


def test_a_condition_must_be_what_the_network_takes():
    plain, lcm, xl = config(), config(time_cond_proj_dim=8), config(**XL)
    context, one = jnp.zeros((1, 5, 12)), jnp.ones(1)
    pooled, sizes = jnp.zeros((1, 6)), jnp.zeros((1, 6))
    assert unet.checked(plain, context).guidance_scale is None
    assert unet.checked(lcm, Condition(context, None)).guidance_scale is None
    unet.checked(lcm, Condition(context, one))
    unet.checked(xl, Condition(context, None, pooled, sizes))
    for network, cond, message in (
        (lcm, context, "embeds a guidance scale"),
        (plain, Condition(context, one), "embeds no guidance scale"),
        (plain, Condition(context, None, pooled, sizes), r"takes no Condition\.pooled"),
        (xl, context, r"needs Condition\.pooled"),
        (xl, Condition(context, None, pooled), r"needs Condition\.time_ids"),
    ):
        with pytest.raises(ValueError, match=message):
            unet.checked(network, cond)


def test_sinusoids_start_with_the_fastest_wave():
    t = jnp.asarray([0.0, 1.0, 500.0])
    y = sinusoids(t, 6, cosine_first=True, shift=0)
    waves = np.float64(t)[:, None] * 10000.0 ** (-np.arange(3) / 3)
    assert rel(y, np.concatenate([np.cos(waves), np.sin(waves)], 1)) < 1e-4


def test_no_guidance_is_not_no_embedding():
    """At scale 1 the sines are 0 and the cosines 1."""
    assert np.array(guidance_embedding(jnp.ones(1), 6)).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_bfloat16_does_not_round_what_is_embedded():
    """981 and 3.3 have no bfloat16 of their own; 980 would be another timestep."""
    port = unet.load(folder("unet_lcm"), dtype=jnp.bfloat16)
    exact = unet.load(folder("unet_lcm"))
    x, context = jnp.ones((1, 8, 8, 4)), jnp.ones((1, 5, 12))

    def run(port, t, scale):
        cond = Condition(context, jnp.full(1, scale))
        out = port.apply(port.params, x, jnp.full(1, t), cond)
        return out.astype(jnp.float32)

    right, wrong = run(exact, 981.0, 3.3), run(exact, 980.0, 3.296875)
    half = run(port, 981.0, 3.3)
    assert rel(half, right) < 0.5 * rel(half, wrong)
