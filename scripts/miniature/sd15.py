"""The miniature's diffusion model: a text-conditional UNet in the SD 1.x layout."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ports import clip, unet, vae
from ports.port import Port, init
from ports.stable_diffusion import load_tokenizer, token_ids
from scripts.miniature import data, export
from scripts.miniature.clip import MENTION
from scripts.miniature.loop import train
from scripts.miniature.vae import latents_of
from une_jax.miniature import captions
from une_jax.schedule import Schedule

CONFIG = unet.Config(
    sample_size=8,
    block_out_channels=(64, 96),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=16,
    cross_attention_dim=96,
    attention_head_dim=4,
)
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "rescale_betas_zero_snr": False,
}
PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
BATCH, RATE, EMPTY = 32, 8e-4, 0.3


def loss_fn(port: Port, text: Port):
    """Mean squared error on the noise (Ho et al. 2020, equation 14)."""
    # 1000 leading steps without offset visit every training timestep once.
    every = Schedule.from_config({**SCHEDULER, "steps_offset": 0}, steps=1000)
    alphas = jnp.asarray(every.inversion.alpha_to)

    def loss(params, batch, key):
        x0, ids = batch
        k_noise, k_t = jax.random.split(key)
        noise = jax.random.normal(k_noise, x0.shape)
        t = jax.random.randint(k_t, x0.shape[:1], 0, len(alphas))
        a = alphas[t][:, None, None, None]
        x_t = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
        context = text.apply(text.params, ids, method="hidden_text")
        mse = jnp.square(port.apply(params, x_t, t, context) - noise).mean()
        return mse, {"mse": mse}

    return loss


def run(runs: Path, out: Path, *, steps: int, faces: int) -> None:
    """Train on the VAE's latents; finish ``out/mini-sd15``."""
    folder = out / "mini-sd15"
    autoencoder = vae.load(str(folder / "vae"))
    text = clip.load(str(folder / "text_encoder"))
    tok = load_tokenizer(str(folder / "tokenizer"))
    latents = jnp.asarray(latents_of(autoencoder, data.images(faces)))
    x0 = np.asarray(vae.scale(autoencoder.config, latents))
    attributes = np.asarray(data.truth(faces).attributes)
    rng = np.random.default_rng(1)
    drafts = [captions.write(attributes, rng, mention=MENTION) for _ in range(4)]
    ids = np.stack([token_ids(tok, draft) for draft in drafts])
    empty = token_ids(tok, [""])[0]
    port = init(unet.UNet, CONFIG, jax.random.key(13))

    def batch(key):
        rows = data.pick(key, faces, BATCH)
        draft = data.pick(jax.random.fold_in(key, 1), len(ids), BATCH)
        told = data.pick(jax.random.fold_in(key, 2), 1000, BATCH) >= 1000 * EMPTY
        tokens = np.where(told[:, None], ids[draft, rows], empty)
        return jnp.asarray(x0[rows]), jnp.asarray(tokens)

    params = train(
        runs / "sd15",
        port.params,
        loss_fn(port, text),
        batch,
        steps=steps,
        rate=RATE,
        decay=0.9995,
    )
    export.diffusers_model(folder / "unet", "UNet2DConditionModel", CONFIG, params)
    export.write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    export.write_json(folder / "model_index.json", PIPELINE)
