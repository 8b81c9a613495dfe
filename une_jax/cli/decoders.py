"""Whatever a zoo's view came from, the way from its latents back to images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from une_jax.cli.names import resolve
from une_jax.errors import UneError
from une_jax.zoo import View, Zoo

if TYPE_CHECKING:
    from une_jax.report.roads.pictures import Decoder

PART = 512  # images decoded at once


def decodable(view: View, opened: Zoo) -> bool:
    """Whether there can be one: for noise that decodes alone, for clean latents, and
    for the latents of any family."""
    if view.kind == "control":
        base, _, what = view.name.rpartition(".")
        return what == "x0" and base in opened.views
    if view.kind == "generator":
        alone = f"{view.name}.before", f"{view.name}.eps"
        own = view.settings.get("prompt", "") is None
        return not own and not any(name in opened.views for name in alone)
    return view.kind == "latent"


def family_word(view: View) -> str:
    """The family of a view's model: that of ``Ways.kind``, "latent diffusion" for noise,
    "clean latents" for a pipeline's, "encoder"."""
    if view.kind == "latent":
        return str(view.config.get("family", "latent"))
    words = {
        "generator": "latent diffusion",
        "control": "clean latents",
        "encoder": "encoder",
    }
    return words.get(view.kind, view.kind)


def require_found(opened: Zoo, view: View, sources: Mapping[str, str]) -> None:
    """Before any work: that there is a way to the view's model, by ``sources`` or name.

    Raises:
        UneError: there is none; it says what to do.
    """
    try:
        resolve(_source(view, sources) or view.model_id)
        if view.kind != "latent":
            from une_jax.cli.settings import settings_of

            settings_of(_noise(opened, view))
    except UneError as error:
        raise UneError(
            f"view {view.name!r}: {error} (say where its model is with --generator "
            f"{view.name}=PATH_OR_ID)"
        ) from error


def _source(view: View, sources: Mapping[str, str]) -> str | None:
    """What is said of the view, or of the one that its model is named by."""
    suffix = ".x0" if view.kind == "control" else str(view.settings.get("suffix", ""))
    return sources.get(view.name, sources.get(view.name.removesuffix(suffix)))


def _noise(opened: Zoo, view: View) -> View:
    """The generator view of a noise view itself, or of clean latents."""
    base = view.name.removesuffix(".x0") if view.kind == "control" else view.name
    return next(v for v in opened.manifest.views if v.name == base)


def decoder_of(
    opened: Zoo, view: View, sources: Mapping[str, str], *, rows: int
) -> "Decoder":
    """The model of a view, loaded; it takes latents as stored, or flat.

    ``sources`` says by view where models are that are not found by their names; ``rows``
    is the most that a call will have.

    Raises:
        UneError: the view has none, or its model is not found or not the same.
    """
    if not decodable(view, opened):
        raise UneError(f"view {view.name!r} cannot be decoded to images")
    from une_jax.report.roads.pictures import Decoder

    source = _source(view, sources)
    if view.kind == "latent":
        from une_jax.cli.family import family_of_view

        family = family_of_view(view, source, rows=rows)
        run, size = (lambda x: family.decode(view.name, x)), family.size
    else:
        from une_jax.cli.generator import generator_of_view

        generator = generator_of_view(_noise(opened, view), source, rows=rows)
        size = generator.size
        run = generator.paint if view.kind == "control" else generator.decode

    def decode(x: np.ndarray) -> np.ndarray:
        stored = np.asarray(x, np.float32).reshape(len(x), *view.shape)
        parts = [run(stored[i : i + PART]) for i in range(0, len(stored), PART)]
        return np.concatenate(parts)

    return Decoder(size, decode)
