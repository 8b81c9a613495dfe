"""torch's layers: against float64 numpy, and each fast form against the plain one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from flax import nnx

from ports import layers


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


# Activations


def test_gelu_is_exact():
    x = jnp.linspace(-6, 6, 2001)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    assert np.abs(np.asarray(layers.gelu(x)) - exact).max() < 1e-6
    # The tanh approximation, JAX's default, is far outside that.
    assert 2e-4 < np.abs(np.asarray(layers.gelu_tanh(x)) - exact).max() < 1e-3


def test_quick_gelu():
    x = jnp.linspace(-6, 6, 2001)
    exact = np.float64(x) / (1 + np.exp(-1.702 * np.float64(x)))
    assert np.abs(np.asarray(layers.quick_gelu(x)) - exact).max() < 1e-6


def test_checkpoints_name_their_activation():
    x = jnp.linspace(-3, 3, 7)
    names = {"gelu": layers.gelu, "quick_gelu": layers.quick_gelu}
    names |= {"gelu_pytorch_tanh": layers.gelu_tanh, "gelu_new": layers.gelu_tanh}
    for name, function in names.items():
        assert rel(layers.ACTIVATIONS[name](x), function(x)) == 0


# Norms


def affine(rng, norm, n):
    """The norm with weight and bias that are not one and zero."""
    norm.weight[...], norm.bias[...] = normal(rng, n), normal(rng, n)
    return np.float64(norm.weight[...]), np.float64(norm.bias[...])


def standardized(x, axes, eps):
    x = x.astype(np.float64)
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps)


@pytest.mark.parametrize("mean", [0, 100])
def test_group_norm_keeps_its_precision_far_from_zero(rng, mean):
    """At mean 100 the one-pass E[x^2] - E[x]^2 errs a hundred times more than this."""
    b, h, w, groups, width = 2, 9, 7, 4, 5
    norm = layers.GroupNorm(groups, groups * width, eps=1e-6)
    weight, bias = affine(rng, norm, groups * width)
    x = mean + normal(rng, b, h, w, groups * width)
    grouped = standardized(x.reshape(b, h, w, groups, width), (1, 2, 4), 1e-6)
    expected = grouped.reshape(x.shape) * weight + bias
    assert rel(norm(jnp.asarray(x)), expected) < (3e-5 if mean else 1e-6)


@pytest.mark.parametrize("mean", [0, 100])
def test_layer_norm_keeps_its_precision_far_from_zero(rng, mean):
    norm = layers.LayerNorm(320, eps=1e-5)
    weight, bias = affine(rng, norm, 320)
    x = mean + normal(rng, 2, 5, 320)
    expected = standardized(x, (-1,), 1e-5) * weight + bias
    assert rel(norm(jnp.asarray(x)), expected) < (3e-5 if mean else 1e-6)


@pytest.mark.parametrize("eps", [1e-6, 1e-1])
def test_norms_use_their_epsilon(rng, eps):
    x = 1e-2 * normal(rng, 2, 3, 8)
    group, layer = layers.GroupNorm(2, 8, eps=eps), layers.LayerNorm(8, eps=eps)
    grouped = standardized(x.reshape(2, 3, 2, 4), (1, 3), eps).reshape(x.shape)
    assert rel(group(jnp.asarray(x)), grouped) < 1e-5
    assert rel(layer(jnp.asarray(x)), standardized(x, (-1,), eps)) < 1e-5


def test_norms_of_half_precision_accumulate_in_float32(rng):
    """They are as good as the float32 norm of the same values, but for one rounding."""
    x = jnp.asarray(100 + normal(rng, 2, 8, 8, 16), jnp.bfloat16)
    full = x.astype(jnp.float32)
    for norm in (layers.GroupNorm(4, 16, eps=1e-6), layers.LayerNorm(16, eps=1e-6)):
        assert norm(x).dtype == jnp.bfloat16
        np.testing.assert_array_equal(norm(x), norm(full).astype(jnp.bfloat16))


# Linear and convolution


def test_linear(rng):
    x, linear = normal(rng, 2, 3, 5), layers.Linear(5, 7, rngs=nnx.Rngs(0))
    weight, bias = np.float64(linear.weight[...]), np.float64(linear.bias[...])
    assert rel(linear(jnp.asarray(x)), x.astype(np.float64) @ weight + bias) < 1e-6
    assert linear(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


# Attention


def attention(q, k, v, causal=False):
    """The definition, in float64; k and v may serve a whole batch."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.broadcast_to(x, (len(q), *x.shape[1:])) for x in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, v)


def loops(*args):
    """Whether attend goes by blocks on these shapes (traced afresh)."""
    return "while" in jax.jit(lambda *x: layers.attend(*x)).lower(*args).as_text()


