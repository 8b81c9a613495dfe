"""The reader of scores and nuisance off pixels: a small convolutional network.

Taught on faces whose scores are independent (the stream's z, unmixed): on correlated
ones it would learn to read a beard as a sign of Male, and an edit of the beard alone as
one of both.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from scripts.miniature import card, data, export
from scripts.miniature.loop import train
from une_jax.miniature import factors, regressor

FACES, STEPS, BATCH, RATE = range(0, 65536), 3000, 128, 2e-3
INIT_SEED, TRAIN_SEED = 31, 12
# A stream of its own for the stated R².
HELD_OUT_SEED, HELD_OUT = 2_000_003, 4096


def blurred(key: jax.Array, images: jax.Array) -> jax.Array:
    """Some of it as soft as a VAE's decoding, some grain: images (n, h, w, 3)."""
    k_soft, k_noise = jax.random.split(key)
    soft = jax.random.uniform(k_soft, (len(images), 1, 1, 1)) * 0.9
    out = images
    for axis in (1, 2):
        out = (jnp.roll(out, 1, axis) + 2 * out + jnp.roll(out, -1, axis)) / 4
    noise = 0.01 * jax.random.normal(k_noise, images.shape)
    return images + soft * (out - images) + noise


def loss_fn(params, average, batch, key):
    """Mean squared error over scores and nuisance, all of unit variance."""
    del average
    said = regressor.apply(params, blurred(key, batch["images"]))
    scores = jnp.square(said.scores - batch["scores"]).mean()
    nuisance = jnp.square(said.nuisance - batch["nuisance"]).mean()
    return scores + nuisance, {"scores": scores, "nuisance": nuisance}


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "A convolutional network from pixels to the true scores and nuisance "
            "factors of a miniature face: `une_jax.miniature.regressor`. Its R² on "
            f"{HELD_OUT:,} faces of the stream {HELD_OUT_SEED:,} is in held_out.json."
        ),
        steps=STEPS,
        faces=FACES,
        layout="that `une_jax.miniature.regressor.load` reads",
        settings={
            "batch": BATCH,
            "peak learning rate": RATE,
            "scores": "independent (the stream's z, unmixed)",
            "augmentation": "blur and noise",
            "seeds": f"weights {INIT_SEED}, batches {TRAIN_SEED}",
        },
    )


def measured(params: regressor.Params) -> dict[str, float]:
    """R² by factor on held-out faces, with the planted correlations, as uint8."""
    truth = factors.draw(jax.random.key(HELD_OUT_SEED), HELD_OUT)
    pixels, said = data.painted(truth), []
    for i in range(0, HELD_OUT, 256):
        part = jnp.asarray(pixels[i : i + 256], jnp.float32) / 255
        said.append(np.concatenate(regressor.apply(params, part), axis=1))
    true = np.concatenate([truth.scores, truth.nuisance], axis=1)
    error = np.square(np.concatenate(said) - true).mean(0)
    names = (*factors.NAMES, *factors.NUISANCES)
    r2 = 1 - error / true.var(0)
    return {name: round(float(v), 4) for name, v in zip(names, r2, strict=True)}


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train; write ``out/name``: half-precision weights and their held-out R²."""
    truth = data.truth(faces)
    truth = truth._replace(scores=truth.z[:, : len(factors.NAMES)])
    images = data.painted(truth)
    scores, nuisance = np.asarray(truth.scores), np.asarray(truth.nuisance)

    def batch(key):
        rows = data.pick(key, len(images), BATCH)
        return {
            "images": jnp.asarray(images[rows], jnp.float32) / 255,
            "scores": jnp.asarray(scores[rows]),
            "nuisance": jnp.asarray(nuisance[rows]),
        }

    first = regressor.init(jax.random.key(INIT_SEED))
    params = train(
        runs / name, first, loss_fn, batch, steps=steps, rate=RATE, seed=TRAIN_SEED
    )
    half = {k: np.asarray(v, np.float16) for k, v in params.items()}
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half, folder / "model.safetensors")
    stored = {k: jnp.asarray(v, jnp.float32) for k, v in half.items()}
    stated = {"seed": HELD_OUT_SEED, "faces": HELD_OUT, "r2": measured(stored)}
    export.write_json(folder / "held_out.json", stated)
