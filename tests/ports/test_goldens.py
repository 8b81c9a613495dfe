"""The ports compute what torch computed: goldens, with no torch at hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import arrays, folder

from ports import (
    clip,
    ddpm,
    dino,
    dinov2,
    dinov3,
    glow,
    inception,
    lpips,
    resnet_vae,
    stylegan2,
    unet,
    vae,
    vq,
)
from ports.conditioning import Condition

TOLERANCE = 2e-5


@pytest.mark.parametrize("case", ["unet_sd1", "unet_sd2"])
def test_unet(case):
    """Odd latents; sd2 has linear projections and one context for the whole batch."""
    port, g = unet.load(folder(case)), arrays(case)
    eps = jax.jit(port.apply)(port.params, g["x"], g["t"], g["context"])
    assert rel(eps, g["eps"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["unet_lcm", "unet_xl"])
def test_unet_with_a_condition(case):
    """Guidance embedded; image sizes and a pooled text feature."""
    port, g = unet.load(folder(case)), arrays(case)
    told = [g.get(name) for name in ("guidance_scale", "pooled", "time_ids")]
    assert any(x is not None for x in told)
    cond = Condition(*jax.device_put((g["context"], *told)))
    eps = jax.jit(port.apply)(port.params, g["x"], g["t"], cond)
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


def test_vq():
    """Latents of images, and decoded ones with the entries that they became."""
    port, g = vq.load(folder("vq")), arrays("vq")
    apply = jax.jit(port.apply, static_argnames="method")
    encoded = apply(port.params, g["images"], method="encode")
    assert rel(encoded, g["encoded"]) <= TOLERANCE
    codes, indices = apply(port.params, g["latents"], method="quantize")
    np.testing.assert_array_equal(indices, g["indices"])
    assert rel(codes, g["quantised"]) <= TOLERANCE
    decoded = apply(port.params, g["latents"], method="decode")
    assert rel(decoded, g["decoded"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["ddpm", "ddpm_google"])
def test_ddpm(case):
    """Heads and padding as diffusers' defaults, and as google's checkpoints have them."""
    port, g = ddpm.load(folder(case)), arrays(case)
    assert rel(jax.jit(port.apply)(port.params, g["x"], g["t"]), g["eps"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["clip", "open_clip"])
def test_clip(case):
    """From transformers' layout, and from open_clip's own."""
    port, g = clip.load(folder(case)), arrays(case)
    image, text = jax.jit(port.apply)(port.params, g["pixels"], g["ids"])
    assert rel(image, g["image"]) <= TOLERANCE
    assert rel(text, g["text"]) <= TOLERANCE


def test_text_tower_of_both():
    port, g = clip.load(folder("clip")), arrays("clip")
    apply = jax.jit(port.apply, static_argnames="method")
    hidden = apply(port.params, g["ids"], method="hidden_text")
    assert rel(hidden, g["hidden"]) <= TOLERANCE


def test_text_encoder():
    port, g = clip.load(folder("clip_text")), arrays("clip_text")
    hidden = port.apply(port.params, g["ids"], method="hidden_text")
    assert rel(hidden, g["hidden"]) <= TOLERANCE


@pytest.mark.parametrize(
    "case, family",
    [
        ("dino", dino),
        ("dinov2", dinov2),
        ("dinov2_registers", dinov2),
        ("dinov3", dinov3),
    ],
)
def test_dino(case, family):
    """All tokens in torch's order; images of the trained size and of another."""
    port, g = family.load(folder(case)), arrays(case)
    for shape in ("square", "rectangle"):
        features = jax.jit(port.apply)(port.params, g[f"{shape}_pixels"])
        tokens = [features.cls, features.registers, features.patches]
        tokens = jnp.concatenate([x.reshape(2, -1, 24) for x in tokens], axis=1)
        assert rel(tokens, g[f"{shape}_tokens"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["lpips_alex", "lpips_vgg"])
def test_lpips(case):
    """Pairs that differ, nearly agree and are equal; features at five depths."""
    port, g = lpips.load(folder(case)), arrays(case)
    apply = jax.jit(port.apply, static_argnames="method")
    distance = apply(port.params, g["a"], g["b"])
    assert rel(distance, g["distance"]) <= TOLERANCE
    np.testing.assert_allclose(distance, g["distance"], rtol=1e-4, atol=1e-13)
    assert g["distance"][2] == 0 < 5 * g["distance"][1] < g["distance"][0]
    for i, x in enumerate(apply(port.params, g["a"], method="stages")):
        assert rel(x, g[f"stage_{i}"]) <= TOLERANCE


def test_stylegan2():
    """w, truncated w, styles, and images by every way there is to them."""
    port, g = stylegan2.load(folder("stylegan2")), arrays("stylegan2")
    apply = jax.jit(port.apply, static_argnames="method")
    w = apply(port.params, g["z"], method="mapping")
    assert rel(w, g["w"]) <= TOLERANCE
    assert rel(apply(port.params, g["z"], 0.5, method="mapping"), g["truncated"]) <= (
        TOLERANCE
    )
    styles = apply(port.params, g["ws"], method="styles")
    assert rel(styles, g["styles"]) <= TOLERANCE
    assert rel(apply(port.params, g["z"]), g["images"]) <= TOLERANCE
    for method, latents in (("synthesis", g["ws"]), ("synthesis_from_styles", styles)):
        images = apply(port.params, latents, method=method)
        assert rel(images, g["images_of_ws"]) <= TOLERANCE, method


def test_stylegan2_with_its_constant_noise():
    g = arrays("stylegan2")
    port = stylegan2.load(folder("stylegan2"), noise_mode="const")
    assert rel(jax.jit(port.apply)(port.params, g["z"]), g["noisy"]) <= TOLERANCE
    assert rel(g["noisy"], g["images"]) > 1e-2


def test_inception():
    """Features, what tells two images apart in them, and the map of one depth."""
    port, g = inception.load(folder("inception")), arrays("inception")
    apply = jax.jit(port.apply, static_argnames="taps")
    features, taps = apply(port.params, g["images"], taps=("mixed.6e",))
    assert rel(features, g["features"]) <= TOLERANCE
    assert rel(features[0] - features[1], g["features"][0] - g["features"][1]) <= (
        TOLERANCE
    )
    assert rel(taps["mixed.6e"], g["mixed_6e"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["glow", "glow_affine"])
def test_glow(case):
    """Latents and densities of images, and images of white latents."""
    port, g = glow.load(folder(case)), arrays(case)
    apply = jax.jit(port.apply, static_argnames="method")
    assert rel(apply(port.params, g["images"], method="encode"), g["z"]) <= TOLERANCE
    log_prob = apply(port.params, g["images"], method="log_prob")
    np.testing.assert_allclose(log_prob, g["log_prob"], rtol=1e-5)
    z = apply(port.params, g["eps"], method="unwhiten")
    assert rel(apply(port.params, z, method="decode"), g["painted"]) <= TOLERANCE


def test_resnet_vae():
    """The posterior's moments, and decoded latents."""
    port, g = resnet_vae.load(folder("resnet_vae")), arrays("resnet_vae")
    apply = jax.jit(port.apply, static_argnames="method")
    mean, logvar = apply(port.params, g["images"], method="moments")
    assert rel(mean, g["mean"]) <= TOLERANCE
    assert rel(logvar, g["logvar"]) <= TOLERANCE
    decoded = apply(port.params, g["z"], method="decode")
    assert rel(decoded, g["decoded"]) <= TOLERANCE
