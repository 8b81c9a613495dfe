"""The goldens of image generators beside Stable Diffusion: VQModel, UNet2DModel, Glow,
DiffuseVAE's ResNet VAE."""

from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel, VQModel

from scripts.golden_arrays import Golden, nchw, nhwc, normal
from scripts.reference_glow import Glow, Shape, flat, parts
from scripts.reference_resnet_vae import ResNetVAE

DIFFUSERS = "diffusion_pytorch_model.safetensors"
PLAIN = "model.safetensors"


def vq() -> Any:
    """Two levels, attention in the middle, codes of another width than the latents."""
    return VQModel.from_config(
        {
            "sample_size": 16,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "norm_num_groups": 4,
            "num_vq_embeddings": 24,
            "vq_embed_dim": 4,
        }
    )


def vq_example(model: Any, rng: np.random.Generator) -> Golden:
    """Latents of odd images, and decoded ones with the entries that they became."""
    images, latents = normal(rng, 2, 14, 18, 3), 0.2 * normal(rng, 2, 5, 3, 4)
    quantised, _, (_, _, indices) = model.quantize(nchw(latents))
    return {
        "images": images,
        "encoded": nhwc(model.encode(nchw(images)).latents),
        "latents": latents,
        "quantised": nhwc(quantised),
        "indices": indices.reshape(2, 5, 3).numpy().astype(np.int32),
        "decoded": nhwc(model.decode(nchw(latents)).sample),
    }


def ddpm() -> Any:
    """Attention in both levels, in heads of 4; padding all round."""
    return UNet2DModel.from_config(_DDPM | {"attention_head_dim": 4})


def ddpm_google() -> Any:
    """As ``google/ddpm-*``: one head, padding on one side, sines first, other epsilon."""
    return UNet2DModel.from_config(
        _DDPM
        | {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (8, 12, 16),
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "norm_eps": 1e-6,
        }
    )


_DDPM = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("AttnDownBlock2D",) * 2,
    "up_block_types": ("AttnUpBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def ddpm_example(model: Any, rng: np.random.Generator) -> Golden:
    """Noise prediction on images that are not square, at two timesteps."""
    x, t = normal(rng, 2, 8, 12, 3), np.array([1, 901], np.int32)
    eps = model(nchw(x), torch.from_numpy(t)).sample
    return {"x": x, "t": t, "eps": nhwc(eps)}


def glow() -> Any:
    """Three levels, additive, LU-decomposed, as the stitching paper has them."""
    return Glow(Shape(n_block=3, size=16))


def glow_affine() -> Any:
    """Scales as well as shifts; whole matrices, but in the last level."""
    return Glow(Shape(affine=True, conv_lu=False))


def glow_example(model: Any, rng: np.random.Generator) -> Golden:
    """Latents and densities of images; images of white latents, which are decoded."""
    shape = model.shape
    images = rng.uniform(-1, 1, (2, shape.size, shape.size, 3)).astype(np.float32)
    z, log_prob = model(nchw(images) / 2)
    eps = normal(rng, 2, 3 * shape.size**2)
    painted = model.back(parts(shape, torch.from_numpy(eps)), white=True)
    return {
        "images": images,
        "z": flat(z).numpy(),
        "log_prob": log_prob.numpy(),
        "eps": eps,
        "painted": 2 * nhwc(painted),
    }


def resnet_vae() -> Any:
    """Every kind of entry in a block string; other channels on the way back."""
    return ResNetVAE(
        16,
        "16x2,16d2,16t8,8d2,8t4,4x1,4d4,4t1,1x2",
        "1,1u4,1t4,4x2,4u2,4t8,8,8u2,8t16,16x2",
        "16:8,8:12,4:16,1:10",
        "16:6,8:12,4:14,1:10",
    )


def resnet_vae_example(model: Any, rng: np.random.Generator) -> Golden:
    """Posterior of images, and decoded latents."""
    images, z = (
        rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32),
        normal(rng, 2, 10),
    )
    mean, logvar = model.encode(nchw(images) / 2 + 0.5)
    decoded = model.decode(torch.from_numpy(z)[:, :, None, None])
    return {
        "images": images,
        "mean": mean.flatten(1).numpy(),
        "logvar": logvar.flatten(1).numpy(),
        "z": z,
        "decoded": 2 * nhwc(decoded) - 1,
    }


CASES = (
    ("vq", DIFFUSERS, vq, vq_example),
    ("ddpm", DIFFUSERS, ddpm, ddpm_example),
    ("ddpm_google", DIFFUSERS, ddpm_google, ddpm_example),
    ("glow", PLAIN, glow, glow_example),
    ("glow_affine", PLAIN, glow_affine, glow_example),
    ("resnet_vae", PLAIN, resnet_vae, resnet_vae_example),
)
