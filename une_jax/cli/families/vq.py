"""VQVAE: the encoder's output before the codebook, which decoding looks up again."""

from typing import Any

from ports import vq
from ports.checkpoint import locate, sha256
from une_jax import images
from une_jax.cli.batches import DTYPES
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.settings import Settings
from une_jax.errors import UneError

CLASSES = {"VQModel": "", "LDMPipeline": "vqvae"}  # and the folder it is in


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of diffusers' VQModel, alone or in an unconditional latent diffusion pipeline."""
    where: dict[str, Any] = {"subfolder": CLASSES[name], "revision": place.revision}
    port = vq.load(place.source, dtype=DTYPES[settings.dtype], **where)
    factor = 2 ** (len(port.config.block_out_channels) - 1)
    size = settings.size or port.config.sample_size
    if size % factor:
        raise UneError(f"--size {size} is not a multiple of {factor}, as {place.source} needs")  # fmt: skip

    def encode(params, batch):
        pixels = images.to_signed(batch["pixels"])
        return {"": port.apply(params, pixels, method="encode")}

    def decode(params, latents):
        return port.apply(params, latents, method="decode")

    shape = (port.config.width, size // factor, size // factor)
    return Ways(
        kind="VQVAE",
        size=size,
        latents=(Latent("", "the encoder's output before quantisation", shape),),
        params=port.params,
        encode=encode,
        decode={"": decode},
        weights_sha256=sha256([locate(place.source, **where)]),
        settings={"codes": port.config.num_vq_embeddings},
    )
