"""torch's layers on NHWC arrays: same formulas, same epsilons, same activations.

Weights keep torch's names (``weight``, ``bias``) in Flax's layout: linear (in, out),
convolution (kh, kw, in, out). Every layer computes in the dtype of its input and
casts its weights to it; normalisation and softmax always accumulate in float32.
"""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from ports.convolution import Padding, conv2d

# Scores above these sizes leave the cache (CPU) or crowd the device: go by blocks.
_CPU_SCORES, _BLOCK = 2**20, 512
_DEVICE_SCORES, _CHUNK_SCORES = 2**28, 2**26


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact GELU (torch's default); JAX's own default is the tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """OpenAI CLIP's ``x * sigmoid(1.702 x)``."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation, for checkpoints that ask for it by name."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable] = {
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}


def _uniform(fan_in: int) -> Callable:
    """torch's default initialiser for Linear and Conv2d: U(+-1/sqrt(fan_in))."""
    bound = fan_in**-0.5

    def init(key, shape):
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    return init


class Linear(nnx.Module):
    """torch.nn.Linear: (..., in) -> (..., out)."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, rngs: nnx.Rngs):
        init = _uniform(n_in)
        self.weight = nnx.Param(init(rngs.params(), (n_in, n_out)))
        self.bias = nnx.Param(init(rngs.params(), (n_out,))) if bias else None

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        # As one matrix: XLA's CPU gradient of a batched product is slower.
        y = x.reshape(-1, x.shape[-1]) @ self.weight[...].astype(x.dtype)
        if self.bias is not None:
            y = y + _row(self.bias, y)
        return y.reshape(*x.shape[:-1], -1)


class Conv(nnx.Module):
    """torch.nn.Conv2d: (b, h, w, in) -> (b, h', w', out).

    ``padding`` is ((top, bottom), (left, right)); the default keeps the size at
    stride 1.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        bias: bool = True,
        rngs: nnx.Rngs,
    ):
        init = _uniform(n_in * kernel * kernel)
        self.weight = nnx.Param(init(rngs.params(), (kernel, kernel, n_in, n_out)))
        self.bias = nnx.Param(init(rngs.params(), (n_out,))) if bias else None
        self.stride = stride
        half = kernel // 2
        self.padding = ((half, half), (half, half)) if padding is None else padding

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        weight = self.weight[...].astype(x.dtype)
        y = conv2d(x, weight, stride=self.stride, padding=self.padding)
        if self.bias is None:
            return y
        return y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)


