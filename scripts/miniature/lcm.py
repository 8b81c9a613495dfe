"""The miniature's latent consistency model, distilled from mini-sd15.

Latent consistency distillation with skipped steps and embedded guidance (arXiv
2310.04378, algorithm 1): the student says at t what its own average says one DDIM step
of the guided teacher closer to the image.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from ports import unet
from ports.conditioning import Condition
from ports.port import Params, Port, init
from scripts.miniature import card, diffusion, export
from scripts.miniature.loop import train
from une_jax.consistency import boundary
from une_jax.schedule import alphas_cumprod_of

TEACHER = "mini-sd15"
STEPS, RATE, DECAY = 2500, 3e-4, 0.95
GUIDANCE = (1.0, 8.0)  # drawn evenly; 1 is none
DDIM_STEPS = 50
HUBER = 1e-3
TRAIN_SEED = 7
CONFIG = dataclasses.replace(diffusion.MEMBERS[TEACHER].unet, time_cond_proj_dim=64)
SCHEDULER = diffusion.SCHEDULER | {
    "_class_name": "LCMScheduler",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
}
PIPELINE = diffusion.PIPELINE | {
    "_class_name": "LatentConsistencyModelPipeline",
    "scheduler": ["diffusers", "LCMScheduler"],
}


def start(teacher: Params) -> Params:
    """The teacher's weights, deaf to the guidance scale at first."""
    channels = CONFIG.block_out_channels[0]
    deaf = {"weight": jnp.zeros((CONFIG.time_cond_proj_dim or 0, channels))}
    time = {**teacher["time_embedding"], "cond_proj": deaf}
    return {**teacher, "time_embedding": time}


def loss_fn(student: Port, teacher: Port, text: Port, empty: jax.Array):
    """Pseudo-Huber distance between the consistency function's two values."""
    alphas = jnp.asarray(alphas_cumprod_of(SCHEDULER), jnp.float32)
    skip = len(alphas) // DDIM_STEPS

    def x0_of(x, eps, a):
        return (x - jnp.sqrt(1 - a) * eps) / jnp.sqrt(a)

    def loss(params, average, batch, key):
        x0, ids = batch
        k_noise, k_t, k_w = jax.random.split(key, 3)
        noise = jax.random.normal(k_noise, x0.shape)
        i = jax.random.randint(k_t, x0.shape[:1], 0, DDIM_STEPS)
        t, back = (i + 1) * skip - 1, jnp.maximum(i * skip - 1, 0)
        w = jax.random.uniform(
            k_w, x0.shape[:1], minval=GUIDANCE[0], maxval=GUIDANCE[1]
        )
        a, b = (alphas[s][:, None, None, None] for s in (t, back))
        x_t = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
        context = text.apply(text.params, ids, method="hidden_text")
        nothing = text.apply(text.params, empty[None], method="hidden_text")
        nothing = jnp.broadcast_to(nothing, context.shape)

        both = teacher.apply(
            teacher.params,
            jnp.concatenate([x_t, x_t]),
            jnp.concatenate([t, t]),
            jnp.concatenate([context, nothing]),
        )
        told, untold = jnp.split(both, 2)
        eps = untold + w[:, None, None, None] * (told - untold)
        x_back = jnp.sqrt(b) * x0_of(x_t, eps, a) + jnp.sqrt(1 - b) * eps

        def consistency(params, x, t, a):
            skip_x, out_x = boundary(t[:, None, None, None])
            eps = student.apply(params, x, t, Condition(context, w))
            return skip_x * x + out_x * x0_of(x, eps, a)

        target = jax.lax.stop_gradient(consistency(average, x_back, back, b))
        error = consistency(params, x_t, t, a) - target
        huber = jnp.sqrt(jnp.square(error) + HUBER**2) - HUBER
        mse = jnp.square(error).mean()
        return huber.mean(), {"huber": huber.mean(), "mse": mse}

    return loss


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            f"Latent consistency model with a guidance embedding, distilled from "
            f"{TEACHER}; its other parts are that model's."
        ),
        steps=STEPS,
        faces=diffusion.MEMBERS[TEACHER].faces,
        settings={
            "batch": diffusion.BATCH,
            "peak learning rate": RATE,
            "decay of the target's average": DECAY,
            "teacher": f"{DDIM_STEPS} DDIM steps, guidance {GUIDANCE[0]:g} to "
            f"{GUIDANCE[1]:g}",
            "seeds": f"weights {TEACHER}'s, batches and noise {TRAIN_SEED}",
        },
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Distil ``out/name`` from ``out/mini-sd15``, whose other parts it shares."""
    member, folder = diffusion.MEMBERS[TEACHER], out / name
    diffusion.borrow(folder, out, member)
    examples = diffusion.Examples(folder, member, faces)
    teacher = unet.load(str(out / TEACHER / "unet"))
    student = init(unet.UNet, CONFIG, jax.random.key(0))
    params = train(
        runs / name,
        start(teacher.params),
        loss_fn(student, teacher, examples.text, jnp.asarray(examples.empty)),
        examples.batch,
        steps=steps,
        rate=RATE,
        decay=DECAY,
        seed=TRAIN_SEED,
    )
    export.diffusers_model(folder / "unet", "UNet2DConditionModel", CONFIG, params)
    export.write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    export.write_json(folder / "model_index.json", PIPELINE)
