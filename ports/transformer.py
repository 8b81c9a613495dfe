"""The UNet's transformer: pixels as tokens that attend to each other and to text."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.conditioning import KeysValues, for_batch
from ports.layers import GroupNorm, LayerNorm, Linear, attend, gelu


class Attention(nnx.Module):
    """Self-attention, or cross-attention: to what ``keys_values`` made."""

    def __init__(self, d: int, d_context: int, heads: int, *, rngs: nnx.Rngs):
        self.to_q = Linear(d, d, bias=False, rngs=rngs)
        self.to_k = Linear(d_context, d, bias=False, rngs=rngs)
        self.to_v = Linear(d_context, d, bias=False, rngs=rngs)
        self.to_out = nnx.List([Linear(d, d, rngs=rngs)])
        self.heads = heads

    def keys_values(self, context: Float[Array, "r s e"]) -> KeysValues:
        return self.to_k(context), self.to_v(context)

    def __call__(
        self, x: Float[Array, "b t d"], keys_values: KeysValues
    ) -> Float[Array, "b t d"]:
        def split(y):
            return y.reshape(*y.shape[:2], self.heads, -1)

        k, v = keys_values
        if len(k) > 1:  # attend() itself broadcasts one
            k, v = for_batch(k, len(x)), for_batch(v, len(x))
        out = attend(split(self.to_q(x)), split(k), split(v))
        return self.to_out[0](out.reshape(x.shape))


class Geglu(nnx.Module):
    """Linear layer whose second half gates the first (GEGLU)."""

    def __init__(self, d: int, hidden: int, *, rngs: nnx.Rngs):
        self.proj = Linear(d, 2 * hidden, rngs=rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h"]:
        value, gate = jnp.split(self.proj(x), 2, axis=-1)
        return value * gelu(gate)


class FeedForward(nnx.Module):
    """Gated MLP, four times as wide inside."""

    def __init__(self, d: int, *, rngs: nnx.Rngs):
        # net.1 is torch's dropout: no weights.
        self.net = nnx.Dict(
            {"0": Geglu(d, 4 * d, rngs=rngs), "2": Linear(4 * d, d, rngs=rngs)}
        )

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.net["2"](self.net["0"](x))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention, gated MLP; each pre-norm and residual."""

    def __init__(self, d: int, d_context: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(d, eps=1e-5)
        self.attn1 = Attention(d, d, heads, rngs=rngs)
        self.norm2 = LayerNorm(d, eps=1e-5)
        self.attn2 = Attention(d, d_context, heads, rngs=rngs)
        self.norm3 = LayerNorm(d, eps=1e-5)
        self.ff = FeedForward(d, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t d"], text: KeysValues
    ) -> Float[Array, "b t d"]:
        y = self.norm1(x)
        x = x + self.attn1(y, self.attn1.keys_values(y))
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer(nnx.Module):
    """diffusers' Transformer2DModel: pixels as tokens, with a residual.

    Its GroupNorm has eps 1e-6 whatever the UNet's ``norm_eps`` says.
    """

    def __init__(
        self,
        d: int,
        d_context: int,
        heads: int,
        *,
        layers: int,
        groups: int,
        rngs: nnx.Rngs,
    ):
        self.norm = GroupNorm(groups, d, eps=1e-6)
        self.proj_in = Linear(d, d, rngs=rngs)  # a 1x1 convolution in SD 1.x files
        self.transformer_blocks = nnx.List(
            [TransformerBlock(d, d_context, heads, rngs=rngs) for _ in range(layers)]
        )
        self.proj_out = Linear(d, d, rngs=rngs)

    def tell(self, context: Float[Array, "r s e"]) -> tuple[KeysValues, ...]:
        """The text's keys and values for each block."""
        return tuple(b.attn2.keys_values(context) for b in self.transformer_blocks)

    def __call__(
        self, x: Float[Array, "b h w d"], text: tuple[KeysValues, ...]
    ) -> Float[Array, "b h w d"]:
        b, h, w, d = x.shape
        y = self.proj_in(self.norm(x).reshape(b, h * w, d))
        for block, keys_values in zip(self.transformer_blocks, text, strict=True):
            y = block(y, keys_values)
        return x + self.proj_out(y).reshape(x.shape)
