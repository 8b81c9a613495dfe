"""What a CLIP that judges is shown is what the CLIP's own preprocessing makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ports import preprocess
from une_jax.cli import clip_judge

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("filter", ("bicubic", "bilinear"))
@pytest.mark.parametrize(("size", "crop"), ((12, 12), (20, 16), (40, 32)))
def test_images_are_prepared_as_files_would_be(filter, size, crop):
    steps = preprocess.Preprocess(
        resize="shortest", size=size, crop=crop, filter=filter, mean=HALF, std=HALF
    )
    levels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    wanted = steps(Image.fromarray(levels))
    found = clip_judge.prepared(
        steps, jnp.asarray(levels, jnp.float32)[None] / 127.5 - 1
    )
    assert found.shape == (1, crop, crop, 3)
    # Pillow rounds to whole levels after each axis: a level is 2 / 255 here.
    np.testing.assert_allclose(found[0], wanted, atol=3 * 2 / 255)


def test_the_gradient_comes_through():
    steps = preprocess.Preprocess(
        resize="shortest", size=8, crop=8, filter="bicubic", mean=HALF, std=HALF
    )
    image = 0.1 * jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    slope = jax.grad(lambda x: jnp.sum(clip_judge.prepared(steps, x)))(image)
    # The resize keeps the mean: each pixel counts a quarter, but at the edges.
    np.testing.assert_allclose(slope[0, 6:10, 6:10], 0.25, atol=0.02)
