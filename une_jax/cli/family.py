"""A generative model of any family but latent diffusion, as the commands use it."""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from ports.checkpoint import CheckpointError, class_name, locate, read_json
from une_jax import images, parallel
from une_jax.cli import costs, programs
from une_jax.cli.batches import STORED, Output, batch_size_for, batched
from une_jax.cli.devices import device_mesh
from une_jax.cli.families import flow, gan, pixel_diffusion, vae, vq
from une_jax.cli.families.ways import Latent, Place, Ways
from une_jax.cli.layout import nchw, nhwc
from une_jax.cli.names import Model, resolve
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.zoo import View

FAMILIES: tuple[ModuleType, ...] = (vae, vq, flow, pixel_diffusion, gan)
SAME = 2  # levels of 255 by which an image that a GAN paints again may differ


@runtime_checkable
class Viewed(Protocol):
    """A model that knows its views."""

    @property
    def views(self) -> tuple[View, ...]: ...


Loaded = TypeVar("Loaded", bound=Viewed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """A generative model with its ways to latents and back. Get one from
    ``load_family``; ``Ways`` says what its parts are."""

    name: str
    kind: str
    views: tuple[View, ...]
    size: int
    latents: Mapping[str, Latent]  # by view
    draws: bool
    seed: int
    params: Any = field(repr=False)
    mesh: Mesh
    batch_size: int
    _encode: programs.Program = field(repr=False)
    _decode: Mapping[str, programs.Program] = field(repr=False)

    def prepare(self, image: Image.Image) -> np.ndarray:
        return images.centre_crop(image, self.size)

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """(b, size, size, 3) uint8 and the rows' numbers -> latents, by view.

        Raises:
            UneError: the model has no encoder, and an image is not the one that it
                paints from the row's seed.
        """
        del prompts
        batch = {"pixels": pixels, "row": np.asarray(rows, np.int32)}
        if self.draws:
            seeds = self.seed + np.asarray(rows)
            batch["z"] = normal(seeds, self.latents[self.prior].shape)
        out = self._run(ft.partial(self._encode, self.params), batch)
        arrays = {
            view.name: _stored(out[self.latents[view.name].suffix], view)
            for view in self.views
        }
        if self.draws:
            self._require_own(pixels, rows, out[""])
        return Output(arrays=arrays)

    def decode(
        self, view: str, latents: Float32[np.ndarray, "b ..."]
    ) -> UInt8[np.ndarray, "b size size 3"]:
        """Latents of one of the views, as stored, to images."""
        x = np.asarray(latents, np.float32)
        run = ft.partial(self._decode[view], self.params)
        return self._run(run, nhwc(x) if x.ndim == 4 else x)

    @property
    def prior(self) -> str:
        """The view in which a draw of N(0, I) is an image's.

        Raises:
            UneError: it has none.
        """
        for name, latent in self.latents.items():
            if latent.normal:
                return name
        raise UneError(
            f"{self.name} is a {self.kind}: its latents have no prior to draw from"
        )

    def draw(self, seeds: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b size size 3"]:
        """An image of each seed, the same whatever stands beside it."""
        return self.decode(self.prior, normal(seeds, self.latents[self.prior].shape))

    def seconds_per_image(self) -> dict[str, float]:
        """Of ``compute``, measured by a warm call on random input at the build's batch."""
        batch = costs.made(self._shapes, self.mesh)
        took = costs.timed(lambda: self._encode(self.params, batch))
        return {self.kind: took / self.batch_size}

    def flops_per_image(self) -> dict[str, float]:
        """Of the same, in floating-point operations; nothing is computed."""
        count = costs.counted(self._encode, self.params, self._shapes)
        return {self.kind: count / self.batch_size}

    @property
    def _shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        b = self.batch_size
        shapes = {
            "pixels": jax.ShapeDtypeStruct((b, self.size, self.size, 3), jnp.uint8),
            "row": jax.ShapeDtypeStruct((b,), jnp.int32),
        }
        if self.draws:
            shape = self.latents[self.prior].shape
            shapes["z"] = jax.ShapeDtypeStruct((b, *shape), jnp.float32)
        return shapes

    def _require_own(
        self, pixels: np.ndarray, rows: np.ndarray, latents: np.ndarray
    ) -> None:
        again = self.decode(self.name, latents)
        for i, (image, own) in enumerate(zip(pixels, again, strict=True)):
            apart = np.abs(image.astype(np.int16) - own).max()
            # Black: a file that could not be read.
            if apart <= SAME or not image.any():
                continue
            raise UneError(
                f"{self.name} has no encoder, and image {rows[i]} is not what it paints "
                f"from seed {self.seed + rows[i]}: build from a folder of une-jax "
                "synthesize, with --seed of its first image"
            )

    def _run(self, run: Callable[[Any], Any], batch: Any) -> Any:
        return batched(run, batch, self.mesh, self.batch_size)


def normal(
    seeds: Int[np.ndarray, " b"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "b ..."]:
    """A draw of N(0, I) for each seed, from numpy's legacy generator: its streams are
    fixed for good, and published lists of seeds mean them."""
    draws = [np.random.RandomState(int(seed)).randn(*shape) for seed in seeds]
    return np.stack(draws).astype(np.float32)


def family_of(model: Model) -> tuple[ModuleType, str] | None:
    """The module of the model's class, and that class; None for any other model."""
    folder = locate(model.source, revision=model.revision, stems=())
    files = [folder / f"{stem}.json" for stem in ("model_index", "config")]
    name = next((class_name(read_json(file)) for file in files if file.is_file()), "")
    return next(((m, name) for m in FAMILIES if name in m.CLASSES), None)


def load_family(
    model: Model,
    settings: Settings,
    *,
    batch_size: int | None = None,
    rows: int | None = None,
) -> Family:
    """A model of one of ``FAMILIES``, with its weights on the devices.

    ``rows`` as for ``load_generator``.

    Raises:
        UneError: the model is of none of them, or not of the asked size.
    """
    found = family_of(model)
    if found is None:
        raise UneError(f"{model.source} is of no family that can be stitched")
    module, name = found
    ways: Ways = module.ways(Place(model.source, model.revision), name, settings)
    if settings.size not in (None, ways.size):
        raise UneError(
            f"--size {settings.size}: {model.name} makes images of {ways.size} pixels"
        )
    mesh = device_mesh()
    views = views_of(model, ways, settings)
    data_parallel = ft.partial(parallel.data_parallel, mesh=mesh)

    def pictures(decode: Any) -> Any:
        return lambda params, latents: images.from_signed(decode(params, latents))

    by_suffix = {latent.suffix: latent for latent in ways.latents}
    return Family(
        name=model.name,
        kind=ways.kind,
        views=views,
        size=ways.size,
        latents={model.name + suffix: x for suffix, x in by_suffix.items()},
        draws=ways.draws,
        seed=settings.seed,
        params=parallel.replicate(ways.params, mesh),
        mesh=mesh,
        batch_size=batch_size_for(batch_size, rows, ways.size**2 // 16, mesh),
        _encode=data_parallel(ways.encode),
        _decode={
            model.name + suffix: data_parallel(pictures(decode))
            for suffix, decode in ways.decode.items()
        },
    )


def family_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Family:
    """The model that made a zoo's latent view, as it made it.

    ``source`` and ``rows`` as for ``generator_of_view``. Raises UneError where its
    weights are not the view's.
    """
    return of_view(load_family, view, source, rows=rows)


def of_view(
    load: Callable[..., Loaded], view: View, source: str | None, *, rows: int | None
) -> Loaded:
    """What ``load`` makes of the model, settings and rows of a latent view."""
    usual, how = Settings(), view.settings
    base = view.name.removesuffix(str(how.get("suffix", "")))
    settings = Settings(
        steps=how.get("steps", usual.steps),
        eval_at=how.get("eval_at", usual.eval_at),
        seed=how.get("seed", usual.seed),
        dtype=how.get("dtype", usual.dtype),
        size=view.config.get("size"),
    )
    try:
        model = resolve(source or view.model_id)
        named = model._replace(name=base, model_id=view.model_id)
        loaded = load(named, settings, rows=rows)
    except (CheckpointError, UneError) as error:
        raise UneError(f"view {view.name!r}: {error}") from error
    if loaded.views[0].weights_sha256 != view.weights_sha256:
        raise UneError(
            f"{model.source} holds other weights than the model that made view "
            f"{view.name!r}"
        )
    return loaded


def views_of(model: Model, ways: Ways, settings: Settings) -> tuple[View, ...]:
    """A zoo's views of the model's latents."""
    return tuple(_view(model, ways, latent, settings) for latent in ways.latents)


def _view(model: Model, ways: Ways, latent: Latent, settings: Settings) -> View:
    return View(
        name=model.name + latent.suffix,
        kind="latent",
        model_id=model.model_id,
        weights_sha256=ways.weights_sha256,
        config={"family": ways.kind, "size": ways.size},
        shape=latent.shape,
        dtype=STORED[settings.dtype],
        settings={
            "what": latent.what,
            "suffix": latent.suffix,
            "dtype": settings.dtype,
            **ways.settings,
            "preprocessing": {
                "crop": "centre square",
                "resize": {"size": ways.size, "filter": "bilinear"},
                "range": [-1, 1],
            },
        },
    )


def _stored(x: np.ndarray, view: View) -> np.ndarray:
    return nchw(x, view.dtype) if x.ndim == 4 else x.astype(view.dtype)
