"""The miniature's GAN: a StyleGAN2 of 32x32 pixels.

Both players take one step on the same fakes: as no layer of the discriminator mixes
images, one backward pass through it serves both losses. They differ, image by image,
only in the factor in front of the logit's gradient.
"""

import dataclasses
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import save_file

from ports import stylegan2
from ports.modulated import lrelu
from ports.port import Params, Port, init
from scripts.miniature import card, data, export, picture
from scripts.miniature.loop import follow

CONFIG = stylegan2.Config(
    z_dim=64,
    w_dim=64,
    img_resolution=32,
    mapping_layers=3,
    channel_base=768,
    channel_max=128,
    use_noise=False,
)
WIDTHS = (64, 96, 128)  # of the discriminator, at 16, 8 and 4 pixels
STEPS, BATCH, RATE, WARMUP, DECAY = 12000, 16, 2e-3, 100, 0.999
# The penalty on the logit's gradient in the pixels, of real and of fake images.
PENALTY, PENALTY_EVERY = 0.2, 4
INIT_SEED, TRAIN_SEED = 41, 0


class State(NamedTuple):
    """Both players, the generator's moving average, and their optimisers."""

    generator: Any
    average: Any  # what is shipped
    critic: Any
    generator_opt: Any
    critic_opt: Any


def critic_params(key: jax.Array) -> Params:
    """Normal weights of variance one: ``critic`` scales them, as the generator does."""
    shapes, n_in = {}, 12
    for i, n in enumerate(WIDTHS):
        shapes |= {f"a{i}": (3, 3, n_in, n), f"b{i}": (3, 3, n, n)}
        n_in = n
    shapes |= {"dense": (4 * 4 * n_in, n_in), "out": (n_in, 1)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: {"weight": jax.random.normal(k, s), "bias": jnp.zeros(s[-1])}
        for k, (name, s) in zip(keys, shapes.items(), strict=True)
    }


def critic(params: Params, x: jax.Array) -> jax.Array:
    """Images (b, 32, 32, 3) -> logits (b,) of being real."""
    b, h, w, c = x.shape
    # Four pixels as one of twelve channels: as much to see, a quarter of the work.
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, h // 2, w // 2, 4 * c)
    for i in range(len(WIDTHS)):
        x = x if i == 0 else _halved(x)
        x = lrelu(_conv(params[f"a{i}"], x))
        x = lrelu(_conv(params[f"b{i}"], x)) / sqrt(2) + x / sqrt(2)
    x = lrelu(_dense(params["dense"], x.reshape(b, -1)))
    return _dense(params["out"], x)[:, 0]


def _conv(p: Params, x: jax.Array) -> jax.Array:
    weight = p["weight"] / sqrt(9 * x.shape[-1])
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=dims)
    return y + p["bias"]


def _dense(p: Params, x: jax.Array) -> jax.Array:
    return x @ (p["weight"] / sqrt(x.shape[-1])) + p["bias"]


