"""VAE of one flat Gaussian latent: the posterior's mean, or one draw of it."""

import jax
import jax.numpy as jnp

from ports import resnet_vae
from ports.checkpoint import locate, sha256
from une_jax import images
from une_jax.cli import programs
from une_jax.cli.batches import DTYPES
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.settings import Settings

CLASSES = ("ResNetVAE",)


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of DiffuseVAE's first stage. The draw has a row's own key, of ``--seed``."""
    del name
    port = resnet_vae.load(
        place.source, revision=place.revision, dtype=DTYPES[settings.dtype]
    )

    def encode(params, batch):
        pixels = images.to_signed(batch["pixels"])
        mean, logvar = port.apply(params["network"], pixels, method="moments")
        keys = programs.fold_in(params["key"], batch["row"])
        draw = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))
        return {"": mean, ".sample": mean + jnp.exp(logvar / 2) * draw(keys)}

    def decode(params, latents):
        return port.apply(params["network"], latents, method="decode")

    shape = (port.config.latent_dim,)
    return Ways(
        kind="VAE",
        size=port.config.input_res,
        latents=(
            Latent("", "mean of the posterior", shape, normal=True),
            Latent(".sample", "a draw from the posterior", shape, normal=True),
        ),
        params={"network": port.params, "key": jax.random.key(settings.seed)},
        encode=encode,
        decode={"": decode, ".sample": decode},
        weights_sha256=sha256([locate(place.source, revision=place.revision)]),
        settings={"seed": settings.seed},
    )
