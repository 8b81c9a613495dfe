"""A diffusion model, in latents or in pixels, as the commands that walk it use it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8
from PIL import Image

from ports.port import Port
from une_jax.cli import pixels, programs
from une_jax.cli.batches import Output
from une_jax.cli.families import pixel_diffusion
from une_jax.cli.family import family_of
from une_jax.cli.generator import generator_of_view, load_generator
from une_jax.cli.names import Model
from une_jax.cli.pictures import in_pixels
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.zoo import View


@runtime_checkable
class Diffusion(Protocol):
    """What h-space and translation need of a model: ``Generator`` and ``Pixels`` have it.

    ``walk_params`` and ``walks`` are of :mod:`une_jax.cli.programs`; ``vae`` leads from
    uint8 images to what the UNet walks, and back. Arrays of latents are NCHW.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # ``dataclasses.replace`` takes it

    @property
    def name(self) -> str: ...

    @property
    def views(self) -> tuple[View, ...]: ...

    @property
    def size(self) -> int: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def unet(self) -> Port: ...

    @property
    def vae(self) -> programs.Pictures: ...

    @property
    def vae_params(self) -> Any: ...

    @property
    def walks(self) -> programs.Walks: ...

    @property
    def walk_params(self) -> dict[str, Any]: ...

    @property
    def mesh(self) -> Mesh: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def samples_in_few_steps(self) -> bool:
        """Whether this is a consistency model: it embeds its guidance."""
        ...

    def prepare(self, image: Image.Image) -> np.ndarray: ...

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """Prepared images -> noise."""
        ...

    def walk(
        self,
        walk: programs.Walk,
        latents: np.ndarray,
        *,
        extra: Mapping[str, Any] | None = None,
        more: Mapping[str, np.ndarray] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Any:
        """Any walk of these latents, in batches."""
        ...

    def paint(self, x0: np.ndarray) -> UInt8[np.ndarray, "b size size 3"]: ...

    def condition(self, prompt: str, guidance: float | None = None) -> Any:
        """What the UNet is told for a prompt; None, where it is told nothing."""
        ...


def load_diffusion(
    model: Model,
    settings: Settings,
    *,
    batch_size: int | None = None,
    rows: int | None = None,
) -> Diffusion:
    """A pipeline of either kind; arguments as of ``load_generator``.

    Raises:
        UneError: the model is of another family, or is in pixels and the settings
            have words for it.
    """
    found = family_of(model)
    if found is None:
        return load_generator(model, settings, batch_size=batch_size, rows=rows)
    module, name = found
    if module is not pixel_diffusion:
        raise UneError(
            f"{model.name} is a {name}: use a diffusion pipeline, in latents (mini-sd15, "
            "sd15, ...) or in pixels (mini-ddpm, ...)"
        )
    return pixels.load_pixels(model, settings, batch_size=batch_size, rows=rows)


def diffusion_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Diffusion:
    """The model that made a zoo's view, of either kind, as ``generator_of_view``."""
    find = pixels.pixels_of_view if in_pixels(view) else generator_of_view
    return find(view, source, rows=rows)
