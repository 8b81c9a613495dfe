"""The ports compute what torch computed: goldens, with no torch at hand."""

import jax
import numpy as np
import pytest
from closeness import rel
from golden import arrays, folder

from ports import clip, unet, vae

TOLERANCE = 2e-5


@pytest.mark.parametrize("case", ["unet_sd1", "unet_sd2"])
def test_unet(case):
    """Odd latents; sd2 has linear projections and one context for the whole batch."""
    port, g = unet.load(folder(case)), arrays(case)
    eps = jax.jit(port.apply)(port.params, g["x"], g["t"], g["context"])
    assert rel(eps, g["eps"]) <= TOLERANCE


def test_vae():
    port, g = vae.load(folder("vae")), arrays("vae")
    apply = jax.jit(port.apply, static_argnames="method")
    mean, logvar = apply(port.params, g["images"], method="moments")
    assert rel(mean, g["mean"]) <= TOLERANCE
    assert rel(logvar, g["logvar"]) <= TOLERANCE
    assert rel(apply(port.params, g["latents"], method="decode"), g["decoded"]) <= (
        TOLERANCE
    )


def test_vae_of_old_names_and_of_1x1_convolutions_is_the_same_vae():
    new, old = vae.load(folder("vae")), vae.load(folder("vae_old"))
    jax.tree.map(np.testing.assert_array_equal, new.params, old.params)
    assert arrays("vae_old")["mean"].tolist() == arrays("vae")["mean"].tolist()


def test_clip():
    port, g = clip.load(folder("clip")), arrays("clip")
    apply = jax.jit(port.apply, static_argnames="method")
    image, text = apply(port.params, g["pixels"], g["ids"])
    assert rel(image, g["image"]) <= TOLERANCE
    assert rel(text, g["text"]) <= TOLERANCE
    hidden = apply(port.params, g["ids"], method="hidden_text")
    assert rel(hidden, g["hidden"]) <= TOLERANCE


def test_text_encoder():
    port, g = clip.load(folder("clip_text")), arrays("clip_text")
    hidden = port.apply(port.params, g["ids"], method="hidden_text")
    assert rel(hidden, g["hidden"]) <= TOLERANCE
