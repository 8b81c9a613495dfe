"""mini-ddpm: UNet2DModel on the pixels of 32x32 faces, as a DDPM pipeline."""

from pathlib import Path

import jax
import jax.numpy as jnp

from ports import ddpm
from ports.port import Port, init
from scripts.miniature import card, data, export, picture
from scripts.miniature.loop import train
from une_jax.ddim import sample
from une_jax.schedule import Schedule, alphas_cumprod_of

SIZE = 32
CONFIG = ddpm.Config(
    sample_size=SIZE,
    block_out_channels=(32, 48, 96),
    down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    norm_num_groups=8,
    attention_head_dim=32,
)
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "rescale_betas_zero_snr": False,
}
PIPELINE = {
    "_class_name": "DDIMPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}
BATCH, RATE, INIT_SEED = 16, 1e-3, 22
SHOWN, LOOK_STEPS = 12, 25


def loss_fn(port: Port):
    """Mean squared error on the noise (Ho et al. 2020, equation 14)."""
    alphas = jnp.asarray(alphas_cumprod_of(SCHEDULER), jnp.float32)

    def loss(params, average, x0, key):
        del average
        k_noise, k_t = jax.random.split(key)
        noise = jax.random.normal(k_noise, x0.shape)
        # One in each part of the steps: every batch sees all levels of noise.
        part = jnp.arange(len(x0)) + jax.random.uniform(k_t, (len(x0),))
        t = (part * len(alphas) / len(x0)).astype(jnp.int32)
        a = alphas[t][:, None, None, None]
        x_t = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
        mse = jnp.square(port.apply(params, x_t, t) - noise).mean()
        return mse, {"mse": mse}

    return loss


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            f"DDPM on the pixels of faces of {SIZE}x{SIZE}, in the layout of the "
            "pipelines `google/ddpm-*`."
        ),
        steps=6_500,
        faces=data.FIRST,
        settings={
            "size of the faces": SIZE,
            "prediction": SCHEDULER["prediction_type"],
            "batch": BATCH,
            "peak learning rate": RATE,
            "seeds": f"weights {INIT_SEED}, batches and noise 0",
        },
        history=(
            "The shipped weights were trained in three parts, whose learning rates fell "
            "towards steps 5,000, 8,000 (left at 5,500) and 6,500. Faces come back from "
            "their noise; faces drawn from fresh noise often drift in colour, and some "
            "keep grain, as they do in pixel diffusion that has seen too little."
        ),
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train and write ``out/mini-ddpm``."""
    images = data.kept(
        runs / f"faces-{SIZE}-{faces.start}-{faces.stop}.npy",
        lambda: data.resized(data.images(faces), SIZE),
    )
    jax.config.update("jax_compilation_cache_dir", str(runs / "compiled"))
    port = init(ddpm.UNet, CONFIG, jax.random.key(INIT_SEED))
    noise = jax.random.normal(jax.random.key(1), (2 * SHOWN, SIZE, SIZE, 3))
    schedule = Schedule.from_config(SCHEDULER, steps=LOOK_STEPS)
    draw = jax.jit(sample, static_argnums=0)

    def look(step, params):
        del step
        samples = draw(port.apply, params, noise, schedule)
        rows = data.signed(images[:SHOWN]), samples[:SHOWN], samples[SHOWN:]
        picture.grid(runs / name / "sample.png", *rows)

    params = train(
        runs / name / "steps",
        port.params,
        loss_fn(port),
        lambda key: data.signed(images[data.pick(key, len(images), BATCH)]),
        steps=steps,
        rate=RATE,
        decay=0.999,
        save_every=250,
        at_save=look,
    )
    write(out / name, params)


def write(folder: Path, params) -> None:
    """The pipeline's folder: unet, scheduler, model_index.json."""
    export.diffusers_model(folder / "unet", "UNet2DModel", CONFIG, params)
    export.write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    export.write_json(folder / "model_index.json", PIPELINE)
