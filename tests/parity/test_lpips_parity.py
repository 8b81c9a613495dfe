"""LPIPS against torch, and the converter of its weights.

The reference is plain torch (``scripts/reference_lpips.py``): the lpips package needs
torchvision.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import normal, to_torch, torch

from ports import lpips
from ports.checkpoint import CheckpointError
from ports.port import define
from scripts import convert_lpips
from scripts.reference_lpips import CHANNELS, Lpips

pytestmark = pytest.mark.torch
# AlexNet as published; a narrower VGG16, with one stage wide enough for Winograd's form.
SIZES = {"alex": CHANNELS["alex"], "vgg": (16, 64, 64, 40, 24)}


def images(*shape, seed=0):
    """From -1 to 1, with smooth parts, as torch and we both see them."""
    x = np.random.default_rng(seed).uniform(-1, 1, (*shape, 3)).astype(np.float32)
    x[:, : shape[1] // 2] = 0.25  # where features agree
    return x


def converted(folder, backbone, **changes):
    """A torch model with random weights, and its published files converted."""
    torch.manual_seed(0)
    model = Lpips(backbone, SIZES[backbone]).spread().requires_grad_(False).eval()
    folder.mkdir(exist_ok=True)
    files = {"trunk": {"classifier.1.weight": torch.ones(2, 3)}, "heads": {}}
    for name, tensor in model.tensors().items():
        files["heads" if name.startswith("lin") else "trunk"][name] = tensor
    for part, tensors in files.items():
        torch.save(changes.get(part, tensors), folder / f"{part}.pth")
    trunk, heads = (folder / f"{part}.pth" for part in files)
    out = folder / f"lpips-{backbone}"
    convert_lpips.main(convert_lpips.Args(trunk=trunk, heads=heads, out=out))
    return model, out


@pytest.fixture(scope="module", params=["alex", "vgg"])
def pair(request, tmp_path_factory):
    model, out = converted(tmp_path_factory.mktemp("lpips"), request.param)
    return model, out, lpips.load(str(out))


@pytest.mark.parametrize("size", [(64, 64), (47, 90)])
def test_distances(pair, size):
    model, _, port = pair
    a, b = images(2, *size), images(2, *size, seed=1)
    b[1] = a[1] + 0.05 * (b[1] - a[1])
    got = jax.jit(port.apply)(port.params, a, b)
    assert got.shape == (2,) and got.dtype == jnp.float32
    expected = model(to_torch(a), to_torch(b)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert expected[1] < expected[0] / 2


def test_features(pair):
    model, _, port = pair
    a = images(2, 66, 50)
    run = jax.jit(port.apply, static_argnames="method")
    for got, expected in zip(
        run(port.params, a, method="stages"), model.stages(to_torch(a)), strict=True
    ):
        assert rel(got, expected.permute(0, 2, 3, 1)) <= 2e-5


def test_gradients(pair):
    model, _, port = pair
    a, b = images(1, 48, 48), images(1, 48, 48, seed=1)
    got = jax.jit(jax.grad(lambda b: port.apply(port.params, a, b)[0]))(b)
    theirs = to_torch(b).requires_grad_(True)
    model(to_torch(a), theirs).backward()
    assert rel(got, theirs.grad.permute(0, 2, 3, 1)) <= 1e-4


def test_black_features_have_a_gradient_too():
    """Where all of a pixel's are zero, the length's own gradient is infinite."""
    target, apply = define(lpips.Lpips, lpips.Config(channels=(4, 4, 4, 4, 4)))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), target)
    a, b = normal(2, 1, 40, 40, 3)

    def distance(delta):
        return apply(params, a, b, deltas={"stage.4": delta}).sum()

    np.testing.assert_array_equal(jax.grad(distance)(jnp.zeros(4)), 0)


def test_bfloat16_stays_near_float32(pair):
    _, out, port = pair
    half = lpips.load(str(out), dtype=jnp.bfloat16)
    a, b = images(2, 64, 64), images(2, 64, 64, seed=1)
    got = jax.jit(half.apply)(half.params, a, b)
    assert got.dtype == jnp.float32
    assert rel(got, jax.jit(port.apply)(port.params, a, b)) < 2e-2


def test_the_converter_says_where_the_weights_come_from(pair):
    _, out, _ = pair
    raw = json.loads((out / "config.json").read_text())
    assert raw["trunk"]["file"] == "trunk.pth" and len(raw["heads"]["sha256"]) == 64


def test_the_names_of_the_lpips_package_load_too(pair, tmp_path):
    from safetensors.numpy import load_file, save_file

    model, out, port = pair
    tensors = {k: v.numpy() for k, v in model.state_dict().items()}
    tensors["scaling_layer.shift"] = tensors.pop("shift")
    tensors["scaling_layer.scale"] = tensors.pop("scale")
    tensors["lins.0.model.1.weight"] = tensors["lin0.model.1.weight"]
    assert "net.slice1.0.weight" in tensors
    assert "features.0.weight" in load_file(out / "model.safetensors")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((out / "config.json").read_bytes())
    again = lpips.load(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, again.params, port.params)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trunk": {"features.0.weight": torch.ones(1)}}, "neither torchvision's"),
        ({"heads": {"lin0": torch.ones(1)}}, "does not hold the five heads"),
        ({"heads": Lpips("vgg").tensors()}, "does not hold the five heads"),
        ({"trunk": 3}, "does not hold tensors"),
    ],
)
def test_the_converter_refuses_what_it_is_not(tmp_path, changes, message):
    with pytest.raises(SystemExit, match=message):
        converted(tmp_path, "alex", **changes)
    assert not (tmp_path / "lpips-alex").exists()


def test_the_heads_of_another_network_are_refused(tmp_path):
    heads = {k: v for k, v in Lpips("vgg").tensors().items() if k.startswith("lin")}
    with pytest.raises(SystemExit, match="heads of another network"):
        converted(tmp_path, "alex", heads=heads)


def test_a_file_that_runs_code_is_not_opened(tmp_path):
    """weights_only: torch refuses a pickle of anything but tensors."""
    with pytest.raises(SystemExit, match="trunk.pth cannot be read: UnpicklingError"):
        converted(tmp_path, "alex", trunk=Path("anything"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"backbone": "squeeze"}, r"backbone = 'squeeze' is not supported"),
        ({"version": "0.0"}, r"version = '0.0' is not supported"),
        ({"backbone": "vgg", "channels": []}, "does not fit its config"),
        ({"architectures": ["AlexNet"]}, "holds a AlexNet, not a LPIPS"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    _, out = converted(tmp_path, "alex")
    raw = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(CheckpointError, match=message):
        lpips.load(str(out))


def test_images_too_small_to_compare_are_refused(pair):
    """torch fails in a pooling layer; a mean of nothing would be NaN."""
    _, _, port = pair
    least = {"alex": 31, "vgg": 16}[port.config.backbone]
    x = jnp.zeros((1, least, least, 3))
    assert jnp.isfinite(port.apply(port.params, x, x)).all()
    with pytest.raises(ValueError, match=f"at least {least}"):
        port.apply(port.params, x[:, 1:], x[:, 1:])
