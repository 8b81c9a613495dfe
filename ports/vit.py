"""The vision transformer that the DINO families share.

Its parameters have the names of DINOv3's files (``layer.0.attention.q_proj.weight``);
the rules of the older families map theirs onto them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.layers import ACTIVATIONS, Conv, LayerNorm, Linear, attend
from ports.load import Rule, conv, keep, linear
from ports.resample import resize
from ports.sites import Site, untouched

Rotate = Callable[[Array], Array]


class Features(NamedTuple):
    """The tokens after the final norm, by kind; ``cls`` is the image's embedding.

    ``patches`` are a map of the image; r is zero in families without registers.
    """

    cls: Float[Array, "b d"]
    registers: Float[Array, "b r d"]
    patches: Float[Array, "b h w d"]


class Attention(nnx.Module):
    """Multi-head self-attention; ``biases`` are those of q, k, v and the output."""

    def __init__(
        self,
        d: int,
        heads: int,
        biases: tuple[bool, bool, bool, bool],
        *,
        rngs: nnx.Rngs,
    ):
        q, k, v, o = biases
        self.q_proj = Linear(d, d, bias=q, rngs=rngs)
        self.k_proj = Linear(d, d, bias=k, rngs=rngs)
        self.v_proj = Linear(d, d, bias=v, rngs=rngs)
        self.o_proj = Linear(d, d, bias=o, rngs=rngs)
        self.heads = heads

    def __call__(
        self, x: Float[Array, "b t d"], rotate: Rotate
    ) -> Float[Array, "b t d"]:
        b, t, d = x.shape
        split = (b, t, self.heads, d // self.heads)
        q, k, v = (p(x).reshape(split) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(attend(rotate(q), rotate(k), v).reshape(x.shape))


class Mlp(nnx.Module):
    """``down(act(up(x)))``, or ``down(act(gate(x)) * up(x))`` where it is gated."""

    def __init__(
        self,
        d: int,
        hidden: int,
        activation: str,
        *,
        gated: bool = False,
        bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.gate_proj = Linear(d, hidden, bias=bias, rngs=rngs) if gated else None
        self.up_proj = Linear(d, hidden, bias=bias, rngs=rngs)
        self.down_proj = Linear(hidden, d, bias=bias, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        act, up = ACTIVATIONS[self.activation], self.up_proj(x)
        y = act(up) if self.gate_proj is None else act(self.gate_proj(x)) * up
        return self.down_proj(y)


class LayerScale(nnx.Module):
    """A learned factor for each channel; nothing where ``value`` is None."""

    def __init__(self, d: int, value: float | None):
        self.lambda1 = None if value is None else nnx.Param(jnp.full(d, float(value)))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        if self.lambda1 is None:
            return x
        return x * self.lambda1[...].astype(x.dtype)[None, None]


class Block(nnx.Module):
    """Pre-norm transformer layer."""

    def __init__(
        self,
        d: int,
        attention: Attention,
        mlp: Mlp,
        *,
        eps: float,
        layer_scale: float | None = None,
    ):
        self.norm1 = LayerNorm(d, eps=eps)
        self.attention = attention
        self.layer_scale1 = LayerScale(d, layer_scale)
        self.norm2 = LayerNorm(d, eps=eps)
        self.mlp = mlp
        self.layer_scale2 = LayerScale(d, layer_scale)

    def __call__(
        self, x: Float[Array, "b t d"], rotate: Rotate
    ) -> Float[Array, "b t d"]:
        x = x + self.layer_scale1(self.attention(self.norm1(x), rotate))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class Embeddings(nnx.Module):
    """A class token, registers and patches, with learned positions if ``side``.

    ``side`` is that of the square of patches whose positions are stored, and
    ``registers`` None where the checkpoint's class has no such tensor. Positions are
    of the class token and the patches; registers have none.
    """

    def __init__(
        self,
        d: int,
        *,
        channels: int,
        patch: int,
        registers: int | None = None,
        side: int | None = None,
        antialias: bool = False,
        rngs: nnx.Rngs,
    ):
        def tokens(n: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, n, d)))

        self.cls_token = tokens(1)
        self.register_tokens = None if registers is None else tokens(registers)
        self.patch_embeddings = Conv(
            channels, d, patch, stride=patch, padding=((0, 0), (0, 0)), rngs=rngs
        )
        self.position_embeddings = None if side is None else tokens(1 + side**2)
        self.side, self.antialias = side, antialias

    def __call__(
        self, pixels: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b t d"], tuple[int, int]]:
        """The tokens, and the height and width of the map of patches."""
        patches = self.patch_embeddings(pixels)
        b, h, w, d = patches.shape
        first = [self.cls_token[...]]
        if self.position_embeddings is not None:
            places = self.position_embeddings[...]
            grid = places[:, 1:].reshape(1, self.side, self.side, d)
            grid = resize(grid, (h, w), antialias=self.antialias)
            first = [first[0] + places[:, :1]]
            patches = patches + grid.astype(patches.dtype)
        if self.register_tokens is not None:
            first += [self.register_tokens[...]]
        first = [
            jnp.broadcast_to(x.astype(patches.dtype), (b, *x.shape[1:])) for x in first
        ]
        return jnp.concatenate([*first, patches.reshape(b, h * w, d)], axis=1), (h, w)


class Vit(nnx.Module):
    """Embeddings, blocks and a final norm; pixels are NHWC, preprocessed.

    Any size of image: what is left over beyond whole patches is cut off.
    """

    def __init__(self, embeddings: Embeddings, layer: Sequence[Block], norm: LayerNorm):
        self.embeddings = embeddings
        self.layer = nnx.List(layer)
        self.norm = norm

    def rotation(self, h: int, w: int) -> Rotate:
        """How queries and keys turn by their place on the map: here, not at all."""
        del h, w
        return lambda x: x

    def __call__(
        self, pixels: Float[Array, "b h w c"], site: Site = untouched
    ) -> Features:
        """The class token, the registers and the patches."""
        x, (h, w) = self.embeddings(pixels)
        rotate = self.rotation(h, w)
        for i, block in enumerate(self.layer):
            x = site(f"block.{i}", block(x, rotate))
        x = site("norm", self.norm(x))
        b, t, d = x.shape
        first = t - h * w
        return Features(x[:, 0], x[:, 1:first], x[:, first:].reshape(b, h, w, d))

    def encode_image(
        self, pixels: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b d"]:
        """The class token after the final norm."""
        return self(pixels, site).cls


def square(key: str, value: Any) -> int:
    """The side of a size that config.json gives as one number or as two equal ones."""
    sides = set(value) if isinstance(value, tuple) else {value}
    if len(sides) != 1:
        raise CheckpointError(
            f"config.json: {key} = {list(value)} is not supported: it must be square"
        )
    return sides.pop()


def head_size(width: int, heads: int, *, multiple: int = 1) -> int:
    """The channels of one head; CheckpointError where they are not whole."""
    if width % heads or (width // heads) % multiple:
        whole = f"multiples of {multiple}" if multiple > 1 else "whole"
        raise CheckpointError(
            f"config.json: hidden_size {width} / num_attention_heads {heads} gives "
            f"head sizes that are not {whole}"
        )
    return width // heads


def rules(prefix: str, layer: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """The table of a family before DINOv3.

    ``prefix`` is that of a trunk under a head, ``layer`` the pattern of the stack of
    blocks, ``names`` the patterns of layers in a block -> their names here.

    Where a pattern has two spellings, the first is that of the published files and of
    what transformers saves by default; the second, transformers 5's own, is what it
    saves with ``save_original_format=False``.
    """
    names = {
        r"attention\.(?:attention\.query|q_proj)": "attention.q_proj",
        r"attention\.(?:attention\.key|k_proj)": "attention.k_proj",
        r"attention\.(?:attention\.value|v_proj)": "attention.v_proj",
        r"attention\.(?:output\.dense|o_proj)": "attention.o_proj",
        **names,
    }
    tokens = "cls_token|register_tokens|position_embeddings"
    return (
        *(
            Rule(
                rf"{prefix}{layer}\.(\d+)\.{theirs}\.(weight|bias)",
                rf"layer.\1.{ours}.\2",
                linear,
            )
            for theirs, ours in names.items()
        ),
        Rule(rf"{prefix}layernorm\.(weight|bias)", r"norm.\1", keep),
        Rule(rf"{prefix}embeddings\.({tokens})", r"embeddings.\1", keep),
        Rule(
            rf"{prefix}embeddings\.patch_embeddings\.projection\.(weight|bias)",
            r"embeddings.patch_embeddings.\1",
            conv,
        ),
        Rule(rf"{prefix}embeddings\.mask_token", None),  # only training masks patches
        Rule(r"classifier\.(?:weight|bias)", None),
    )
