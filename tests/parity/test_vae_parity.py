"""AutoencoderKL against diffusers: blocks to 1e-5, the whole to 2e-5."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import block, from_torch, normal, part, saved, scattered, to_torch, torch
from safetensors.numpy import load_file, save_file

from ports import blocks, vae

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

SMALL = dict(
    sample_size=16,
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    norm_num_groups=4,
    latent_channels=4,
)
VARIANTS = {
    "sd": dict(layers_per_block=2),
    # As in later models: no 1x1 convolutions, no attention, other channels.
    "bare": dict(
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        in_channels=1,
        out_channels=2,
        latent_channels=3,
    ),
    "encoder's convolution only": dict(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        use_post_quant_conv=False,
    ),
}


def reference(**changes):
    torch.manual_seed(0)
    return scattered(diffusers.AutoencoderKL(**SMALL | changes))


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(tmp_path, variant):
    """Moments, mode and reconstruction of images of odd size."""
    model = reference(**VARIANTS[variant])
    port = vae.load(saved(model, tmp_path))
    apply = jax.jit(port.apply, static_argnames="method")
    images = normal(2, 15, 18, port.config.in_channels)
    posterior = model.encode(to_torch(images)).latent_dist
    mean, logvar = apply(port.params, images, method="moments")
    assert rel(mean, from_torch(posterior.mode())) <= 2e-5
    assert rel(logvar, from_torch(posterior.logvar)) <= 2e-5

    latents = normal(2, 5, 3, port.config.latent_channels, seed=1)
    expected = from_torch(model.decode(to_torch(latents)).sample)
    assert rel(apply(port.params, latents, method="decode"), expected) <= 2e-5


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    """A torch model, its folder and its port, for the tests of single blocks."""
    folder = tmp_path_factory.mktemp("vae")
    model = reference()
    return model, folder, vae.load(saved(model, folder))


def test_encode_is_the_mode_and_a_call_the_reconstruction(sd):
    model, _, port = sd
    images = normal(1, 8, 8, 3)
    apply = jax.jit(port.apply, static_argnames="method")
    mode = model.encode(to_torch(images)).latent_dist.mode()
    got = apply(port.params, images, method="encode")
    assert rel(got, from_torch(mode)) <= 2e-5
    expected = model(to_torch(images), sample_posterior=False).sample
    assert rel(apply(port.params, images), from_torch(expected)) <= 2e-5


def test_log_variance_is_clipped(sd):
    model, _, port = sd
    images = 1e4 * normal(1, 8, 8, 3)
    weight = port.params["quant_conv"]["weight"]
    quant_conv = port.params["quant_conv"] | {"weight": 1e3 * weight}
    moments = jax.jit(lambda p, x: port.apply(p, x, method="moments"))
    _, logvar = moments(port.params | {"quant_conv": quant_conv}, images)
    assert float(logvar.min()) == -30 and float(logvar.max()) == 20


@pytest.mark.parametrize("convolution", [False, True])
def test_files_with_the_old_names_of_the_attention(sd, tmp_path, convolution):
    """diffusers reads them with the same meaning, so both sides agree on the result."""
    _, folder, port = sd
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    for name in list(weights):
        for new, spelling in old.items():
            if f"attentions.0.{new}." in name:
                value = weights.pop(name)
                if convolution and value.ndim == 2:
                    value = value[:, :, None, None]
                weights[name.replace(new, spelling)] = value
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    loaded = vae.load(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, port.params)
    if not convolution:  # which diffusers converts before it saves, never after
        again = diffusers.AutoencoderKL.from_pretrained(
            tmp_path, low_cpu_mem_usage=False
        ).requires_grad_(False)
        latents = normal(1, 4, 4, 4)
        expected = from_torch(again.decode(to_torch(latents)).sample)
        decode = jax.jit(lambda p, z: loaded.apply(p, z, method="decode"))
        got = decode(loaded.params, latents)
        assert rel(got, expected) <= 2e-5


@pytest.mark.parametrize(("scaling", "shift"), [(0.18215, None), (0.3611, 0.1159)])
def test_scaling_and_shift_are_those_of_the_pipelines(scaling, shift):
    """x0 = (latent - shift) * scaling, as diffusers' pipelines have it, and back."""
    config = vae.Config(scaling_factor=scaling, shift_factor=shift)
    latents = normal(2, 4, 4, 4)
    x0 = (latents - (shift or 0)) * scaling
    assert rel(vae.scale(config, jnp.asarray(latents)), x0) < 1e-6
    assert rel(vae.unscale(config, jnp.asarray(x0)), latents) < 1e-6


def test_scaling_and_shift_are_read(sd, tmp_path):
    _, folder, _ = sd
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"scaling_factor": 0.3611, "shift_factor": 0.1159}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).write_bytes((folder / weights).read_bytes())
    config = vae.load(str(tmp_path)).config
    assert (config.scaling_factor, config.shift_factor) == (0.3611, 0.1159)


def test_bfloat16_stays_near_float32(sd):
    """Measured 1.4e-2 of the largest value (one rounding is 3.9e-3)."""
    model, folder, _ = sd
    half = vae.load(str(folder), dtype=jnp.bfloat16)
    latents = normal(2, 5, 3, 4)
    decode = jax.jit(lambda p, z: half.apply(p, z, method="decode"))
    got = decode(half.params, latents)
    assert got.dtype == jnp.bfloat16
    expected = from_torch(model.decode(to_torch(latents)).sample)
    assert rel(got.astype(jnp.float32), expected) < 3e-2


def test_resnet_without_time(sd):
    model, _, port = sd
    x = 1e-2 * normal(2, 7, 9, 8)  # so small that the epsilon of 1e-6 shows

    def make(rngs):
        return blocks.ResnetBlock(8, 16, groups=4, eps=vae.EPS, rngs=rngs)

    path = ("encoder", "down_blocks", 1, "resnets", 0)
    expected = model.encoder.down_blocks[1].resnets[0](to_torch(x), None)
    got = block(make, part(port.params, path), x)
    assert rel(got, from_torch(expected)) <= 1e-5


@pytest.mark.parametrize("scale", [1, 1e-3])
def test_attention(sd, scale):
    model, _, port = sd
    x = scale * normal(2, 7, 9, 16)
    got = block(
        lambda rngs: blocks.SelfAttention(16, groups=4, eps=vae.EPS, rngs=rngs),
        part(port.params, ("decoder", "mid_block", "attentions", 0)),
        x,
    )
    expected = model.decoder.mid_block.attentions[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (2, 3)])
def test_downsample_pads_bottom_and_right(sd, size):
    model, _, port = sd
    x = normal(2, *size, 8)
    got = block(
        lambda rngs: blocks.Downsample(8, padding=(0, 1), rngs=rngs),
        part(port.params, ("encoder", "down_blocks", 0, "downsamplers", 0)),
        x,
    )
    expected = model.encoder.down_blocks[0].downsamplers[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5


def test_upsample(sd):
    model, _, port = sd
    x = normal(2, 3, 5, 16)
    got = block(
        lambda rngs: blocks.Upsample(16, rngs=rngs),
        part(port.params, ("decoder", "up_blocks", 0, "upsamplers", 0)),
        x,
    )
    expected = model.decoder.up_blocks[0].upsamplers[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5
