"""mini-glow: rosinality/glow-pytorch's Glow on faces of 32x32 pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from ports import glow
from ports.port import Params, Port, define
from scripts.miniature import card, data, export, picture
from scripts.miniature.loop import train

CONFIG = glow.Config(n_flow=8, n_block=3, hidden=96, size=32)
BATCH, RATE, INIT_SEED, TEMPERATURE = 16, 1e-3, 13, 0.7
FIXED = ("w_p", "s_sign")  # of each LU: they are no parameters
SHOWN = 12


def started(config: glow.Config, images: jax.Array) -> Params:
    """A network whose ActNorms give channels of mean 0 and spread 1 on these images."""
    network = glow.Glow(config, rngs=nnx.Rngs(INIT_SEED))
    x = images / 2
    for block in network.blocks:
        x = glow.squeezed(x)
        for flow in block.flows:
            flow.actnorm.loc.set_value(-x.mean((0, 1, 2)))
            flow.actnorm.scale.set_value(1 / (x.std((0, 1, 2)) + 1e-6))
            x, _ = flow.forward(x)
        x = jnp.split(x, 2, axis=-1)[0] if block.split else x
    return nnx.to_pure_dict(nnx.split(network)[1])


def parted(params: Params) -> tuple[Params, Params]:
    """What is trained, and what is fixed."""
    flat, fixed = {}, {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = ".".join(str(k.key) for k in path)
        (fixed if name.endswith(FIXED) else flat)[name] = leaf
    return flat, fixed


def whole(like: Params, trained: Params, fixed: Params) -> Params:
    """The network's tree again."""
    both = trained | fixed
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = [".".join(str(k.key) for k in path) for path, _ in leaves]
    return jax.tree_util.tree_unflatten(treedef, [both[name] for name in names])


def loss_fn(port: Port, fixed: Params):
    """Bits a number, as glow-pytorch counts them."""
    config = port.config
    d = config.latent_dim

    def loss(trained, average, images, key):
        del average
        x = glow.dequantised(config, images, key)
        params = whole(port.params, trained, fixed)
        nats = port.apply(params, x, method="log_prob").mean()
        bits = config.n_bits - nats / (d * jnp.log(2.0))
        return bits, {"bits": bits}

    return loss


def snapshots(steps: int) -> tuple[int, ...]:
    """Eight steps, the last of them the last: from one to the next about a doubling."""
    return tuple(max(1, round(steps / 2**i / 50)) * 50 for i in range(8))


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "Glow, faces of 32x32x3 pixels to as many numbers: additive couplings, "
            "LU-decomposed 1x1 convolutions, three levels of eight."
        ),
        steps=6000,
        faces=data.FIRST,
        settings={
            "batch": BATCH,
            "peak learning rate": RATE,
            "bits of a pixel's value": CONFIG.n_bits,
            "ActNorm": "started from the first 256 faces",
            "seeds": f"weights {INIT_SEED}, batches and noise 0",
        },
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train and write ``out/mini-glow``; snapshots lie in the run's folder."""
    size = CONFIG.size
    images = data.kept(
        runs / f"faces-{size}-{faces.start}-{faces.stop}.npy",
        lambda: data.resized(data.images(faces), size),
    )
    jax.config.update("jax_compilation_cache_dir", str(runs / "compiled"))
    first = glow.dequantised(CONFIG, data.signed(images[:256]), jax.random.key(2))
    params = started(CONFIG, first)
    _, apply = define(glow.Glow, CONFIG)
    trained, fixed = parted(params)
    jitted = jax.jit(apply, static_argnames="method")
    noise = jax.random.normal(jax.random.key(1), (SHOWN, CONFIG.latent_dim))
    kept, folder = snapshots(steps), runs / name

    def look(step: int, trained: Params) -> None:
        whole_now = whole(params, trained, fixed)
        rows = []
        for temperature in (TEMPERATURE, 1.0):
            z = jitted(whole_now, temperature * noise, method="unwhiten")
            rows.append(jitted(whole_now, z, method="decode"))
        picture.grid(folder / "sample.png", data.signed(images[:SHOWN]), *rows)
        if step in kept:
            write(folder / "snapshots" / str(step * BATCH), CONFIG, whole_now)

    trained = train(
        folder / "steps",
        trained,
        loss_fn(Port(CONFIG, params, apply), fixed),
        lambda key: data.signed(images[data.pick(key, len(images), BATCH)]),
        steps=steps,
        rate=RATE,
        save_every=50,
        at_save=look,
    )
    write(out / name, CONFIG, whole(params, trained, fixed))


def write(folder: Path, config: glow.Config, params: Params) -> None:
    """config.json and model.safetensors, with all that glow-pytorch's state holds."""
    raw: dict[str, Any] = {"_class_name": "Glow", **dataclasses.asdict(config)}
    export.write_json(folder / "config.json", raw)
    save_file(tensors(params), folder / "model.safetensors")


def tensors(params: Params) -> dict[str, np.ndarray]:
    """Our tree -> glow-pytorch's names and layout, float16."""
    out: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = ".".join(str(k.key) for k in path)
        x = np.asarray(leaf, np.float16)
        if x.ndim == 4:
            x = x.transpose(3, 2, 0, 1)
        elif name.endswith("invconv.weight"):
            x = x[:, :, None, None]
        elif name.endswith((".loc", ".scale")):
            x = x[None, :, None, None]
        out[name] = np.ascontiguousarray(x)
        if name.endswith("w_l"):
            ones = np.ones_like(x)
            stem = name.removesuffix("w_l")
            out[f"{stem}u_mask"], out[f"{stem}l_mask"] = (
                np.triu(ones, 1),
                np.tril(ones, -1),
            )
            out[f"{stem}l_eye"] = np.eye(len(x), dtype=x.dtype)
        if name.endswith("actnorm.loc"):
            out[f"{name.removesuffix('loc')}initialized"] = np.array(1, np.uint8)
    return out
