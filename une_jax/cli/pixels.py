"""A diffusion model in pixels, as a walk needs it: :class:`une_jax.cli.diffusion.Diffusion`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, UInt8
from PIL import Image

from ports.port import Port
from une_jax import images, parallel
from une_jax.cli import family, programs
from une_jax.cli.batches import Output, batch_size_for, batched
from une_jax.cli.devices import device_mesh
from une_jax.cli.families import pixel_diffusion
from une_jax.cli.families.ways import Place
from une_jax.cli.layout import nchw, nhwc
from une_jax.cli.names import Model
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.zoo import View

# Images are what the UNet walks, but for their range.
SIGNED = programs.Pictures(
    encode=jax.jit(lambda params, pixels: images.to_signed(pixels)),
    decode=lambda params, x0: x0,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """An unconditional pixel UNet with an inversion schedule. Get one from
    ``load_pixels``. It is told no words: ``prompts`` are None everywhere."""

    name: str
    views: tuple[View, ...]
    size: int
    settings: Settings
    unet: Port = field(repr=False)
    walk_params: dict[str, Any] = field(repr=False)
    mesh: Mesh
    batch_size: int

    def __post_init__(self):
        _require(self.name, self.settings)

    @property
    def walks(self) -> programs.Walks:
        """The UNet's compiled programs."""
        stored = self.settings.stored
        return programs.walks(self.unet.apply, self.mesh, stored=stored)

    @property
    def vae(self) -> programs.Pictures:
        """In a VAE's place, the change of range alone."""
        return SIGNED

    @property
    def vae_params(self) -> Any:
        return {}

    @property
    def samples_in_few_steps(self) -> bool:
        return False

    def prepare(self, image: Image.Image) -> np.ndarray:
        return images.centre_crop(image, self.size)

    def compute(
        self,
        pixels: UInt8[np.ndarray, "b size size 3"],
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """Images and their rows' numbers -> noise, NCHW."""
        self._require_none(prompts)

        def run(batch):
            x0 = self.vae.encode(self.vae_params, batch["pixels"])
            more = {"row": batch["row"]}
            return self.walks.invert(self.walk_params, x0, more)["x_T"]

        batch = {"pixels": pixels, "row": np.asarray(rows, np.int32)}
        noise = nchw(self._run(run, batch), self.views[0].dtype)
        return Output(arrays={self.name: noise})

    def walk(
        self,
        walk: programs.Walk,
        latents: Float32[np.ndarray, "b c h w"],
        *,
        extra: Mapping[str, Any] | None = None,
        more: Mapping[str, np.ndarray] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Any:
        """Any walk of NCHW pixels or noise, in batches: numpy out, as the walk gives it.

        ``extra`` is put into the walk's params, ``more`` beside the rows.
        """
        self._require_none(prompts)
        params = self.walk_params | parallel.replicate(dict(extra or {}), self.mesh)
        beside = {"row": np.arange(len(latents), dtype=np.int32), **(more or {})}

        def run(batch):
            return walk(params, batch["x"], batch["more"])

        return self._run(run, {"x": nhwc(latents), "more": beside})

    def paint(
        self, x0: Float32[np.ndarray, "b c h w"]
    ) -> UInt8[np.ndarray, "b size size 3"]:
        """NCHW pixels about [-1, 1], rounded."""
        return self._run(programs.rounded, nhwc(x0))

    def condition(self, prompt: str, guidance: float | None = None) -> None:
        """None: there is nothing to tell it."""
        del guidance
        self._require_none(prompt or None)

    def _require_none(self, said: str | Sequence[str] | None) -> None:
        if said is not None:
            raise UneError(f"{self.name} is a model in pixels: it is told no words")

    def _run(self, run: Any, batch: Any) -> Any:
        return batched(run, batch, self.mesh, self.batch_size)


def load_pixels(
    model: Model,
    settings: Settings,
    *,
    batch_size: int | None = None,
    rows: int | None = None,
) -> Pixels:
    """A model with its weights and its schedule on the devices, as ``load_generator``.

    Raises:
        UneError: the settings have words for it, or are of a method that is not ddim.
    """
    _require(model.name, settings)
    loaded = pixel_diffusion.load(Place(model.source, model.revision), settings)
    ways = pixel_diffusion.ways_of(loaded, settings)
    mesh = device_mesh()
    walk = {
        **ways.params,
        "cond": None,
        "guidance": None,
        "key": jax.random.key(settings.seed),
    }
    return Pixels(
        name=model.name,
        views=family.views_of(model, ways, settings),
        size=ways.size,
        settings=settings,
        unet=loaded.unet,
        walk_params=parallel.replicate(walk, mesh),
        mesh=mesh,
        batch_size=batch_size_for(batch_size, rows, ways.size**2 // 16, mesh),
    )


def pixels_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Pixels:
    """The model that made a zoo's view, as ``generator_of_view``."""
    try:
        return family.of_view(load_pixels, view, source, rows=rows)
    except UneError as error:
        where = "" if source else " (say where the model is with --generator)"
        raise UneError(f"{error}{where}") from error


def _require(name: str, settings: Settings) -> None:
    """Refuses settings that such a model has no use for."""
    if settings.prompt or settings.negative or settings.guidance != 1:
        raise UneError(
            f"{name} is a model in pixels: it is told no words and takes no guidance"
        )
    if settings.method != "ddim":
        raise UneError(f"{name} is a model in pixels: it is inverted by ddim")
