"""StyleGAN2's spaces agree; what its config and inputs may not be."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import copy, folder, tensors

from ports import stylegan2
from ports.checkpoint import CheckpointError
from ports.modulated import doubled
from ports.port import define, init


@pytest.fixture(scope="module")
def gan():
    """The golden's generator: z of 6, w of 8, six ws, 16 pixels."""
    port = stylegan2.load(folder("stylegan2"))
    return port, jax.jit(port.apply, static_argnames=("method", "taps"))


@pytest.fixture
def z(key):
    return jax.random.normal(key, (3, 6))


def test_a_call_is_the_synthesis_of_the_mapping(gan, z):
    port, apply = gan
    w = apply(port.params, z, method="mapping")
    assert w.shape == (3, 8)
    images = apply(port.params, w, method="synthesis")
    assert images.shape == (3, 16, 16, 3)
    np.testing.assert_allclose(apply(port.params, z), images, rtol=1e-5, atol=1e-5)


def test_w_repeated_is_w_plus(gan, z):
    port, apply = gan
    w = apply(port.params, z, method="mapping")
    ws = jnp.repeat(w[:, None], port.config.num_ws, axis=1)
    for method in ("synthesis", "styles"):
        once, each = (apply(port.params, x, method=method) for x in (w, ws))
        np.testing.assert_allclose(once, each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plus", [False, True])
def test_the_style_space_is_on_the_way_from_w_to_images(gan, key, plus):
    port, apply = gan
    w = jax.random.normal(key, (2, 6, 8) if plus else (2, 8))
    styles = apply(port.params, w, method="styles")
    assert styles.shape == (2, 12 + 12 + 12 + 12 + 12 + 12 + 8 + 8)
    got = apply(port.params, styles, method="synthesis_from_styles")
    expected = apply(port.params, w, method="synthesis")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_each_w_of_w_plus_moves_its_own_layers_styles_only(gan, key):
    """A block's colours share their w with the next block's first layer."""
    port, apply = gan
    ws = jax.random.normal(key, (1, 6, 8))
    sizes = (12, 12, 12, 12, 12, 12, 8, 8)
    owner = np.repeat([0, 1, 1, 2, 3, 3, 4, 5], sizes)
    plain = apply(port.params, ws, method="styles")
    for i in range(6):
        moved = apply(port.params, ws.at[:, i].add(1.0), method="styles")
        np.testing.assert_array_equal((moved != plain)[0], owner == i)


def test_truncation_draws_w_towards_the_average(gan, z):
    port, apply = gan
    w = apply(port.params, z, method="mapping")
    mean = port.params["mapping"]["w_avg"]
    for psi in (0.0, 0.7, 1.0):
        got = apply(port.params, z, psi, method="mapping")
        expected = mean[None] + psi * (w - mean[None])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    images = apply(port.params, z, 0.0)
    assert rel(images[0], images[1]) < 1e-6


def test_sites_are_w_and_what_each_block_makes(gan, z):
    port, apply = gan
    names = ("mapping", "block.4", "block.8", "block.16")
    images, taps = apply(port.params, z, taps=names)
    assert [taps[name].shape[1:] for name in names] == [
        (8,),
        (4, 4, 12),
        (8, 8, 12),
        (16, 16, 8),
    ]
    shift = 0.5 * jax.random.normal(jax.random.key(3), (8,))
    moved = apply(port.params, z, deltas={"mapping": shift})
    expected = apply(port.params, taps["mapping"] + shift[None], method="synthesis")
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)
    assert rel(moved, images) > 1e-2
    late = {"block.16": jnp.ones((16, 16, 8))}
    _, after = apply(port.params, z, taps=("block.8",), deltas=late)
    np.testing.assert_array_equal(after["block.8"], taps["block.8"])


def test_vmap_gives_what_a_batch_gives(gan, z):
    port, apply = gan
    each = jax.vmap(lambda z: port.apply(port.params, z[None])[0])(z)
    np.testing.assert_allclose(each, apply(port.params, z), rtol=1e-4, atol=1e-5)


