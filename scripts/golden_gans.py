"""The goldens of StyleGAN2 and of what judges its images, FID's InceptionV3."""

from typing import Any

import numpy as np
import torch

from scripts.golden_arrays import Golden, nchw, nhwc, normal
from scripts.reference_inception import Inception
from scripts.reference_stylegan2 import StyleGAN2

PLAIN = "model.safetensors"


def stylegan2_example(model: Any, rng: np.random.Generator) -> Golden:
    """From z by w, from W+ by styles, truncated, and with constant noise."""
    z, ws = normal(rng, 2, 6), normal(rng, 2, 6, 8)
    latents, plus = torch.from_numpy(z), torch.from_numpy(ws)
    return {
        "z": z,
        "ws": ws,
        "w": model.w(latents).numpy(),
        "truncated": model.w(latents, 0.5).numpy(),
        "styles": model.styles(plus).numpy(),
        "images": nhwc(model(latents)),
        "images_of_ws": nhwc(model.images(plus)),
        "noisy": nhwc(model(latents, noisy=True)),
    }


def inception_example(model: Any, rng: np.random.Generator) -> Golden:
    """Features, and the maps of 6e, of images that differ in more than noise."""
    images = rng.uniform(-1, 1, (2, 38, 50, 3)).astype(np.float32)
    images[1] = np.clip(0.2 * images[1] - 0.8, -1, 1)
    images[1, :19] *= -1
    maps = model.maps((nchw(images) + 1) / 2)
    return {
        "images": images,
        "mixed_6e": nhwc(maps[2]),
        "features": maps[3].mean((2, 3)).numpy(),
    }


def stored(model: Any) -> Any:
    """With its buffers, as its parameters, at values that float16 holds."""
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(buffer.half().float())
    return model


def stylegan2() -> Any:
    """Three blocks, clamped where it shows, with noise."""
    model = StyleGAN2(
        z_dim=6,
        w_dim=8,
        img_resolution=16,
        mapping_layers=2,
        channel_base=128,
        channel_max=12,
        conv_clamp=2.5,
    )
    return stored(model.spread())


def inception() -> Any:
    """A sixteenth of the channels."""
    return stored(Inception(16).spread())


CASES = (
    ("stylegan2", PLAIN, stylegan2, stylegan2_example),
    ("inception", PLAIN, inception, inception_example),
)
