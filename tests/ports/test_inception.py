"""FID's InceptionV3: how images are brought to its size, and what it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import copy, folder

from ports import inception
from ports.checkpoint import CheckpointError
from ports.port import define


def test_the_published_network_has_the_published_sizes():
    """21.8 M parameters, as torchvision's without its classifiers, and 2,048 features."""
    shapes, apply = define(inception.Inception, inception.Config())
    learned = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if not str(path[-1].key).startswith("running")
    ]
    assert sum(learned) == 21_785_568
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(apply, shapes, image).shape == (2, 2048)


def test_resizing_takes_the_pixels_beside_it_however_large_the_step():
    """Half-pixel centres, edges repeated, no antialiasing."""
    x = jnp.arange(2.0).reshape(1, 1, 2, 1)
    row = np.asarray(inception.resized(x))[0, 0, :, 0]
    at = ((np.arange(299) + 0.5) * 2 / 299 - 0.5).clip(0, 1)
    np.testing.assert_allclose(row, at, atol=1e-6)
    # Of every ten pixels only the two in the middle count.
    x = jnp.zeros((1, 299, 2990, 1)).at[0, :, 3].set(1.0)
    assert float(inception.resized(x).max()) == 0


def test_images_of_the_networks_size_stay_as_they_are(key):
    x = jax.random.normal(key, (1, 299, 299, 3))
    assert inception.resized(x) is x


def test_mean_pools_leave_the_border_out():
    x = jnp.ones((1, 4, 5, 1))
    np.testing.assert_allclose(inception._POOLS["mean"](x), 1.0, rtol=1e-6)


@pytest.fixture(scope="module")
def narrow():
    port = inception.load(folder("inception"))
    return port, jax.jit(port.apply, static_argnames="taps")


def test_taps_and_deltas(narrow, key):
    port, apply = narrow
    x = jax.random.uniform(key, (1, 32, 32, 3), minval=-1.0)
    sites = ("pool.0", "pool.1", *(f"mixed.{name}" for name in inception.MIXED))
    features, taps = apply(port.params, x, taps=sites)
    edges = [73, 35, *[35] * 3, *[17] * 5, *[8] * 3]
    assert [taps[site].shape[1] for site in sites] == edges
    np.testing.assert_allclose(features, taps["mixed.7c"].mean((1, 2)), rtol=1e-5)
    moved = apply(port.params, x, deltas={"mixed.7c": 2 * jnp.ones(128)})
    np.testing.assert_allclose(moved, features + 2, rtol=1e-5)


def test_features_have_a_gradient_in_pixels(narrow, key):
    port, _ = narrow
    x = jax.random.uniform(key, (1, 32, 32, 3), minval=-1.0)
    grad = jax.jit(jax.grad(lambda x: port.apply(port.params, x).sum()))(x)
    assert np.isfinite(grad).all() and float(jnp.abs(grad).max()) > 0


@pytest.mark.parametrize("divisor", [3, 0, 32, "wide"])
def test_other_widths_are_refused(tmp_path, divisor):
    copy("inception", tmp_path)
    text = f'{{"_class_name": "FIDInceptionV3", "divisor": {divisor!r}}}'
    (tmp_path / "config.json").write_text(text.replace("'", '"'))
    with pytest.raises(CheckpointError, match="divisor"):
        inception.load(str(tmp_path))