def test_images_have_a_gradient_in_styles(gan, z):
    port, apply = gan
    w = apply(port.params, z[:1], method="mapping")
    styles = apply(port.params, w, method="styles")

    def loss(styles):
        images = port.apply(port.params, styles, method="synthesis_from_styles")
        return jnp.square(images).mean()

    grad = jax.jit(jax.grad(loss))(styles)
    step = 1e-3 * grad / jnp.linalg.norm(grad)
    numeric = (loss(styles + step) - loss(styles - step)) / 2e-3
    assert abs(float(jnp.linalg.norm(grad) - numeric)) < 2e-2 * float(numeric)


def test_doubling_is_zeros_between_pixels_and_the_filter(key):
    x = np.asarray(jax.random.normal(key, (1, 3, 4, 2)))
    wide = np.zeros((1, 6 + 3, 8 + 3, 2))
    wide[:, 2:8:2, 2:10:2] = x
    row = np.asarray([1, 3, 3, 1]) / 4
    expected = sum(
        row[i] * row[j] * wide[:, i : i + 6, j : j + 8]
        for i in range(4)
        for j in range(4)
    )
    np.testing.assert_allclose(doubled(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "method, shape",
    [
        ("synthesis", (2, 7)),
        ("synthesis", (2, 5, 8)),
        ("styles", (2, 6, 9)),
        ("synthesis_from_styles", (2, 87)),
    ],
)
def test_latents_of_another_shape_are_refused(gan, method, shape):
    port, _ = gan
    with pytest.raises(ValueError, match="this generator takes"):
        port.apply(port.params, jnp.zeros(shape), method=method)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"c_dim": 10}, "c_dim = 10 is not supported"),
        ({"architecture": "resnet"}, "architecture = 'resnet' is not supported"),
        ({"activation": "relu"}, "activation = 'relu' is not supported"),
        ({"resample_filter": [1, 1]}, "resample_filter"),
        ({"img_resolution": 48}, "not a power of two"),
        ({"img_resolution": 2}, "not a power of two"),
    ],
)
def test_configs_that_the_port_cannot_run_are_refused(tmp_path, change, message):
    copy("stylegan2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        stylegan2.load(str(tmp_path))


def test_noise_modes(tmp_path):
    with pytest.raises(CheckpointError, match="noise_mode = 'random' is not supported"):
        stylegan2.load(folder("stylegan2"), noise_mode="random")
    weights = {k: v for k, v in tensors("stylegan2").items() if "noise" not in k}
    copy("stylegan2", tmp_path, weights)
    config = json.loads((tmp_path / "config.json").read_text()) | {"use_noise": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="there is no constant noise"):
        stylegan2.load(str(tmp_path), noise_mode="const")
    quiet, loud = stylegan2.load(str(tmp_path)), stylegan2.load(folder("stylegan2"))
    z = jnp.ones((1, 6))
    np.testing.assert_array_equal(
        quiet.apply(quiet.params, z), loud.apply(loud.params, z)
    )


def test_a_fresh_network_starts_at_unit_scale(key):
    """So that it trains: w, and what every block makes, neither fade nor explode."""
    config = stylegan2.Config(
        z_dim=64, w_dim=64, img_resolution=32, channel_base=1024, channel_max=64
    )
    port = init(stylegan2.StyleGAN2, config, key)
    z = jax.random.normal(jax.random.key(1), (16, 64))
    sites = ("mapping", *(f"block.{r}" for r in config.resolutions))
    _, taps = jax.jit(port.apply, static_argnames="taps")(port.params, z, taps=sites)
    for name, x in taps.items():
        assert 0.3 < float(x.std()) < 3, name


def test_the_published_faces_have_the_published_sizes():
    """The generator of 1024 pixels: 30.0 M parameters in 26 layers, 18 ws."""
    config = stylegan2.Config(img_resolution=1024)
    shapes, _ = define(stylegan2.StyleGAN2, config)
    names = {
        "/".join(str(k.key) for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }
    learned = [np.prod(s) for k, s in names.items() if not k.endswith(("const", "avg"))]
    const = names["synthesis/b4/const"]
    assert config.num_ws == 18
    assert sum(learned) + np.prod(const) == 30_370_060
    assert names["synthesis/b1024/conv1/weight"] == (3, 3, 32, 32)
