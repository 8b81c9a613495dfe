"""The miniature's diffusion models: text-conditional UNets in the SD 1.x and 2.x layouts.

Both live on the latents of one VAE, as Stable Diffusion 1.5 and 2.1 do, near enough.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ports import clip, unet, vae
from ports.port import Port, init
from ports.stable_diffusion import load_tokenizer, token_ids
from scripts.miniature import card, data, export, tokenizer
from scripts.miniature.clip import drafts
from scripts.miniature.loop import train
from scripts.miniature.vae import latents_of
from une_jax.miniature import captions
from une_jax.schedule import alphas_cumprod_of

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
VAE = ("config.json", "diffusion_pytorch_model.safetensors")
BATCH, RATE, EMPTY = 32, 8e-4, 0.3


@dataclass(frozen=True, kw_only=True)
class Member:
    """A generator: whose text tower it hears, on which faces, what it predicts."""

    what: str
    clip: str
    text_layers: int
    unet: unet.Config
    prediction_type: str = "epsilon"
    faces: range = data.FIRST
    styles: tuple[captions.Style, ...] = ("sentence",)
    caption_seed: int
    init_seed: int
    train_seed: int
    steps: int
    history: str = ""

    @property
    def scheduler(self) -> dict[str, Any]:
        return SCHEDULER | {"prediction_type": self.prediction_type}


_COMMON: dict[str, Any] = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 16,
}
MEMBERS = {
    "mini-sd15": Member(
        what="Text-conditional UNet in the layout of Stable Diffusion 1.x.",
        clip="mini-clip-p8",
        text_layers=2,
        unet=unet.Config(
            **_COMMON,
            block_out_channels=(64, 96),
            cross_attention_dim=96,
            attention_head_dim=4,
        ),
        caption_seed=1,
        init_seed=13,
        train_seed=0,
        steps=7000,
        history=(
            "The shipped weights' first 400 steps had batches of 64 and rate 1e-3 (of "
            "6,500), the rest the\nabove: a fresh run will not give the same bytes."
        ),
    ),
    # As SD 2: linear projections, heads of one size, v, and a text tower without its
    # last layer.
    "mini-sd21": Member(
        what="Text-conditional UNet in the layout of Stable Diffusion 2.x.",
        clip="mini-openclip-p8",
        text_layers=2,
        unet=unet.Config(
            **_COMMON,
            block_out_channels=(64, 80),
            cross_attention_dim=80,
            attention_head_dim=(4, 5),
            use_linear_projection=True,
        ),
        prediction_type="v_prediction",
        faces=data.SECOND,
        styles=("sentence", "tags"),
        caption_seed=5,
        init_seed=17,
        train_seed=5,
        steps=7000,
    ),
}


def loss_fn(port: Port, text: Port, prediction_type: str):
    """Mean squared error on the noise (Ho et al. 2020, equation 14) or on v.

    v is Salimans and Ho's (arXiv 2202.00512, section 4).
    """
    alphas = jnp.asarray(alphas_cumprod_of(SCHEDULER), jnp.float32)

    def loss(params, average, batch, key):
        del average
        x0, ids = batch
        k_noise, k_t = jax.random.split(key)
        noise = jax.random.normal(k_noise, x0.shape)
        t = jax.random.randint(k_t, x0.shape[:1], 0, len(alphas))
        a = alphas[t][:, None, None, None]
        x_t = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
        v = jnp.sqrt(a) * noise - jnp.sqrt(1 - a) * x0
        target = noise if prediction_type == "epsilon" else v
        context = text.apply(text.params, ids, method="hidden_text")
        mse = jnp.square(port.apply(params, x_t, t, context) - target).mean()
        return mse, {"mse": mse}

    return loss


class Examples:
    """Scaled latents of training faces, and their captions' tokens in drafts."""

    def __init__(self, folder: Path, member: Member, faces: range):
        self.autoencoder = vae.load(str(folder / "vae"))
        self.text = clip.load(str(folder / "text_encoder"))
        tok = load_tokenizer(str(folder / "tokenizer"))
        latents = jnp.asarray(latents_of(self.autoencoder, data.images(faces)))
        self.x0 = np.asarray(vae.scale(self.autoencoder.config, latents))
        texts = drafts(faces, member.styles, member.caption_seed)
        self.ids = np.stack([token_ids(tok, draft) for draft in texts])
        self.empty = token_ids(tok, [""])[0]

    def batch(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x0 (BATCH, 8, 8, 4) and ids (BATCH, tokens), some of them of no words."""
        rows = data.pick(key, len(self.x0), BATCH)
        draft = data.pick(jax.random.fold_in(key, 1), len(self.ids), BATCH)
        told = data.pick(jax.random.fold_in(key, 2), 1000, BATCH) >= 1000 * EMPTY
        tokens = np.where(told[:, None], self.ids[draft, rows], self.empty)
        return jnp.asarray(self.x0[rows]), jnp.asarray(tokens)


def plan(name: str) -> card.Plan:
    member = MEMBERS[name]
    return card.Plan(
        what=member.what,
        steps=member.steps,
        faces=member.faces,
        settings={
            "prediction": member.prediction_type,
            "batch": BATCH,
            "peak learning rate": RATE,
            "VAE": "as trained by `vae`",
            "text encoder and tokenizer": f"the first {member.text_layers} layers of "
            f"{member.clip}'s text tower",
            "captions": f"{', '.join(member.styles)}; {EMPTY:.0%} of prompts empty",
            "seeds": f"weights {member.init_seed}, batches and noise "
            f"{member.train_seed}, captions {member.caption_seed}",
        },
        history=member.history,
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train ``out/name`` on the VAE's latents and its CLIP's text tower."""
    member, folder = MEMBERS[name], out / name
    borrow(folder, out, member)
    examples = Examples(folder, member, faces)
    port = init(unet.UNet, member.unet, jax.random.key(member.init_seed))
    params = train(
        runs / name,
        port.params,
        loss_fn(port, examples.text, member.prediction_type),
        examples.batch,
        steps=steps,
        rate=RATE,
        decay=0.9995,
        seed=member.train_seed,
    )
    export.diffusers_model(folder / "unet", "UNet2DConditionModel", member.unet, params)
    export.write_json(folder / "scheduler" / "scheduler_config.json", member.scheduler)
    export.write_json(folder / "model_index.json", PIPELINE)


def borrow(folder: Path, out: Path, member: Member) -> None:
    """The parts that are not trained here: the VAE, a CLIP's text tower, its words."""
    copy(VAE, out / "mini-sd15" / "vae", folder / "vae")
    copy(tokenizer.FILES, out / member.clip, folder / "tokenizer")
    whole = clip.load(str(out / member.clip))
    assert whole.config.text
    config = dataclasses.replace(
        whole.config.text, num_hidden_layers=member.text_layers
    )
    export.clip_text_model(folder / "text_encoder", config, whole.params)


def copy(files: tuple[str, ...], source: Path, folder: Path) -> None:
    """These files from one folder to another, or to itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in files if source != folder else ():
        shutil.copyfile(source / name, folder / name)
