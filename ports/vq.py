"""VQModel, the VQGAN of latent diffusion (diffusers' layout, both key vintages).

Images (b, h, w, 3) in [-1, 1] <-> latents (b, h', w', n), n = ``vq_embed_dim``, each
edge 2^(levels - 1) times smaller. Latents are those BEFORE quantisation: ``encode``
gives them, ``decode`` first puts the nearest entry of the codebook in each one's place.
Source: Esser et al., "Taming Transformers" (arXiv 2012.09841), as in diffusers' class.
"""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ports import blocks
from ports.layers import Conv, Embedding
from ports.load import Port, Rule, keep, load_port, only, read_config
from ports.sites import Site, untouched
from ports.vae import Decoder, Encoder, Shape


@dataclass(frozen=True, kw_only=True)
class Config(Shape):
    """The keys of the checkpoint's ``config.json`` that shape the network."""

    latent_channels: int = 3
    num_vq_embeddings: int = 256
    vq_embed_dim: int | None = None  # None: latent_channels
    norm_type: str = "group"

    def __post_init__(self):
        super().__post_init__()
        only("norm_type", (self.norm_type,), ("group",))

    @property
    def width(self) -> int:
        """Numbers in a latent, and in an entry of the codebook."""
        return self.vq_embed_dim or self.latent_channels


class Quantizer(nnx.Module):
    """``(quantised, indices)``: the codebook's nearest entry to each latent.

    The entries come with the latents' gradient (straight-through estimator); the
    codebook itself gets none from here.
    """

    def __init__(self, n: int, d: int, *, rngs: nnx.Rngs):
        self.embedding = Embedding(n, d, rngs=rngs)

    def __call__(
        self, latents: Float[Array, "b h w d"], site: Site = untouched
    ) -> tuple[Float[Array, "b h w d"], Int[Array, "b h w"]]:
        del site
        book = self.embedding.weight[...].astype(latents.dtype)
        # In float32 whatever the latents are in: near neighbours differ late. |z|² is
        # the same for every entry of the codebook, so it is left out.
        z, e = (x.astype(jnp.float32) for x in (latents, book))
        products = jnp.einsum(
            "bhwd,nd->bhwn", z, e, precision=jax.lax.Precision.HIGHEST
        )
        lengths = jnp.square(e).sum(-1)[None, None, None]
        indices = (lengths - 2 * products).argmin(-1)
        codes = jax.lax.stop_gradient(jnp.take(book, indices, axis=0, mode="clip"))
        # The entries to the last bit (and NaN where the latent is), not z + (e - z).
        return codes + (latents - jax.lax.stop_gradient(latents)), indices


class VQModel(nnx.Module):
    """Encoder, codebook and decoder with their 1x1 convolutions.

    >>> from ports.port import init
    >>> config = Config(block_out_channels=(8,), norm_num_groups=4)
    >>> port = init(VQModel, config, jax.random.key(0))
    >>> images = jnp.zeros((2, 8, 8, 3))
    >>> latents = port.apply(port.params, images, method="encode")
    >>> codes, indices = port.apply(port.params, latents, method="quantize")
    >>> codes.shape, indices.shape
    ((2, 8, 8, 3), (2, 8, 8))
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        n, d = config.latent_channels, config.width
        self.encoder = Encoder(config, n, rngs=rngs)
        self.quant_conv = Conv(n, d, 1, rngs=rngs)
        # Also the method of this name.
        self.quantize = Quantizer(config.num_vq_embeddings, d, rngs=rngs)
        self.post_quant_conv = Conv(d, n, 1, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)

    def encode(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 d"]:
        """The latents before quantisation."""
        return self.quant_conv(self.encoder(images, site))

    def decode(
        self, latents: Float[Array, "b h w d"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 o"]:
        """Latents, quantised or not, to images: re-quantises first."""
        codes, _ = self.quantize(latents)
        return self.decoder(self.post_quant_conv(codes), site)

    def __call__(
        self, images: Float[Array, "b h w c"], site: Site = untouched
    ) -> Float[Array, "b h2 w2 o"]:
        """The reconstruction: decode(encode(images))."""
        return self.decode(self.encode(images, site), site)


RULES = (
    *blocks.RULES,
    Rule(r"quantize\.embedding\.weight", "quantize.embedding.weight", keep),
)
CLASS_NAMES = ("VQModel",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a VQModel directory or hub id.

    ``port.apply(params, images)`` reconstructs; ``method="encode"`` gives the latents
    before quantisation, ``"quantize"`` their codebook entries and indices, ``"decode"``
    images of either. Raises CheckpointError where the files do not fit or ask for what
    is not here.

    >>> vq = load("ldm-celebahq", subfolder="vqvae")               # doctest: +SKIP
    >>> latents = vq.apply(vq.params, images, method="encode")     # doctest: +SKIP
    >>> images = vq.apply(vq.params, latents, method="decode")     # doctest: +SKIP
    """
    return load_port(
        path_or_id,
        VQModel,
        ft.partial(read_config, Config),
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
