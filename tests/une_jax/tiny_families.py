"""A tiny random model of each family, in its published layout, of 16-pixel images.

They know nothing, but encode, decode and are refused like the big ones.
"""

from pathlib import Path

import jax
from tiny_models import EDGE, random_params

from ports import ddpm, glow, resnet_vae, stylegan2, vq
from ports.port import init
from scripts.miniature import ddpm as ddpm_member
from scripts.miniature import export, gan
from scripts.miniature import glow as glow_member
from scripts.miniature import resnet_vae as vae_member

VQ = vq.Config(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    sample_size=EDGE,
    num_vq_embeddings=16,
)
VAE = resnet_vae.Config(
    input_res=EDGE,
    enc_block_str="16x1,16d4,16t4,4x1,4d4,4t1,1x1",
    dec_block_str="1x1,1u4,1t4,4x1,4u4,4t16,16x1",
    enc_channel_str="16:8,4:8,1:8",
    dec_channel_str="16:8,4:8,1:8",
)
GLOW = glow.Config(n_flow=2, n_block=2, hidden=8, size=EDGE)
GAN = stylegan2.Config(
    z_dim=8,
    w_dim=8,
    img_resolution=EDGE,
    mapping_layers=2,
    channel_base=128,
    channel_max=8,
)
DDPM = ddpm.Config(
    sample_size=EDGE,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(8, 8),
    layers_per_block=1,
    norm_num_groups=4,
)


def write_vq(folder: Path, *, seed: int = 0) -> Path:
    params = random_params(vq.VQModel, VQ, seed)
    export.diffusers_model(folder, "VQModel", VQ, params)
    return folder


def write_vae(folder: Path, *, seed: int = 0) -> Path:
    vae_member.write(folder, VAE, random_params(resnet_vae.ResNetVAE, VAE, seed))
    return folder


def write_glow(folder: Path, *, seed: int = 0) -> Path:
    glow_member.write(folder, GLOW, init(glow.Glow, GLOW, jax.random.key(seed)).params)
    return folder


def write_ddpm(folder: Path, *, seed: int = 0, config: ddpm.Config = DDPM) -> Path:
    params = random_params(ddpm.UNet, config, seed)
    export.diffusers_model(folder / "unet", "UNet2DModel", config, params)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    export.write_json(scheduler, ddpm_member.SCHEDULER)
    export.write_json(folder / "model_index.json", ddpm_member.PIPELINE)
    return folder


def write_gan(folder: Path, *, seed: int = 0) -> Path:
    params = init(stylegan2.StyleGAN2, GAN, jax.random.key(seed)).params
    gan.write(folder, GAN, params)
    return folder


WRITERS = {
    "vae": write_vae,
    "vq": write_vq,
    "flow": write_glow,
    "ddpm": write_ddpm,
    "gan": write_gan,
}
