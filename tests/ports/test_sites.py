"""Sites: activations come out by name, offsets go in by name, for every family."""

import functools as ft

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
    lpips,
    stylegan2,
    unet,
    vae,
    vq,
)
from ports.sites import SiteError


def unet_case():
    g = arrays("unet_sd1")
    return unet.load(folder("unet_sd1")), (g["x"], g["t"], g["context"])


def vae_case():
    return vae.load(folder("vae")), (arrays("vae")["images"],)


def vq_case():
    return vq.load(folder("vq")), (arrays("vq")["images"],)


def ddpm_case():
    g = arrays("ddpm")
    return ddpm.load(folder("ddpm")), (g["x"], g["t"])


def clip_case():
    g = arrays("clip")
    return clip.load(folder("clip")), (g["pixels"], g["ids"])


def dino_case(family, name):
    return family.load(folder(name)), (arrays(name)["rectangle_pixels"],)


def lpips_case():
    g = arrays("lpips_vgg")
    return lpips.load(folder("lpips_vgg")), (g["a"], g["b"])


def stylegan2_case():
    return stylegan2.load(folder("stylegan2")), (arrays("stylegan2")["z"],)


VIT = ["block.0", "block.1", "norm"]

CASES = {
    "unet": (unet_case, ["down.0", "down.1", "mid", "up.0", "up.1"]),
    "vae": (
        vae_case,
        ["encoder.down.0", "encoder.down.1", "encoder.mid"]
        + ["decoder.mid", "decoder.up.0", "decoder.up.1"],
    ),
    "vq": (
        vq_case,
        ["encoder.down.0", "encoder.down.1", "encoder.mid"]
        + ["decoder.mid", "decoder.up.0", "decoder.up.1"],
    ),
    "ddpm": (ddpm_case, ["down.0", "down.1", "mid", "up.0", "up.1"]),
    "clip": (
        clip_case,
        ["vision.block.0", "vision.block.1", "vision.norm"]
        + ["text.block.0", "text.block.1", "text.norm"],
    ),
    "dino": (ft.partial(dino_case, dino, "dino"), VIT),
    "dinov2": (ft.partial(dino_case, dinov2, "dinov2_registers"), VIT),
    "dinov3": (ft.partial(dino_case, dinov3, "dinov3"), VIT),
    "stylegan2": (stylegan2_case, ["mapping", "block.4", "block.8", "block.16"]),
    "lpips": (lpips_case, [f"stage.{i}" for i in range(5)]),
}


def run(case, **kwargs):
    port, inputs, apply = case
    return apply(port.params, *inputs, **kwargs)


def flat(out):
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(out)])


def jitted(name):
    make, sites = CASES[name]
    port, inputs = make()
    return (port, inputs, jax.jit(port.apply, static_argnames="taps")), sites


@pytest.fixture(scope="module", params=CASES)
def family(request):
    return jitted(request.param)


def test_taps_name_every_block_and_leave_the_output_as_it_is(family):
    case, sites = family
    out, taps = run(case, taps=tuple(sites))
    assert sorted(taps) == sorted(sites)
    np.testing.assert_array_equal(flat(out), flat(run(case)))


def test_no_taps_asked_is_an_empty_dict(family):
    case, _ = family
    _, taps = run(case, taps=())
    assert taps == {}


def test_a_delta_is_added_where_it_says_and_changes_what_follows(family):
    """With zeros at every other site, which change nothing."""
    case, sites = family
    plain, before = run(case, taps=tuple(sites))
    zeros = {site: jnp.zeros(x.shape[1:]) for site, x in before.items()}
    out, _ = run(case, taps=tuple(sites), deltas=zeros)
    assert rel(flat(out), flat(plain)) <= 1e-5
    for site, x in before.items():
        delta = 0.1 * jax.random.normal(jax.random.key(1), x.shape[1:])
        out, after = run(case, taps=tuple(sites), deltas={**zeros, site: delta})
        assert rel(after[site], x + delta[None]) <= 1e-5
        assert rel(flat(out), flat(plain)) > 1e-4, site


def test_an_unknown_site_is_refused_with_those_there_are(family):
    case, sites = family
    for asked in ({"taps": ("bottleneck",)}, {"deltas": {"bottleneck": jnp.zeros(())}}):
        with pytest.raises(SiteError, match="'bottleneck'") as e:
            run(case, **asked)
        assert all(site in str(e.value) for site in sites)


def test_a_delta_that_does_not_fit_is_refused():
    case, _ = jitted("unet")
    with pytest.raises(SiteError, match="does not broadcast to the site's"):
        run(case, deltas={"mid": jnp.zeros((2, 1, 1, 3))})
    with pytest.raises(SiteError, match="does not broadcast to the site's"):
        run(case, deltas={"mid": jnp.zeros((7, 1, 1, 1))})


def test_the_unets_output_has_a_gradient_in_its_middle():
    port, inputs = unet_case()

    def loss(delta):
        return jnp.square(port.apply(port.params, *inputs, deltas={"mid": delta})).sum()

    grad = jax.jit(jax.grad(loss))(jnp.zeros((1, 1, 1, 16)))
    step = jnp.zeros((1, 1, 1, 16)).at[..., 3].set(1e-2)
    numeric = (loss(step) - loss(-step)) / 2e-2
    assert abs(float(grad[0, 0, 0, 3] - numeric)) < 2e-2 * abs(float(numeric))


def test_a_delta_in_the_middle_does_not_reach_back():
    case, _ = jitted("unet")
    _, plain = run(case, taps=("down.0", "mid"))
    _, moved = run(case, taps=("down.0", "mid"), deltas={"mid": jnp.ones(())})
    np.testing.assert_array_equal(plain["down.0"], moved["down.0"])
    assert rel(moved["mid"], plain["mid"] + 1) <= 1e-5


@pytest.mark.parametrize("load_case", [unet_case, ddpm_case])
def test_a_unet_in_two_halves_is_the_whole(load_case):
    port, inputs = load_case()
    out, taps = port.apply(port.params, *inputs, taps=("mid",))
    apply = jax.jit(port.apply, static_argnames=("method",))
    h, rest = apply(port.params, *inputs, method="down")
    assert rel(h, taps["mid"]) <= 1e-6
    assert rel(apply(port.params, h, rest, method="up"), out) <= 1e-6
    moved = port.apply(port.params, *inputs, deltas={"mid": jnp.ones(())})
    assert rel(apply(port.params, h + 1, rest, method="up"), moved) <= 1e-5
    with pytest.raises(SiteError, match=r"no site 'down\.0' in this forward pass"):
        port.apply(port.params, h, rest, method="up", taps=("down.0",))
