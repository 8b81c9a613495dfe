"""GAN: it has no encoder, so that its latents are those of images that it painted."""

from ports import stylegan2
from ports.checkpoint import locate, sha256
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.settings import Settings
from une_jax.errors import UneError

CLASSES = ("StyleGAN2",)


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of StyleGAN2, float32 whatever else is not. Row i is the image of seed ``--seed`` + i, as ``une-jax synthesize``
    names its files; z is numpy's RandomState(seed).randn, as in the published lists."""
    del name
    if settings.seed < 0:
        raise UneError(f"--seed {settings.seed}: a GAN's seeds are 0 or more")
    port = stylegan2.load(place.source, revision=place.revision)

    def encode(params, batch):
        z = batch["z"]
        return {"": port.apply(params, z, method="mapping"), ".z": z}

    def decode(params, w):
        return port.apply(params, w, method="synthesis")

    def decode_z(params, z):
        return decode(params, port.apply(params, z, method="mapping"))

    return Ways(
        kind="GAN",
        size=port.config.img_resolution,
        latents=(
            Latent("", "w, the mapping network's output", (port.config.w_dim,)),
            Latent(
                ".z",
                "z, the mapping network's input",
                (port.config.z_dim,),
                normal=True,
            ),  # fmt: skip
        ),
        params=port.params,
        encode=encode,
        decode={"": decode, ".z": decode_z},
        weights_sha256=sha256([locate(place.source, revision=place.revision)]),
        settings={"seed": settings.seed},
        draws=True,
    )
