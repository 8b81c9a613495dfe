"""FID's InceptionV3 against torch, and the converter of its weights.

The reference is plain torch (``scripts/reference_inception.py``).
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import from_torch, to_torch, torch

from ports import inception
from scripts import convert_inception
from scripts.reference_inception import Inception

pytestmark = pytest.mark.torch


def images(*size, seed=0):
    """From -1 to 1, as no two of a batch are alike."""
    x = np.random.default_rng(seed).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    x[1] = 0.3 * x[1] + 0.6
    x[1, : size[0] // 3] *= -1
    return x


def converted(folder, **changes):
    model = Inception(8).spread().requires_grad_(False)
    tensors = model.state_dict() | {"fc.weight": torch.zeros(1008, 256)}
    tensors |= {"fc.bias": torch.zeros(1008)} | changes
    file = folder / "weights.pth"
    torch.save({k: v for k, v in tensors.items() if v is not None}, file)
    args = convert_inception.Args(weights=file, out=folder / "out")
    convert_inception.main(args)
    return model, folder / "out"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model, out = converted(tmp_path_factory.mktemp("inception"))
    return model, out, inception.load(str(out))


@pytest.mark.parametrize("size", [(64, 64), (47, 90), (299, 299), (320, 301)])
def test_features_and_maps(pair, size):
    """Enlarged, as they are, and made smaller without antialiasing."""
    model, _, port = pair
    x = images(*size)
    sites = ("pool.0", "pool.1", "mixed.6e", "mixed.7c")
    got, taps = jax.jit(port.apply, static_argnames="taps")(port.params, x, taps=sites)
    maps = model.maps((to_torch(x) + 1) / 2)
    for site, expected in zip(sites, maps, strict=True):
        assert rel(taps[site], from_torch(expected)) <= 2e-5, site
    expected = maps[-1].mean((2, 3)).numpy()
    assert got.dtype == jnp.float32
    assert rel(got, expected) <= 2e-5
    assert rel(got[0] - got[1], expected[0] - expected[1]) <= 1e-4


def test_bfloat16_stays_near_float32(pair):
    _, out, port = pair
    half = inception.load(str(out), dtype=jnp.bfloat16)
    got = jax.jit(half.apply)(half.params, images(40, 40))
    assert got.dtype == jnp.float32
    assert 1e-4 < rel(got, jax.jit(port.apply)(port.params, images(40, 40))) < 5e-2


def test_the_converter_says_where_the_weights_come_from(pair):
    _, out, _ = pair
    raw = json.loads((out / "config.json").read_text())
    assert raw["divisor"] == 8 and raw["weights"]["file"] == "weights.pth"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fc.bias": torch.zeros(1000)}, "of 1000 classes: FID's has 1008"),
        ({"Conv2d_1a_3x3.conv.weight": None}, "does not hold FID's InceptionV3"),
    ],
)
def test_the_converter_refuses_what_it_is_not(tmp_path, changes, message):
    with pytest.raises(SystemExit, match=message):
        converted(tmp_path, **changes)
