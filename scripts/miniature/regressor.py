"""The miniature's regressor: from pixels to the true scores and nuisance.

Taught on faces whose scores are independent (the stream's z, unmixed): on correlated
ones it would learn to read a beard as a sign of Male, and an edit of the beard alone as
one of both.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from ports import vae
from scripts.miniature import card, data, export
from scripts.miniature.loop import train
from une_jax import probes
from une_jax.miniature import factors, regressor, render, truth

FACES, STEPS, BATCH, RATE = range(0, 65536), 3000, 128, 2e-3
INIT_SEED, TRAIN_SEED = 23, 10
# Decoded images are softer than painted ones and have small errors.
BLUR, NOISE, SPOILT = 0.5, 0.03, 0.7
HELD_OUT_SEED, HELD_OUT, DECODED, MOVED = 1_000_004, 4096, 1024, 512


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "A small convolutional network that reads the 20 true scores and the 12 "
            "nuisance factors off a face's pixels, to measure what an edit changed."
        ),
        steps=STEPS,
        faces=FACES,
        settings={
            "batch": BATCH,
            "peak learning rate": RATE,
            "scores": "independent (the stream's z, unmixed)",
            "spoilt images": f"{SPOILT:.0%}, by a blur of up to {BLUR} and noise of up "
            f"to {NOISE}",
            "seeds": f"weights {INIT_SEED}, batches and noise {TRAIN_SEED}",
        },
        layout=(
            "Float16 safetensors, {layer}.weight as (height, width,) in, out;\n"
            "`une_jax.miniature.regressor.load` reads it."
        ),
        scores=(
            f"`held_out.json`, written by the\ntraining from {HELD_OUT:,} faces of seed "
            f"{HELD_OUT_SEED:,} with the planted correlations; "
            "`regressor.HeldOut` says what\nthe numbers are."
        ),
    )


def unmixed(rows: range) -> factors.Truth:
    """The stream's faces with z's own first numbers for scores: no correlations."""
    t = data.truth(rows)
    return t._replace(scores=t.z[:, : len(factors.NAMES)])


def painted(t: factors.Truth) -> np.ndarray:
    """(n, 64, 64, 3) uint8."""
    n = len(t.scores)
    out = np.empty((n, render.SIZE, render.SIZE, 3), np.uint8)
    for i in range(0, n, 2048):
        part = render.faces(t.scores[i : i + 2048], t.nuisance[i : i + 2048])
        out[i : i + 2048] = np.asarray(part * 255 + 0.5)
    return out


def spoil(key: jax.Array, images: jax.Array) -> jax.Array:
    """Most images (n, h, w, 3) a little blurred and noisy, each in its own measure."""
    k_which, k_blur, k_sigma, k_noise = jax.random.split(key, 4)
    shape = (len(images), 1, 1, 1)
    which = jax.random.bernoulli(k_which, SPOILT, shape)
    share = jnp.where(which, BLUR * jax.random.uniform(k_blur, shape), 0.0)
    sigma = jnp.where(which, NOISE * jax.random.uniform(k_sigma, shape), 0.0)
    for axis in (1, 2):  # share / 2 of either neighbour
        edge = [(0, 0)] * 4
        edge[axis] = (1, 1)
        wide = jnp.pad(images, edge, "edge")
        size = images.shape[axis]
        left = jax.lax.slice_in_dim(wide, 0, size, axis=axis)
        right = jax.lax.slice_in_dim(wide, 2, size + 2, axis=axis)
        images = (1 - share) * images + share / 2 * (left + right)
    return images + sigma * jax.random.normal(k_noise, images.shape)


def loss(params, average, batch, key):
    """Mean squared error of all 32 numbers, which have unit variance."""
    del average
    images, target = batch
    out = jnp.concatenate(regressor.apply(params, spoil(key, images)), axis=1)
    error = jnp.square(out - target).mean(0)
    scores, nuisance = error[: len(factors.NAMES)], error[len(factors.NAMES) :]
    metrics = {"r2": 1 - scores.mean(), "nuisance r2": 1 - nuisance.mean()}
    return error.mean(), metrics


def init(key: jax.Array) -> regressor.Params:
    params = {}
    for k, (name, shape) in zip(
        jax.random.split(key, len(regressor.SHAPES)),
        regressor.SHAPES.items(),
        strict=True,
    ):
        std = (2 / np.prod(shape[:-1])) ** 0.5
        weight = std * jax.random.normal(k, shape)
        params[name] = {"weight": weight, "bias": jnp.zeros(shape[-1:])}
    return params


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train; write weights and their own held-out error to ``out/name``."""
    t = unmixed(faces)
    images, target = painted(t), np.concatenate([t.scores, t.nuisance], axis=1)

    def batch(key):
        rows = data.pick(key, len(images), BATCH)
        return jnp.asarray(images[rows] / np.float32(255)), jnp.asarray(target[rows])

    params = train(
        runs / name,
        init(jax.random.key(INIT_SEED)),
        loss,
        batch,
        steps=steps,
        rate=RATE,
        seed=TRAIN_SEED,
    )
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{layer}.{part}": np.asarray(value, np.float16)
        for layer, parts in params.items()
        for part, value in parts.items()
    }
    save_file(tensors, folder / regressor.WEIGHTS)
    measured = measure(regressor.load(folder), out / "mini-sd15" / "vae")
    export.write_json(folder / regressor.HELD_OUT, measured)


