"""Convolution: every form against the definition in float64, and which one runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from flax import nnx

from ports import convolution, layers
from ports.convolution import SAME, conv2d, winograd


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def convolved(x, weight, stride, padding):
    """The definition of a convolution, in float64."""
    kh, kw = weight.shape[:2]
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    h, w = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    out = np.zeros((len(x), h, w, weight.shape[3]))
    for i in range(h):
        for j in range(w):
            window = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
            out[:, i, j] = np.tensordot(window, weight.astype(np.float64), 3)
    return out


NONE, ROUND, CORNER = ((0, 0), (0, 0)), SAME, ((0, 1), (0, 1))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (3, 1, ROUND),
        (3, 2, ROUND),  # the UNet's downsampling
        (3, 2, CORNER),  # the VAE's
        (3, 1, ((2, 0), (1, 3))),
        (1, 1, NONE),  # a matrix product
        (1, 2, NONE),
        (4, 4, NONE),  # a patch embedding; what is left over is not seen
        (4, 4, ROUND),
        (2, 2, NONE),
    ],
)
@pytest.mark.parametrize("size", [(7, 9), (8, 6)])
def test_convolution_forms_agree(rng, monkeypatch, kernel, stride, padding, size):
    """The gathered form and the direct one, and those in between, on any size."""
    x, weight = normal(rng, 2, *size, 6), normal(rng, kernel, kernel, 6, 5)
    expected = convolved(x, weight, stride, padding)
    for channels in (1, 7):  # gathers from so many channels on
        monkeypatch.setattr(convolution, "_GATHER_CHANNELS", channels)
        got = conv2d(
            jnp.asarray(x), jnp.asarray(weight), stride=stride, padding=padding
        )
        assert rel(got, expected) < 1e-6


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 2), (5, 1)])
def test_winograd_is_the_same_convolution(rng, size):
    x, weight = normal(rng, 2, *size, 6), normal(rng, 3, 3, 6, 5)
    got = winograd(jnp.asarray(x), jnp.asarray(weight))
    assert rel(got, convolved(x, weight, 1, ROUND)) < 1e-6


def test_winograd_rounds_like_the_plain_convolution(rng):
    """At a UNet's width: its error against float64 is within twice the plain one's."""
    x, weight = normal(rng, 1, 8, 8, 320), normal(rng, 3, 3, 320, 32)
    exact = convolved(x, weight, 1, ROUND)
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    plain = convolution._direct(x, weight, 1, ROUND)
    error = rel(winograd(x, weight), exact)
    assert error < 2 * rel(plain, exact) + 1e-7  # which depends on the machine
    assert error < 2e-6


def test_winograd_differentiates_both_ways_and_maps(rng):
    x, weight = jnp.asarray(normal(rng, 1, 4, 5, 3)), jnp.asarray(normal(rng, 3, 3, 3, 2))  # fmt: skip
    dx = jnp.asarray(normal(rng, *x.shape))

    def plain(x, weight):
        return convolution._direct(x, weight, 1, ROUND)

    got = jax.jvp(winograd, (x, weight), (dx, weight))
    expected = jax.jvp(plain, (x, weight), (dx, weight))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected
    )
    got, expected = (
        jax.grad(lambda x, w, f=f: jnp.square(f(x, w)).sum(), (0, 1))(x, weight)
        for f in (winograd, plain)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, expected
    )
    many = jnp.stack([weight, 2 * weight])
    got = jax.vmap(winograd, (None, 0))(x, many)
    assert rel(got[1], 2 * got[0]) < 1e-6


def test_the_form_is_chosen_by_shape():
    """Small images with many channels, 3x3 kernels with room, and patches: matmuls."""

    def convolves(edge, n, kernel=3, stride=1, padding=ROUND, dtype=jnp.float32):
        x = jax.ShapeDtypeStruct((1, edge, edge, n), dtype)
        weight = jax.ShapeDtypeStruct((kernel, kernel, n, 64), dtype)

        def conv(x, weight):
            return conv2d(x, weight, stride=stride, padding=padding)

        return "stablehlo.convolution" in jax.jit(conv).lower(x, weight).as_text()

    assert not convolves(16, 256, stride=2)
    assert convolves(17, 256, stride=2)
    assert convolves(16, 255, stride=2)
    assert not convolves(32, 64)
    assert convolves(31, 64)
    assert convolves(32, 63)
    assert convolves(32, 64, dtype=jnp.bfloat16)
    assert convolves(32, 64, padding=CORNER)
    assert convolves(512, 128)
    assert not convolves(64, 3, kernel=8, stride=8, padding=NONE)
    assert not convolves(64, 3, kernel=1, padding=NONE)


def test_conv_keeps_the_size_and_adds_its_bias(rng):
    x, conv = normal(rng, 1, 5, 4, 3), layers.Conv(3, 2, rngs=nnx.Rngs(0))
    weight, bias = np.asarray(conv.weight[...]), np.asarray(conv.bias[...])
    assert np.abs(bias).min() > 0
    assert rel(conv(jnp.asarray(x)), convolved(x, weight, 1, ROUND) + bias) < 1e-6


@pytest.mark.parametrize("form", ["gathered", "winograd"])
def test_derivatives_keep_the_image_and_the_weight_alone(rng, monkeypatch, form):
    """Not each platform's patches and transformed tiles; by x nothing but the weight."""
    for name in ("GATHER_CHANNELS", "MIN_PIXELS", "MIN_CHANNELS"):
        never = form == "gathered" and name == "MIN_PIXELS"
        monkeypatch.setattr(convolution, f"_{name}", 2**20 if never else 1)
    x, weight = (jnp.asarray(normal(rng, *s)) for s in ((2, 8, 6, 4), (3, 3, 4, 5)))

    def kept(f, *args):
        pull = jax.eval_shape(lambda *a: jax.vjp(f, *a)[1], *args)
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    def conv(x, weight):
        return conv2d(x, weight, stride=1, padding=SAME)

    assert kept(conv, x, weight) <= x.size + weight.size
    assert kept(lambda x: conv(x, weight), x) <= weight.size
    towards = jnp.asarray(normal(rng, 2, 8, 6, 5))

    def loss(conv):
        return jax.grad(lambda *a: jnp.vdot(conv(*a), towards), (0, 1))(x, weight)

    plain = loss(lambda x, weight: convolution._direct(x, weight, 1, SAME))
    for got, expected in zip(loss(conv), plain, strict=True):
        assert rel(got, expected) < 2e-6
