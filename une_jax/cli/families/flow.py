"""Normalizing flow: the latents of all levels, as they are or made N(0, I)."""

from ports import glow
from ports.checkpoint import locate, sha256
from une_jax import images
from une_jax.cli.batches import DTYPES
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.settings import Settings

CLASSES = ("Glow",)


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of Glow. What the prior of a level is given by the level above it, so that only
    the whitened latents are N(0, I)."""
    del name
    port = glow.load(
        place.source, revision=place.revision, dtype=DTYPES[settings.dtype]
    )

    def encode(params, batch):
        pixels = images.to_signed(batch["pixels"])
        z = port.apply(params, pixels, method="encode")
        return {"": z, ".eps": port.apply(params, z, method="whiten")}

    def decode(params, z):
        return port.apply(params, z, method="decode")

    def decode_eps(params, eps):
        return decode(params, port.apply(params, eps, method="unwhiten"))

    size = port.config.size
    shape = (3 * size * size,)
    return Ways(
        kind="flow",
        size=size,
        latents=(
            Latent("", "z of all levels", shape),
            Latent(
                ".eps", "z of all levels, whitened by its prior", shape, normal=True
            ),
        ),
        params=port.params,
        encode=encode,
        decode={"": decode, ".eps": decode_eps},
        weights_sha256=sha256([locate(place.source, revision=place.revision)]),
        settings={},
    )