def measure(params: regressor.Params, vae_folder: Path) -> dict:
    """held_out.json: what regressor.HeldOut explains, by attribute and nuisance."""
    t = truth.of(HELD_OUT_SEED, range(HELD_OUT))
    pixels = painted(t)
    clean = estimate(params, pixels)
    soft = estimate(params, decoded(pixels[:DECODED], vae_folder))
    auc = np.asarray(probes.evaluate(jnp.asarray(clean.scores), t.attributes).auc)
    response = responses(params, jax.tree.map(lambda x: x[:MOVED], t))
    others = ~np.eye(len(factors.NAMES), dtype=bool)
    leak = np.sqrt(np.square(response).mean(1, where=others))
    scores = {
        "r2": r2(clean.scores, t.scores),
        "r2_decoded": r2(soft.scores, t.scores[:DECODED]),
        "auc": auc,
        "gain": np.diag(response),
        "leak": leak,
    }
    nuisance = {
        "r2": r2(clean.nuisance, t.nuisance),
        "r2_decoded": r2(soft.nuisance, t.nuisance[:DECODED]),
        "std": np.std(clean.nuisance, axis=0),
    }
    return {
        "seed": HELD_OUT_SEED,
        "faces": HELD_OUT,
        "decoded_faces": DECODED,
        "moved_faces": MOVED,
        "scores": _rows(factors.NAMES, scores),
        "nuisance": _rows(factors.NUISANCES, nuisance),
    }


def r2(estimate, true) -> np.ndarray:
    estimate, true = np.asarray(estimate), np.asarray(true)
    return 1 - np.square(estimate - true).mean(0) / true.var(0)


def estimate(params: regressor.Params, pixels: np.ndarray) -> regressor.Estimates:
    """Of uint8 images, in parts."""
    fn = jax.jit(regressor.apply)
    parts = [
        fn(params, jnp.asarray(pixels[i : i + 256] / np.float32(255)))
        for i in range(0, len(pixels), 256)
    ]
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def decoded(pixels: np.ndarray, vae_folder: Path) -> np.ndarray:
    """After a round trip through the generators' VAE: uint8."""
    port = vae.load(str(vae_folder))

    @jax.jit
    def again(params, x):
        out = port.apply(params, port.apply(params, x, method="encode"), method="decode")
        return jnp.clip((out + 1) * 127.5 + 0.5, 0, 255).astype(jnp.uint8)

    parts = [
        np.asarray(again(port.params, data.signed(pixels[i : i + 128])))
        for i in range(0, len(pixels), 128)
    ]
    return np.concatenate(parts)


def responses(params: regressor.Params, t: factors.Truth) -> np.ndarray:
    """(moved, read): mean change of every estimate when one true score rises by 1."""
    rows = []
    for a in range(len(factors.NAMES)):
        low, high = (
            estimate(params, painted(t._replace(scores=t.scores.at[:, a].add(step))))
            for step in (-0.5, 0.5)
        )
        rows.append((np.asarray(high.scores) - np.asarray(low.scores)).mean(0))
    return np.stack(rows)


def _rows(names, columns) -> dict:
    return {
        name: {key: round(float(column[i]), 4) for key, column in columns.items()}
        for i, name in enumerate(names)
    }
