"""mini-vae: DiffuseVAE's ResNet VAE, 64x64 images to 128 numbers."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from ports import resnet_vae
from ports.port import Port, init
from ports.vae import sample_posterior
from scripts.miniature import card, data, export, picture
from scripts.miniature.loop import train

_CHANNELS = "64:16,32:32,16:64,8:128,4:240,1:128"
CONFIG = resnet_vae.Config(
    input_res=64,
    enc_block_str="64d2,64t32,32d2,32t16,16d2,16t8,8x1,8d2,8t4,4d4,4t1,1x1",
    dec_block_str="1x1,1u4,1t4,4x2,4u2,4t8,8x2,8u2,8t16,16x2,16u2,16t32,32x1,32u2,32t64,64x1",
    enc_channel_str=_CHANNELS,
    dec_channel_str=_CHANNELS,
)
BATCH, RATE, KL, INIT_SEED = 16, 1.5e-3, 1e-2, 12
# Eyes and mouth are few pixels and most of the attributes: they count more.
FEATURES, EMPHASIS = (slice(None), slice(24, 50), slice(18, 46)), 3.0
SHOWN = 12


def loss_fn(port: Port):
    """DiffuseVAE's loss: summed squared errors of [0, 1] plus ``KL`` times the KL.

    With this weight it is the bound of a Gaussian of variance KL / 2 a pixel.
    """

    def loss(params, average, images, key):
        del average
        mean, logvar = port.apply(params, images, method="moments")
        z = sample_posterior(key, mean, logvar)
        out = port.apply(params, z, method="decode")
        square = jnp.square(out - images) / 4
        face = square[FEATURES].sum() / len(images)
        kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1 - logvar).sum(-1).mean()
        total = square.sum() / len(images) + EMPHASIS * face + KL * kl
        active = (mean.var(0) > 0.1).sum()
        psnr = -10 * jnp.log10(square.mean())
        return total / 10, {"face": face, "kl": kl, "active": active, "psnr": psnr}

    return loss


def started(key: jax.Array) -> Port:
    """A network whose signal keeps its size through blocks and turns at the start.

    torch's own initial weights shrink it by sqrt(3) at each convolution, and by the
    GELUs, so that at first no latent tells the decoder anything.
    """
    port = init(resnet_vae.ResNetVAE, CONFIG, key)

    def scaled(path, leaf):
        name = ".".join(str(k.key) for k in path)
        if name.endswith(".bias"):
            return jnp.zeros_like(leaf)
        gain = {"mu": 4.0, "logvar": 0.1, "last_conv": 0.2}.get(name.split(".")[1], 1.0)
        if ".c" in name:
            gain = 1.1 if name.endswith("c4.weight") else 1.5
        return gain * 3**0.5 * leaf

    return port._replace(params=jax.tree_util.tree_map_with_path(scaled, port.params))


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "DiffuseVAE's first-stage ResNet VAE, 64x64x3 pixels to one flat latent of "
            "128 numbers."
        ),
        steps=3_500,
        faces=data.FIRST,
        settings={
            "batch": BATCH,
            "peak learning rate": RATE,
            "weight of the KL term": f"{KL} to squared errors summed over [0, 1]",
            "weight of eyes and mouth": 1 + EMPHASIS,
            "seeds": f"weights {INIT_SEED}, batches and noise 0",
        },
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train and write ``out/mini-vae``."""
    images = data.kept(
        runs / f"faces-64-{faces.start}-{faces.stop}.npy", lambda: data.images(faces)
    )
    jax.config.update("jax_compilation_cache_dir", str(runs / "compiled"))
    port = started(jax.random.key(INIT_SEED))
    shown = data.signed(images[:SHOWN])
    apply = jax.jit(port.apply, static_argnames="method")
    noise = jax.random.normal(jax.random.key(1), (SHOWN, CONFIG.latent_dim))

    def look(step, params):
        del step
        again = apply(params, shown)
        samples = apply(params, noise, method="decode")
        picture.grid(runs / name / "sample.png", shown, again, samples)

    params = train(
        runs / name / "steps",
        port.params,
        loss_fn(port),
        lambda key: data.signed(images[data.pick(key, len(images), BATCH)]),
        steps=steps,
        rate=RATE,
        save_every=100,
        at_save=look,
    )
    write(out / name, CONFIG, params)


def write(folder: Path, config: resnet_vae.Config, params) -> None:
    """config.json and model.safetensors, as the converter writes them."""
    raw = {"_class_name": "ResNetVAE", **dataclasses.asdict(config)}
    export.write_json(folder / "config.json", raw)
    tensors: dict[str, np.ndarray] = export.torch_layout(params)
    save_file(tensors, folder / "model.safetensors")
