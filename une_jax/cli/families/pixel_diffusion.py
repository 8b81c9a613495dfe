"""Diffusion in pixels: the noise to which DDIM inversion leads."""

from typing import Any, NamedTuple

from ports import ddpm
from ports.port import Port
from une_jax import ddim, images
from une_jax.cli.batches import DTYPES
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.pictures import PIXELS
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.schedule import Schedule

CLASSES = ("DDPMPipeline", "DDIMPipeline")


class Loaded(NamedTuple):
    """A pipeline, ready to walk images of one size."""

    unet: Port
    scheduler: dict[str, Any]
    schedule: Schedule
    size: int
    weights_sha256: str


def ways(place: Place, name: str, settings: Settings) -> Ways:
    """Of an unconditional diffusion pipeline, inverted by ``--steps``, ``--eval-at``."""
    del name
    return ways_of(load(place, settings), settings)


def load(place: Place, settings: Settings) -> Loaded:
    """
    Raises:
        UneError: it walks other arrays than images of the asked size, or needs to be told
            a class with each.
    """
    loaded = ddpm.load_pipeline(
        place.source, revision=place.revision, dtype=DTYPES[settings.dtype]
    )
    config = loaded.unet.config
    schedule = Schedule.from_config(
        loaded.scheduler, steps=settings.steps, eval_at=settings.eval_at
    )
    size = settings.size or config.sample_size
    if not isinstance(size, int):
        raise UneError(
            f"{place.source} says sample_size {size}: say one edge with --size"
        )
    factor = 2 ** (len(config.block_out_channels) - 1)
    if size % factor:
        raise UneError(f"--size {size} is not a multiple of {factor}, as {place.source} needs")  # fmt: skip
    # Six: the noise, and a variance that DDIM has no use for.
    if config.in_channels != 3 or config.out_channels not in (3, 6):
        raise UneError(
            f"{place.source} takes {config.in_channels} channels and gives "
            f"{config.out_channels}: only images of 3 can be encoded"
        )
    if config.takes_class:
        raise UneError(
            f"{place.source} is told a class with each image, and a zoo has none to tell: "
            "use ports.ddpm in Python"
        )
    return Loaded(loaded.unet, loaded.scheduler, schedule, size, loaded.weights_sha256)


def ways_of(loaded: Loaded, settings: Settings) -> Ways:
    """Of a model that is loaded by the same settings."""
    eps_fn, schedule = loaded.unet.apply, loaded.schedule

    def encode(params, batch):
        x0 = images.to_signed(batch["pixels"])
        return {"": ddim.invert(eps_fn, params["unet"], x0, params["steps"])}

    def decode(params, x_T):
        return ddim.sample(eps_fn, params["unet"], x_T, params["steps"])

    shape = (3, loaded.size, loaded.size)
    return Ways(
        kind=PIXELS,
        size=loaded.size,
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
