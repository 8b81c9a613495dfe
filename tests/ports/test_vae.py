"""The VAE's posterior, and images of 1024 pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ports import vae
from ports.port import define

SD = vae.Config(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
)


def test_a_sample_of_the_posterior_has_its_mean_and_spread(key):
    mean = jnp.broadcast_to(jnp.asarray([-2.0, 0.0, 5.0]), (20000, 3))
    logvar = jnp.broadcast_to(jnp.log(jnp.asarray([0.25, 1.0, 4.0])), mean.shape)
    draws = np.asarray(vae.sample_posterior(key, mean, logvar))
    np.testing.assert_allclose(draws.mean(0), [-2, 0, 5], atol=0.06)
    np.testing.assert_allclose(draws.std(0), [0.5, 1, 2], rtol=0.03)


def test_the_mode_is_the_posterior_without_spread(key):
    mean = jnp.asarray([[1.5, -2.0]])
    np.testing.assert_array_equal(
        vae.sample_posterior(key, mean, jnp.full((1, 2), -300.0)), mean
    )


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_images_of_1024_pixels_fit(platform):
    """The middle's 16,384 x 16,384 scores (1 GB an image) never exist at once."""
    shapes, apply = define(vae.AutoencoderKL, SD)
    image = jax.ShapeDtypeStruct((1, 1024, 1024, 3), jnp.float32)
    encode = jax.jit(lambda params, x: apply(params, x, method="encode"))
    text = encode.trace(shapes, image).lower(lowering_platforms=(platform,)).as_text()
    assert "x16384x" in text  # all keys, for some of the queries
    assert "16384x16384x" not in text
