"""The blocks that diffusers' convolutional UNets and autoencoders share, and the rules
by which their weights load (attention under both vintages of its names)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.layers import Conv, GroupNorm, Linear, attend
from ports.load import Rule, conv, keep, linear_from_any

Resize = Literal["down", "up"]


class ResnetBlock(nnx.Module):
    """norm, SiLU, conv, (+ time), norm, SiLU, conv, + shortcut.

    ``scale_shift``: time scales and shifts what the second norm gives, instead of being
    added before it (ADM's adaptive group normalisation, arXiv 2105.05233). ``resize``: the
    image is halved or doubled before the first convolution, and on the shortcut.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        groups: int,
        eps: float,
        time_dim: int | None = None,
        scale_shift: bool = False,
        resize: Resize | None = None,
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(groups, n_in, eps=eps)
        self.conv1 = Conv(n_in, n_out, rngs=rngs)
        if time_dim is not None:
            n_time = 2 * n_out if scale_shift else n_out
            self.time_emb_proj = Linear(time_dim, n_time, rngs=rngs)
        self.norm2 = GroupNorm(groups, n_out, eps=eps)
        self.conv2 = Conv(n_out, n_out, rngs=rngs)
        if n_in != n_out:
            self.conv_shortcut = Conv(n_in, n_out, 1, rngs=rngs)
        self.scale_shift, self.resize = scale_shift, resize

    def offset(self, time: Float[Array, "n d"]) -> Float[Array, "n o"]:
        """What time embeddings add to every pixel; of ``scale_shift``, both beside each
        other."""
        return self.time_emb_proj(jax.nn.silu(time))

    def __call__(
        self, x: Float[Array, "b h w i"], offset: Float[Array, "b d"] | None = None
    ) -> Float[Array, "b h2 w2 o"]:
        y = jax.nn.silu(self.norm1(x))
        if self.resize is not None:
            resize = doubled if self.resize == "up" else halved
            x, y = resize(x), resize(y)
        y = self.conv1(y)
        if offset is not None:
            offset = offset[:, None, None, :]
        if self.scale_shift:
            assert offset is not None
            scale, shift = jnp.split(offset, 2, axis=-1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y if offset is None else y + offset)
        y = self.conv2(jax.nn.silu(y))
        if hasattr(self, "conv_shortcut"):
            x = self.conv_shortcut(x)
        return x + y


def halved(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """The mean of every 2x2 pixels; edges are even.

    >>> halved(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel().tolist()
    [1.5]
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def doubled(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Every pixel 2x2 times.

    >>> doubled(jnp.ones((1, 2, 3, 1))).shape
    (1, 4, 6, 1)
    """
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class Downsample(nnx.Module):
    """Stride-2 convolution; the VAE pads bottom and right only, the UNet all round."""

    def __init__(self, n: int, *, padding: tuple[int, int] = (1, 1), rngs: nnx.Rngs):
        self.conv = Conv(n, n, stride=2, padding=(padding, padding), rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest-neighbour doubling, then a convolution.

    ``size`` is the skip connection's, one less than double after an odd image.
    """

    def __init__(self, n: int, *, rngs: nnx.Rngs):
        self.conv = Conv(n, n, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"], *, size: tuple[int, ...] | None = None
    ) -> Float[Array, "b h2 w2 c"]:
        x = doubled(x)
        if size is not None:
            x = x[:, : size[0], : size[1]]
        return self.conv(x)


class SelfAttention(nnx.Module):
    """Self-attention over the pixels, with a residual; ``groups`` None: without a norm."""

    def __init__(
        self, n: int, *, groups: int | None, eps: float, heads: int = 1, rngs: nnx.Rngs
    ):
        if groups is not None:
            self.group_norm = GroupNorm(groups, n, eps=eps)
        self.to_q = Linear(n, n, rngs=rngs)
        self.to_k = Linear(n, n, rngs=rngs)
        self.to_v = Linear(n, n, rngs=rngs)
        self.to_out = nnx.List([Linear(n, n, rngs=rngs)])
        self.heads = heads

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        y = self.group_norm(x) if hasattr(self, "group_norm") else x
        y = y.reshape(b, h * w, c)
        q, k, v = (
            project(y).reshape(b, h * w, self.heads, c // self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        y = attend(q, k, v).reshape(b, h * w, c)
        return x + self.to_out[0](y).reshape(x.shape)


_CONV = r"(?:.*\.)?(?:quant_|post_quant_)?conv(?:1|2|_in|_out|_shortcut)?"
_NORM = r"(?:.*\.)?(?:norm1|norm2|group_norm|conv_norm_out)"
_ATTENTION = r".*attentions\.\d+"
_PROJECTION = rf"{_ATTENTION}\.to_(?:q|k|v|out\.0)"
# Checkpoints from before diffusers 0.15 spell the attention's layers differently.
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

RULES = (
    Rule(rf"({_CONV})\.weight", r"\1.weight", conv),
    Rule(rf"({_NORM})\.weight", r"\1.weight", keep),
    Rule(rf"({_PROJECTION})\.weight", r"\1.weight", linear_from_any),
    Rule(rf"({_CONV}|{_NORM}|{_PROJECTION})\.bias", r"\1.bias", keep),
    *(
        Rule(rf"({_ATTENTION})\.{old}\.{leaf}", rf"\1.{new}.{leaf}", transform)
        for old, new in _OLD.items()
        for leaf, transform in (("weight", linear_from_any), ("bias", keep))
    ),
)