def qkv(rng, tq, tk, *, b=2, shared=False, heads=3, d=5):
    kv = (1 if shared else b, tk, heads, d)
    shapes = ((b, tq, heads, d), kv, kv)
    return [3 * normal(rng, *shape) for shape in shapes]


@pytest.mark.parametrize(
    ("tq", "tk", "shared"),
    [(7, 4, False), (16, 5, True), (21, 21, False), (21, 21, True)],
)
def test_attention_by_blocks_and_whole(rng, monkeypatch, tq, tk, shared):
    q, k, v = qkv(rng, tq, tk, shared=shared)
    expected = attention(q, k, v)
    args = [jnp.asarray(x) for x in (q, k, v)]
    assert rel(layers.attend(*args), expected) < 2e-6

    monkeypatch.setattr(layers, "_BLOCK", 8)
    with monkeypatch.context() as patch:
        patch.setattr(layers, "_CPU_SCORES", 0)
        assert loops(*args)  # by heads where there are many queries, else by rows
        assert rel(layers.attend(*args), expected) < 2e-6
    # On a device: four queries at a time, then one.
    for limit in (4 * 2 * 3 * tk, 0):
        monkeypatch.setattr(layers, "_DEVICE_SCORES", limit)
        monkeypatch.setattr(layers, "_CHUNK_SCORES", limit)
        assert loops(*args)
        assert rel(layers.attend(*args), expected) < 2e-6


def test_derivatives_of_attention_keep_no_scores(rng, monkeypatch):
    """In any form, a step from kept scores and one from those computed again agree."""
    b, tq, tk, heads = 2, 24, 20, 3
    q, k, v = (jnp.asarray(x) for x in qkv(rng, tq, tk, b=b, heads=heads))
    towards = jnp.asarray(normal(rng, *q.shape))
    expected = jax.grad(lambda *x: jnp.vdot(layers._whole(*x), towards), (0, 1, 2))

    def kept():
        """The numbers of the largest array that a derivative keeps."""
        pull = jax.eval_shape(lambda *x: jax.vjp(lambda *y: layers.attend(*y), *x)[1], q, k, v)  # fmt: skip
        return max(leaf.size for leaf in jax.tree.leaves(pull))

    assert kept() >= b * heads * tq * tk  # few are kept, which is faster
    monkeypatch.setattr(layers, "_CPU_SCORES", 0)
    for block, scores in ((8, 2**28), (64, 2**28), (8, 0)):  # by heads, by rows
        monkeypatch.setattr(layers, "_BLOCK", block)
        monkeypatch.setattr(layers, "_DEVICE_SCORES", scores)
        assert kept() < b * heads * tq * tk
        got = jax.grad(lambda *x: jnp.vdot(layers.attend(*x), towards), (0, 1, 2))
        for one, other in zip(got(q, k, v), expected(q, k, v), strict=True):
            assert rel(one, other) < 2e-6


def test_attention_goes_by_blocks_where_the_scores_would_be_large():
    def blocked(tq, tk, heads=1, b=1):
        q = jax.ShapeDtypeStruct((b, tq, heads, 8), jnp.float32)
        k = jax.ShapeDtypeStruct((b, tk, heads, 8), jnp.float32)
        return loops(q, k, k)

    assert blocked(4096, 4096)  # the VAE's middle at 512 pixels
    assert not blocked(1024, 1024)
    assert not blocked(256, 256, heads=8)
    assert not blocked(512, 4096)  # one row of few queries: nothing to divide
    assert blocked(257, 257, heads=16, b=8)  # ViT-L/14
    assert not blocked(257, 257, heads=15, b=1)


@pytest.mark.parametrize("shared", [False, True])
def test_causal_attention(rng, shared):
    q, k, v = qkv(rng, 9, 9, shared=shared)
    expected = attention(q, k, v, causal=True)
    args = [jnp.asarray(x) for x in (q, k, v)]
    assert rel(layers.attend(*args, causal=True), expected) < 2e-6
    assert rel(expected[:, 0], np.broadcast_to(v[:, 0], expected[:, 0].shape)) < 1e-12


def test_attention_in_half_precision_sums_scores_in_float32(rng, monkeypatch):
    q, k, v = qkv(rng, 21, 33)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
    expected = attention(*(np.asarray(x, np.float32) for x in half))
    whole = layers.attend(*half)
    assert whole.dtype == jnp.bfloat16
    assert rel(whole, expected) < 8e-3
    monkeypatch.setattr(layers, "_DEVICE_SCORES", 0)
    monkeypatch.setattr(layers, "_CHUNK_SCORES", 0)
    assert rel(layers.attend(*half), expected) < 8e-3


def test_attention_of_large_scores_is_finite(rng):
    q, k, v = qkv(rng, 4, 4)
    args = [jnp.asarray(x) for x in (1e4 * q, k, v)]
    assert rel(layers.attend(*args), attention(1e4 * q, k, v)) < 1e-3
