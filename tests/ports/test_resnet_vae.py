"""The ResNet VAE: shapes, sites, and the block strings that are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import GOLDENS, arrays, copy, folder, tensors

from ports import resnet_vae
from ports.checkpoint import CheckpointError
from ports.port import define
from ports.vae import sample_posterior


@pytest.fixture(scope="module")
def port():
    return resnet_vae.load(folder("resnet_vae"))


@pytest.fixture(scope="module")
def apply(port):
    return jax.jit(port.apply, static_argnames="method")


def test_the_published_network_of_celeba():
    target, _ = define(resnet_vae.ResNetVAE, resnet_vae.Config())
    assert sum(x.size for x in jax.tree.leaves(target)) == 14_011_907
    assert resnet_vae.Config().latent_dim == 512


def test_encode_is_the_mean_and_a_call_the_reconstruction(port, apply):
    x = arrays("resnet_vae")["images"]
    mean, logvar = apply(port.params, x, method="moments")
    assert mean.shape == logvar.shape == (2, 10) and rel(logvar, mean) > 0.1
    np.testing.assert_array_equal(apply(port.params, x, method="encode"), mean)
    decoded = apply(port.params, mean, method="decode")
    assert decoded.shape == (2, 16, 16, 3)
    assert rel(apply(port.params, x), decoded) < 1e-6
    assert float(jnp.abs(decoded).max()) < 1


def test_a_posterior_is_sampled_as_the_other_vaes_is(port, apply, key):
    x = arrays("resnet_vae")["images"]
    mean, logvar = apply(port.params, x, method="moments")
    z = sample_posterior(key, mean, logvar)
    noise = (z - mean) / jnp.exp(logvar / 2)
    np.testing.assert_allclose(noise, jax.random.normal(key, (2, 10)), atol=1e-4)


def test_sites_are_the_modules_of_the_checkpoint(port):
    x = arrays("resnet_vae")["images"]
    _, taps = port.apply(port.params, x, taps=("enc.2", "enc.10", "dec.1", "dec.2"))
    shapes = {k: v.shape[1:] for k, v in taps.items()}
    assert shapes == {
        "enc.2": (8, 8, 8),  # pooled, channels of level 16
        "enc.10": (1, 1, 10),
        "dec.1": (4, 4, 10),
        "dec.2": (4, 4, 14),
    }
    delta = {"dec.2": jnp.ones(14)}
    there = port.apply(port.params, x, deltas=delta)
    assert rel(there, port.apply(port.params, x)) > 1e-3


def test_under_vmap_and_grad(port, apply):
    z = arrays("resnet_vae")["z"]
    one = jax.vmap(lambda z: port.apply(port.params, z[None], method="decode")[0])
    assert rel(jax.jit(one)(z), apply(port.params, z, method="decode")) < 1e-5
    grads = jax.jit(jax.grad(lambda p: port.apply(p, z, method="decode").sum()))
    of_decoder = jax.tree.leaves(grads(port.params)["dec"])
    assert all(bool(jnp.isfinite(g).all() and (g != 0).any()) for g in of_decoder)


def test_half_precision_stays_near(apply, port):
    half = resnet_vae.load(folder("resnet_vae"), dtype=jnp.bfloat16)
    x = arrays("resnet_vae")["images"]
    mean = half.apply(half.params, x, method="encode")
    assert mean.dtype == jnp.bfloat16
    expected = apply(port.params, x, method="encode")
    assert rel(mean.astype(jnp.float32), expected) < 3e-2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"enc_block_str": "16q2"}, "has '16q2', which is not a level"),
        ({"enc_block_str": "16x"}, "has '16x', which is not a level"),
        ({"enc_block_str": "16d2,8x1"}, "an entry of level 8 where level 16 goes on"),
        ({"enc_block_str": "16d3"}, "pools 16 pixels by 3"),
        ({"enc_block_str": "16d2,16t1"}, "ends at level 1 and 8 pixels, not at 1"),
        ({"enc_block_str": "16u2"}, "has up, not down"),
        ({"dec_block_str": "1d1"}, "has down, not up"),
        ({"dec_block_str": "1u4,1t16"}, "ends at level 16 and 4 pixels"),
        ({"enc_channel_str": "16:8,8:12,1:10"}, "enc_channel_str lacks level 4"),
        ({"enc_channel_str": "16"}, "is not level:channels"),
        ({"dec_channel_str": "16:6,8:12,4:14,1:12"}, "differ at level 1"),
        ({"dec_channel_str": "16:6,8:14,4:14,1:10"}, "expected"),
        ({"input_res": 32}, "an entry of level 16 where level 32 goes on"),
        ({"_class_name": "AutoencoderKL"}, "not a ResNetVAE"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    to = copy("resnet_vae", tmp_path)
    raw = json.loads((GOLDENS / "resnet_vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(CheckpointError, match=message) as e:
        resnet_vae.load(to)
    assert "\n" not in str(e.value)


def test_a_missing_and_an_unknown_tensor_are_named(tmp_path):
    weights = tensors("resnet_vae")
    weights["enc.mu.bias"] = weights.pop("dec.block_mod.0.c1.bias")
    with pytest.raises(CheckpointError) as e:
        resnet_vae.load(copy("resnet_vae", tmp_path, weights))
    assert "enc.mu.bias: unexpected tensor" in str(e.value)
    assert "dec.block_mod.0.c1.bias: missing tensor" in str(e.value)


def test_images_of_another_size_are_refused(port):
    with pytest.raises(ValueError, match="32x16 pixels: this network's are 16x16"):
        port.apply(port.params, jnp.zeros((1, 32, 16, 3)), method="encode")
