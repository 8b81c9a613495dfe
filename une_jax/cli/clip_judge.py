"""A CLIP that looks at what a decoder paints, with a gradient all the way."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ports import clip, encoder, stable_diffusion
from ports.encoder import Encoder
from ports.preprocess import Preprocess
from ports.resample import resize
from une_jax.cli.names import Model
from une_jax.errors import UneError


class Judge(NamedTuple):
    """``look(params, images (b, s, s, 3) in [-1, 1])`` and ``read(texts)`` give
    embeddings that can be compared."""

    model: Model
    loaded: Encoder
    tokenizer: Any

    @property
    def params(self) -> Any:
        return self.loaded.port.params

    def look(self, params: Any, images: jax.Array) -> jax.Array:
        pixels = prepared(self.loaded.preprocess, images)
        return self.loaded.port.apply(params, pixels, method="encode_image")

    def read(self, texts: Sequence[str]) -> jax.Array:
        ids = jnp.asarray(stable_diffusion.token_ids(self.tokenizer, list(texts)))
        return self.loaded.port.apply(self.params, ids, method="encode_text")


def load(model: Model) -> Judge:
    """Any CLIP or OpenCLIP. UneError where it has no text tower."""
    loaded = encoder.load(model.source, revision=model.revision)
    config = loaded.port.config
    if not isinstance(config, clip.Config) or config.text is None:
        raise UneError(f"{model.source} reads no text: choose a CLIP with --judge")
    tokenizer = stable_diffusion.load_tokenizer(model.source, revision=model.revision)
    return Judge(model, loaded, tokenizer)


def prepared(steps: Preprocess, images: jax.Array) -> jax.Array:
    """A CLIP's own preprocessing of square images, on floats and with a gradient.

    The filter is Pillow's, without its rounding to whole levels; images a decoder
    paints beyond black or white are cut off, as a file of them would be.
    """
    x = jnp.clip((images.astype(jnp.float32) + 1) / 2, 0, 1)
    size = (steps.size, steps.size)
    if steps.filter == "bicubic":
        for shape in ((x.shape[1], steps.size), size):  # an axis at a time, as Pillow
            x = jnp.clip(resize(x, shape, antialias=True), 0, 1)
    elif x.shape[1:3] != size:
        x = jax.image.resize(x, (len(x), *size, 3), "linear", antialias=True)
    margin = steps.size - (steps.crop or steps.size)
    if margin < 0:
        raise UneError("a judge that pads its images is not supported")
    low = margin // 2
    x = x[:, low : low + steps.side, low : low + steps.side]
    mean, std = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (steps.mean, steps.std))  # fmt: skip
    return (255 * steps.rescale * x - mean) / std
