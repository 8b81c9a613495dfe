"""StyleGAN2-ADA's generator against torch, and the converter of its pickles.

The reference is plain torch (``scripts/reference_stylegan2.py``), with kernels and
resampling in other forms than the port's.
"""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import from_torch, normal, torch
from safetensors.torch import save_file

from ports import stylegan2
from scripts import convert_stylegan2
from scripts.reference_stylegan2 import StyleGAN2

pytestmark = pytest.mark.torch
SMALL = dict(z_dim=10, w_dim=12, img_resolution=16, mapping_layers=3)
VARIANTS = {
    # Wide enough for the forms of the convolution that the CPU prefers.
    "wide": dict(img_resolution=32, channel_base=2048, channel_max=80),
    "clamped, no noise": dict(
        channel_base=256, channel_max=24, conv_clamp=2.0, use_noise=False
    ),
    "4x4": dict(img_resolution=4, channel_base=64, channel_max=16, img_channels=1),
}


def reference(**changes):
    torch.manual_seed(0)
    return StyleGAN2(**SMALL | changes).spread().requires_grad_(False).eval()


def laid_out(model, folder):
    """The model's folder, as the converter writes it."""
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config()))
    return str(folder)


def jitted(port):
    apply = jax.jit(port.apply, static_argnames="method")
    return lambda *inputs, **options: apply(port.params, *inputs, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(tmp_path, variant):
    model = reference(**VARIANTS[variant])
    port = stylegan2.load(laid_out(model, tmp_path))
    run, z = jitted(port), normal(2, 10)
    assert rel(run(z, method="mapping"), model.w(torch.from_numpy(z))) <= 1e-5
    truncated = run(z, 0.3, method="mapping")
    assert rel(truncated, model.w(torch.from_numpy(z), 0.3)) <= 1e-5
    assert rel(run(z), from_torch(model(torch.from_numpy(z)))) <= 2e-5

    ws = normal(2, port.config.num_ws, 12, seed=1)
    expected = model.images(torch.from_numpy(ws))
    assert rel(run(ws, method="synthesis"), from_torch(expected)) <= 2e-5
    styles = run(ws, method="styles")
    assert rel(styles, model.styles(torch.from_numpy(ws))) <= 1e-5
    again = run(styles, method="synthesis_from_styles")
    assert rel(again, from_torch(expected)) <= 2e-5


def test_constant_noise(tmp_path):
    model = reference(channel_base=256, channel_max=24)
    port = stylegan2.load(laid_out(model, tmp_path), noise_mode="const")
    z = normal(2, 10)
    expected = from_torch(model(torch.from_numpy(z), noisy=True))
    assert rel(jitted(port)(z), expected) <= 2e-5
    assert rel(expected, from_torch(model(torch.from_numpy(z)))) > 1e-2


def test_gradients_in_w(tmp_path):
    model = reference(channel_base=256, channel_max=24)
    port = stylegan2.load(laid_out(model, tmp_path))
    ws, weight = normal(1, 6, 12), normal(1, 16, 16, 3, seed=1)

    def loss(ws):
        return (port.apply(port.params, ws, method="synthesis") * weight).sum()

    theirs = torch.from_numpy(ws).requires_grad_(True)
    (
        model.images(theirs) * torch.from_numpy(weight).permute(0, 3, 1, 2)
    ).sum().backward()
    assert rel(jax.jit(jax.grad(loss))(ws), theirs.grad) <= 1e-4


def test_bfloat16_stays_near_float32(tmp_path):
    """Mapping and styles stay float32."""
    model = reference(channel_base=256, channel_max=24)
    folder = laid_out(model, tmp_path)
    half = stylegan2.load(folder, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    z = normal(2, 10)
    got = jitted(half)(z)
    assert got.dtype == jnp.bfloat16
    expected = from_torch(model(torch.from_numpy(z)))
    assert 1e-4 < rel(got.astype(jnp.float32), expected) < 4e-2
    assert rel(jitted(half)(z, method="mapping"), model.w(torch.from_numpy(z))) <= 1e-5


def official(model):
    """With the attributes of the official modules that the converter reads."""
    o = model.options
    for key in ("z_dim", "w_dim", "img_resolution", "img_channels"):
        setattr(model, key, o[key])
    model.c_dim = o.get("c_dim", 0)
    model.mapping.num_layers = o["mapping_layers"]
    model.mapping.fc0.bias_gain = o["mapping_lr_multiplier"]
    for edge in model.edges:
        block = getattr(model.synthesis, f"b{edge}")
        block.architecture, block.conv1.activation = "skip", "lrelu"
        block.conv1.conv_clamp = o["conv_clamp"]
        block.conv1.use_noise = o["use_noise"]
    return model


def converted(model, folder):
    """Its pickle, converted beside what looks like a checkout of the official code."""
    (folder / "code" / "torch_utils").mkdir(parents=True)
    (folder / "code" / "torch_utils" / "persistence.py").touch()
    (folder / "g.pkl").write_bytes(pickle.dumps({"G_ema": model}))
    args = dict(pickle=folder / "g.pkl", code=folder / "code", out=folder / "out")
    convert_stylegan2.main(convert_stylegan2.Args(**args))
    return folder / "out"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_converted_pickle_is_the_same_generator(tmp_path, variant):
    model = official(reference(**VARIANTS[variant]))
    out = converted(model, tmp_path)
    again = stylegan2.load(str(out))
    direct = stylegan2.load(laid_out(model, tmp_path / "direct"))
    jax.tree.map(np.testing.assert_array_equal, again.params, direct.params)
    raw = json.loads((out / "config.json").read_text())
    assert raw["source"]["file"] == "g.pkl" and len(raw["source"]["sha256"]) == 64
    z = normal(2, 10)
    np.testing.assert_array_equal(jitted(again)(z), jitted(direct)(z))


def test_the_converter_refuses_what_the_port_cannot_run(tmp_path):
    model = official(reference(channel_base=256, channel_max=24))
    model.c_dim = 10
    with pytest.raises(SystemExit, match="the generator: c_dim = 10 is not supported"):
        converted(model, tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_converter_refuses_what_is_no_checkout(tmp_path):
    args = dict(pickle=tmp_path / "g.pkl", code=tmp_path, out=tmp_path / "out")
    with pytest.raises(SystemExit, match="is not a checkout"):
        convert_stylegan2.main(convert_stylegan2.Args(**args))
