"""mini-vq: VQModel, 64x64 images to 8x8x4 latents of 512 codes."""

from pathlib import Path

import jax
import jax.numpy as jnp

from ports import vq
from ports.port import Port, init
from scripts.miniature import card, data, export, picture
from scripts.miniature.loop import train
from scripts.miniature.vae import FEATURES, distance

CONFIG = vq.Config(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 32, 64, 64),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=8,
    num_vq_embeddings=512,
    sample_size=64,
)
BATCH, RATE, EMPHASIS, INIT_SEED = 8, 2e-3, 3.0, 21
COMMITMENT, REACH = 0.25, 0.25
SHOWN = 12


def loss_fn(port: Port):
    """L1 on pixels and their gradients; the codebook's two terms, and a third.

    Codes go to their latents and latents to their codes (van den Oord et al. 2017,
    equation 3). Also every code goes to the latent of the batch that is nearest to it,
    so that none is left where no latent comes.
    """

    def loss(params, average, images, key):
        del average, key
        z = port.apply(params, images, method="encode")
        _, indices = port.apply(params, z, method="quantize")
        out = port.apply(params, z, method="decode")  # straight through to z
        pixels = distance(out, images)
        face = distance(out[FEATURES], images[FEATURES])

        book = params["quantize"]["embedding"]["weight"]
        still = jax.lax.stop_gradient(z).reshape(-1, z.shape[-1])
        chosen = book[indices]
        follow = jnp.square(chosen - jax.lax.stop_gradient(z)).mean()
        commit = jnp.square(z - jax.lax.stop_gradient(chosen)).mean()
        far = jnp.square(book[:, None] - still[None]).sum(-1)
        reach = far.min(1).mean() / z.shape[-1]

        mse = jnp.square(jnp.clip(out, -1, 1) - images).mean() / 4
        used = jnp.zeros(len(book)).at[indices.reshape(-1)].set(1).mean()
        metrics = {
            "l1": pixels,
            "face": face,
            "commit": commit,
            "used": used,
            "psnr": -10 * jnp.log10(mse),
        }
        book_terms = follow + COMMITMENT * commit + REACH * reach
        return pixels + EMPHASIS * face / 4 + book_terms, metrics

    return loss


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            f"VQModel, 64x64x3 pixels to 8x8 places, each one of "
            f"{CONFIG.num_vq_embeddings} codes of {CONFIG.width} numbers."
        ),
        steps=6000,
        faces=data.FIRST,
        settings={
            "batch": BATCH,
            "peak learning rate": RATE,
            "weight of the commitment": COMMITMENT,
            "weight of idle codes' way to a latent": REACH,
            "weight of eyes and mouth": EMPHASIS,
            "seeds": f"weights {INIT_SEED}, batches 0",
        },
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train and write ``out/mini-vq``."""
    images = data.kept(
        runs / f"faces-64-{faces.start}-{faces.stop}.npy", lambda: data.images(faces)
    )
    jax.config.update("jax_compilation_cache_dir", str(runs / "compiled"))
    port = init(vq.VQModel, CONFIG, jax.random.key(INIT_SEED))
    shown = data.signed(images[:SHOWN])
    apply = jax.jit(port.apply)

    def look(step, params):
        del step
        picture.grid(runs / name / "sample.png", shown, apply(params, shown))

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
    export.diffusers_model(out / name, "VQModel", CONFIG, params)