def _halved(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def optimiser() -> optax.GradientTransformation:
    """Adam without momentum and of one rate, as in StyleGAN2: the average settles."""
    return optax.adam(optax.linear_schedule(0, RATE, WARMUP), b1=0.0, b2=0.99)


def step_of(port: Port):
    """(state, images, step) -> (state, metrics)."""
    tx = optimiser()

    def penalty(params, images):
        """R1 and R2 (Mescheder et al. 2018): the mean squared length of the gradient."""
        slope = jax.grad(lambda x: critic(params, x).sum())(images)
        return jnp.square(slope).sum((1, 2, 3)).mean()

    def update(state, real, step, *, penalised):
        key = jax.random.fold_in(jax.random.key(TRAIN_SEED), step)
        z = jax.random.normal(key, (len(real), CONFIG.z_dim))
        fake, to_generator = jax.vjp(lambda p: port.apply(p, z), state.generator)
        both = jnp.concatenate([real, fake])
        logits, to_critic = jax.vjp(critic, state.critic, both)
        of_real, of_fake = jnp.split(logits, 2)
        # The relativistic pairing of Jolicoeur-Martineau (2018): each fake is held
        # against a real image, which leaves no mode of the data unpaired.
        lead = of_real - of_fake
        pull = jax.nn.sigmoid(-lead) / len(real)
        d_critic, d_images = to_critic(jnp.concatenate([-pull, pull]))
        factor = -jnp.exp(jnp.clip(lead, -20, 20))  # sigmoid(lead) / sigmoid(-lead)
        (d_generator,) = to_generator(
            jnp.split(d_images, 2)[1] * factor[:, None, None, None]
        )
        metrics = {"lead": lead.mean(), "fooled": (lead < 0).mean()}
        if penalised:
            weight = PENALTY * PENALTY_EVERY  # a half, twice: real and fake
            size, d_size = jax.value_and_grad(penalty)(state.critic, both)
            d_critic = jax.tree.map(lambda a, b: a + weight * b, d_critic, d_size)
            metrics["penalty"] = size
        moved, generator_opt = tx.update(d_generator, state.generator_opt)
        generator = optax.apply_updates(state.generator, moved)
        moved, critic_opt = tx.update(d_critic, state.critic_opt)
        keep = jnp.minimum(DECAY, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda a, p: keep * a + (1 - keep) * p, state.average, generator
        )
        params = optax.apply_updates(state.critic, moved)
        return State(generator, average, params, generator_opt, critic_opt), metrics

    jitted = jax.jit(update, static_argnames="penalised", donate_argnums=0)

    def run(state, images, step):
        return jitted(state, images, step, penalised=(step + 1) % PENALTY_EVERY == 0)

    return run


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "StyleGAN2, an unconditional generator of 32x32x3 pixels from 64 normal "
            "numbers by way of a W of 64, without noise inputs."
        ),
        steps=STEPS,
        faces=data.FIRST,
        layout="and a `config.json` as `scripts/convert_stylegan2.py` writes them",
        settings={
            "batch": BATCH,
            "learning rate of both players": f"{RATE}, Adam without momentum",
            "loss": "relativistic pairs, softplus",
            "penalty on the critic's gradient": f"{PENALTY} (R1 and R2), every "
            f"{PENALTY_EVERY} steps",
            "decay of the moving average": DECAY,
            "seeds": f"weights {INIT_SEED}, batches and latents {TRAIN_SEED}",
        },
        history=(
            "The shipped weights' first 2,200 steps had a cosine schedule towards step 6,000 "
            "and a moving\naverage of 0.998: a fresh run will not give the same bytes."
        ),
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train and write ``out/mini-gan``."""
    size = CONFIG.img_resolution
    images = data.kept(
        runs / f"faces-{size}-{faces.start}-{faces.stop}.npy",
        lambda: data.resized(data.images(faces), size),
    )
    # Both steps' programs take longer to compile than a hundred steps to run.
    jax.config.update("jax_compilation_cache_dir", str(runs / "compiled"))
    port = init(stylegan2.StyleGAN2, CONFIG, jax.random.key(INIT_SEED))
    params = critic_params(jax.random.key(INIT_SEED + 1))
    tx = optimiser()
    first = State(
        port.params,
        jax.tree.map(jnp.copy, port.params),
        params,
        tx.init(port.params),
        tx.init(params),
    )
    z = jax.random.normal(jax.random.key(1), (48, CONFIG.z_dim))
    apply = jax.jit(port.apply)

    def look(step, state):
        del step
        rows = np.split(np.asarray(apply(state.average, z)), 4)
        real = np.asarray(data.signed(images[: len(z) // 4]))
        picture.grid(runs / name / "sample.png", real, *rows)

    last = follow(
        runs / name / "steps",
        first,
        step_of(port),
        lambda key: data.signed(images[data.pick(key, len(images), BATCH)]),
        steps=steps,
        seed=TRAIN_SEED,
        save_every=200,
        at_save=look,
    )
    write(out / name, CONFIG, centred(port, last.average))


def centred(port: Port, params: Params) -> Params:
    """With the mean w of many latents, towards which truncation draws."""
    z = jax.random.normal(jax.random.key(2), (16384, CONFIG.z_dim))
    w = port.apply(params, z, method="mapping").mean(0)
    return params | {"mapping": params["mapping"] | {"w_avg": w}}


def write(folder: Path, config: stylegan2.Config, params: Params) -> None:
    """config.json and model.safetensors, as the converter writes them."""
    raw = {"_class_name": "StyleGAN2", **dataclasses.asdict(config)}
    del raw["noise_mode"]
    export.write_json(folder / "config.json", raw)
    tensors = export.torch_layout(params)
    const = "synthesis.b4.const"
    tensors[const] = tensors[const].transpose(2, 0, 1).copy(order="C")
    save_file(tensors, folder / "model.safetensors")
