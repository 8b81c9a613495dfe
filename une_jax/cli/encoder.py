"""An image encoder as the commands use it: images to embeddings."""

import functools as ft
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from ports import encoder, preprocess
from ports.checkpoint import CheckpointError
from une_jax import parallel
from une_jax.cli import costs
from une_jax.cli.batches import DTYPES, STORED, Output, batch_size_for, batched
from une_jax.cli.devices import device_mesh
from une_jax.cli.names import Model, resolve
from une_jax.errors import UneError
from une_jax.zoo import View, Zoo

# Encoders resize before they crop, so that a thin image would grow without bound.
MAX_ASPECT = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """An image encoder with its preprocessing. Get one from ``load_encoder``."""

    name: str
    views: tuple[View, ...]
    params: Any = field(repr=False)
    processor: preprocess.Preprocess
    mesh: Mesh
    batch_size: int
    _run: Callable[..., Any] = field(repr=False)

    def prepare(self, image: Image.Image) -> np.ndarray:
        if max(image.size) > MAX_ASPECT * min(image.size):
            width, height = image.size
            raise UneError(
                f"{width} x {height} is too long and thin for {self.name} to resize; "
                "crop the image"
            )
        return self.processor(image)

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """Prepared images, a batch of any length -> their embeddings."""
        del rows, prompts
        run = ft.partial(self._run, self.params)
        out = batched(run, pixels, self.mesh, self.batch_size)
        return Output(arrays={self.name: out.astype(self.views[0].dtype)})

    def seconds_per_image(self) -> dict[str, float]:
        """Of ``compute``, measured by a warm call on random input at the build's batch."""
        pixels = costs.made(self._pixels, self.mesh)
        took = costs.timed(lambda: self._run(self.params, pixels))
        return {"encoder": took / self.batch_size}

    def flops_per_image(self) -> dict[str, float]:
        """Of the same, in floating-point operations; nothing is computed."""
        count = costs.counted(self._run, self.params, self._pixels)
        return {"encoder": count / self.batch_size}

    @property
    def _pixels(self) -> jax.ShapeDtypeStruct:
        side = self.processor.side
        return jax.ShapeDtypeStruct((self.batch_size, side, side, 3), np.float32)


def load_encoder(
    model: Model,
    *,
    recipe: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    rows: int | None = None,
) -> Encoder:
    """An image encoder of any family; ``recipe`` is another preprocessing by name.

    ``rows`` as for ``load_generator``.
    """
    loaded = encoder.load(
        model.source, revision=model.revision, recipe=recipe, dtype=DTYPES[dtype]
    )
    port, steps = loaded.port, loaded.preprocess
    mesh = device_mesh()

    def run(params, pixels):
        return port.apply(params, pixels, method="encode_image")

    view = View(
        name=model.name,
        kind="encoder",
        model_id=model.model_id,
        weights_sha256=loaded.weights_sha256,
        config={"image_size": steps.side},
        shape=(loaded.dim,),
        dtype=STORED[dtype],
        settings={
            "output": loaded.output,
            "dtype": dtype,
            "preprocessing": {**steps.as_json(), "sha256": steps.sha256},
        },
    )
    return Encoder(
        name=model.name,
        views=(view,),
        params=parallel.replicate(port.params, mesh),
        processor=steps,
        mesh=mesh,
        batch_size=batch_size_for(batch_size, rows, steps.side**2 // 64, mesh),
        _run=parallel.data_parallel(run, mesh),
    )


def named_view(opened: Zoo, asked: str | None) -> tuple[View, str | None] | None:
    """The encoder view that ``VIEW`` or ``VIEW=PATH_OR_ID`` names, and where its model
    is; without a name the zoo's first. None where the zoo has no such view."""
    views = [v for v in opened.manifest.views if v.kind == "encoder"]
    name, _, source = (asked or "").partition("=")
    found = [v for v in views if v.name == name] if name else views
    return (found[0], source or None) if found else None


def encoder_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Encoder:
    """The model that made a zoo's encoder view, as it made it.

    ``source`` (a path, hub id or built-in name) is needed where ``view.model_id`` does
    not say where to find it; ``rows`` as for ``load_encoder``. Raises UneError where its
    weights or its preprocessing are not the view's.
    """
    steps = view.settings.get("preprocessing") or {}
    known = {recipe.sha256: name for name, recipe in preprocess.RECIPES.items()}
    try:
        model = resolve(source or view.model_id)._replace(name=view.name)
        found = load_encoder(
            model,
            recipe=known.get(steps.get("sha256", "")),
            dtype=view.settings.get("dtype", "float32"),
            rows=rows,
        )
    except CheckpointError as error:
        raise UneError(str(error)) from error
    if found.views[0].weights_sha256 != view.weights_sha256:
        raise UneError(
            f"{model.source} holds other weights than the model that made view "
            f"{view.name!r}"
        )
    if found.views[0].settings["preprocessing"] != steps:
        raise UneError(
            f"view {view.name!r} was built with another preprocessing than {model.source} "
            "asks for"
        )
    return found
