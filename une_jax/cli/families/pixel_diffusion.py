"""Diffusion in pixels: the noise to which DDIM inversion leads."""

from ports import ddpm
from une_jax import ddim, images
from une_jax.cli.batches import DTYPES
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.schedule import Schedule

CLASSES = ("DDPMPipeline", "DDIMPipeline")


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of an unconditional diffusion pipeline, inverted by ``--steps``, ``--eval-at``."""
    del name
    loaded = ddpm.load_pipeline(
        place.source, revision=place.revision, dtype=DTYPES[settings.dtype]
    )
    schedule = Schedule.from_config(
        loaded.scheduler, steps=settings.steps, eval_at=settings.eval_at
    )
    eps_fn, config = loaded.unet.apply, loaded.unet.config

    def encode(params, batch):
        x0 = images.to_signed(batch["pixels"])
        return {"": ddim.invert(eps_fn, params["unet"], x0, params["steps"])}

    def decode(params, x_T):
        return ddim.sample(eps_fn, params["unet"], x_T, params["steps"])

    size = settings.size or config.sample_size
    if not isinstance(size, int):
        raise UneError(
            f"{place.source} says sample_size {size}: say one edge with --size"
        )
    factor = 2 ** (len(config.block_out_channels) - 1)
    if size % factor:
        raise UneError(f"--size {size} is not a multiple of {factor}, as {place.source} needs")  # fmt: skip
    if (config.in_channels, config.out_channels) != (3, 3):
        raise UneError(
            f"{place.source} takes {config.in_channels} channels and gives "
            f"{config.out_channels}: only images of 3 can be encoded"
        )
    shape = (3, size, size)
    return Ways(
        kind="pixel diffusion",
        size=size,
        latents=(Latent("", "noise of DDIM inversion", shape, normal=True),),
        params={"unet": loaded.unet.params, "steps": schedule},
        encode=encode,
        decode={"": decode},
        weights_sha256=loaded.weights_sha256,
        settings={
            "scheduler": loaded.scheduler,
            "steps": settings.steps,
            "eval_at": settings.eval_at,
            "terminal_t": schedule.terminal_t,
        },
    )