class GroupNorm(nnx.Module):
    """torch.nn.GroupNorm over (b, ..., c), with the two-pass variance."""

    def __init__(self, groups: int, n: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones(n))
        self.bias = nnx.Param(jnp.zeros(n))
        self.groups, self.eps = groups, eps

    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *s c"]:
        b, c = x.shape[0], x.shape[-1]
        y = x.astype(jnp.float32).reshape(b, -1, c)

        def group_mean(y):  # pixels first, then channels: both sums stay contiguous
            means = y.mean(1).reshape(b, self.groups, -1).mean(-1, keepdims=True)
            means = jnp.broadcast_to(means, (b, self.groups, c // self.groups))
            return means.reshape(b, 1, c)

        y = y - group_mean(y)
        scale = lax.rsqrt(group_mean(jnp.square(y)) + self.eps)
        y = y * (scale * _row(self.weight, y)) + _row(self.bias, y)
        return y.reshape(x.shape).astype(x.dtype)


class LayerNorm(nnx.Module):
    """torch.nn.LayerNorm over the last axis."""

    def __init__(self, n: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones(n))
        self.bias = nnx.Param(jnp.zeros(n))
        self.eps = eps

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * _row(self.weight, y) + _row(self.bias, y)).astype(x.dtype)


def _row(param: nnx.Param, like: Array) -> Array:
    return param[...].astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


class Embedding(nnx.Module):
    """torch.nn.Embedding: integer ids -> rows of ``weight`` (n, d)."""

    def __init__(self, n: int, d: int, *, scale: float = 0.02, rngs: nnx.Rngs):
        self.weight = nnx.Param(scale * jax.random.normal(rngs.params(), (n, d)))


def attend(
    q: Float[Array, "b tq heads d"],
    k: Float[Array, "#b tk heads d"],
    v: Float[Array, "#b tk heads d"],
    *,
    causal: bool = False,
) -> Float[Array, "b tq heads d"]:
    """softmax(q k^T / sqrt(d)) v, with the kernel that the platform runs best.

    ``k`` and ``v`` may have a batch of one (one prompt for all images). The choice
    is static: cuDNN on GPU in half precision; blocks of queries where the scores
    would not fit the CPU's cache or the device; XLA's own fusion elsewhere.
    Derivatives compute many scores again, block by block, and keep none.
    """
    b, tq, heads, d = q.shape
    k = jnp.broadcast_to(k, (b, *k.shape[1:]))
    v = jnp.broadcast_to(v, (b, *v.shape[1:]))
    if causal:  # text towers only: short
        return _whole(q, k, v, jnp.tri(tq, k.shape[1], dtype=bool))
    if _has_cudnn(q):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")

    scores = prod((b, heads, tq, k.shape[1]))
    device = _chunked if scores >= _DEVICE_SCORES else _whole
    if scores > _CPU_SCORES and (tq > _BLOCK or b > 1):
        cpu = _by_head if tq > _BLOCK else _by_row

        def by_platform(q, k, v):
            return lax.platform_dependent(q, k, v, cpu=cpu, default=device)

        return jax.checkpoint(by_platform)(q, k, v)
    return device(q, k, v)


def _whole(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """All scores at once, heads before tokens: plain batched matrix products.

    XLA's CPU backend runs these several times faster than the head-minor einsum of
    ``jax.nn.dot_product_attention``.
    """
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = jnp.matmul(q, k.mT, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask[None, None], scores, -jnp.inf)
    out = jax.nn.softmax(scores, axis=-1).astype(v.dtype) @ v
    return out.transpose(0, 2, 1, 3)


def _has_cudnn(q: Array) -> bool:
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if jax.default_backend() != "gpu" or not half or q.shape[-1] % 8:
        return False
    capability = getattr(jax.devices()[0], "compute_capability", "")
    major = capability.partition(".")[0]
    if not major.isdecimal():  # ROCm's are names
        return False
    return q.shape[-1] <= (256 if int(major) >= 9 else 128)


def _chunked(q: Array, k: Array, v: Array) -> Array:
    """As many queries at a time, in all heads, as their scores fit the device."""
    b, tq, heads, d = q.shape
    chunk = max(1, min(tq, _CHUNK_SCORES // (b * heads * k.shape[1])))
    chunks = -(-tq // chunk)
    q = jnp.pad(q, ((0, 0), (0, chunks * chunk - tq), (0, 0), (0, 0)))
    q = jnp.moveaxis(q.reshape(b, chunks, chunk, heads, d), 1, 0)
    out = lax.map(jax.checkpoint(lambda q: _whole(q, k, v)), q)
    return jnp.moveaxis(out, 0, 1).reshape(b, -1, heads, d)[:, :tq]


def _by_row(q: Array, k: Array, v: Array) -> Array:
    """One image of the batch at a time, in all heads: scores stay in cache."""

    def one_row(qkv):
        q, k, v = (x.transpose(1, 0, 2) for x in qkv)
        return _weighted(q, k, v).transpose(1, 0, 2)

    return lax.map(jax.checkpoint(one_row), (q, k, v))


def _by_head(q: Array, k: Array, v: Array) -> Array:
    """One head and ``_BLOCK`` queries at a time: scores stay in cache."""
    b, tq, heads, d = q.shape
    blocks = -(-tq // _BLOCK)
    q = jnp.pad(q, ((0, 0), (0, blocks * _BLOCK - tq), (0, 0), (0, 0)))

    def to_heads(x):  # (b, t, heads, d) -> (b * heads, t, d)
        return x.transpose(0, 2, 1, 3).reshape(b * heads, -1, d)

    def one_head(qkv):
        q, k, v = qkv
        each = jax.checkpoint(lambda q: _weighted(q, k, v))
        out = lax.map(each, q.reshape(blocks, _BLOCK, d))
        return out.reshape(-1, d)

    out = lax.map(one_head, (to_heads(q), to_heads(k), to_heads(v)))
    return out.reshape(b, heads, -1, d).transpose(0, 2, 1, 3)[:, :tq]


def _weighted(q: Array, k: Array, v: Array) -> Array:
    """Attention of (..., t, d), divided by the weights' sum last: on few numbers."""
    scores = jnp.matmul(q, k.mT, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (out / weights.sum(-1, keepdims=True)).astype(v.dtype)
