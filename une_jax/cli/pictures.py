"""What the commands that edit single images have in common: noise in, a strip out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from une_jax import images
from une_jax.errors import UneError
from une_jax.zoo import View, Zoo
from une_jax.zoo.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.cli.diffusion import Diffusion
    from une_jax.cli.generator import Generator


PIXELS = "pixel diffusion"
"""The family of a model that walks images themselves, as its views have it."""


def in_pixels(view: View) -> bool:
    """Whether a view is noise of a diffusion model in pixels, or its h."""
    return view.config.get("family") == PIXELS


def generator_view(opened: Zoo, name: str | None, source: str | None) -> View:
    """The view that is asked for, or the only one it can be."""
    return _chosen(opened, [_generators(opened)], name, source)


def diffusion_view(opened: Zoo, name: str | None, source: str | None) -> View:
    """As ``generator_view``, where a model in pixels will do: one that is asked for, or
    the only one of a zoo without generators."""
    pixels = [view for view in opened.manifest.views if in_pixels(view)]
    return _chosen(opened, [_generators(opened), pixels], name, source)


def _generators(opened: Zoo) -> list[View]:
    return [view for view in opened.manifest.views if view.kind == "generator"]


def _chosen(
    opened: Zoo, kinds: Sequence[list[View]], name: str | None, source: str | None
) -> View:
    views = [view for kind in kinds for view in kind]
    if not views:
        raise UneError(f"{opened.path} has no generator view to edit in")
    wanted = name or source or ""
    for view in views:
        if wanted in (view.name, view.model_id):
            return view
    first = next(kind for kind in kinds if kind)
    if name is None and len(first) == 1:
        return first[0]
    listed = ", ".join(view.name for view in views)
    raise UneError(
        f"{opened.path} has the generator views {listed}: choose with --view"
    )


def prompts_for(generator: "Diffusion", prompt: str, n: int) -> list[str] | None:
    """``--prompt`` for each of n images, where the generator's images have their own."""
    own = generator.settings.prompt is None
    if prompt and not own:
        name, pixels = generator.name, in_pixels(generator.views[0])
        what = "is told no words" if pixels else "has one prompt for all images"
        raise UneError(f"--prompt: view {name!r} {what}")
    return [prompt] * n if own else None


def origin_of(
    generator: "Generator", opened: Zoo, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """What the zoo holds of these images that gives them back."""
    return {name: np.asarray(opened[name][rows]) for name in generator.decodes_from}


def prompts_of(
    generator: "Diffusion", opened: Zoo, rows: np.ndarray
) -> list[str] | None:
    """The prompts of these of the zoo's images, where each has its own."""
    if generator.settings.prompt is not None:
        return None
    said = opened.rows.column("prompt").to_pylist()
    return [said[i] for i in rows]


def write_strip(
    out: Path,
    stem: str,
    labels: Sequence[str],
    edited: UInt8[np.ndarray, "s h w 3"],
    given: UInt8[np.ndarray, "g h w 3"],
) -> dict[str, object]:
    """One PNG for each image, named ``stem_label``, and all of them in a grid.png,
    after the given ones. Returns where they are."""
    from une_jax.report import figures

    out.mkdir(parents=True, exist_ok=True)
    stem, files = re.sub(r"\W+", "_", stem), []
    for label, image in zip(labels, edited, strict=True):
        file = out / f"{stem}_{label}.png"
        write_bytes_atomically(file, images.png(image))
        files.append(str(file))
    tile = max(96, min(256, edited.shape[2]))
    columns = ["image"] * len(given) + list(labels)
    png = figures.sheet(np.concatenate([given, edited])[None], columns=columns, tile=tile)  # fmt: skip
    write_bytes_atomically(out / "grid.png", png)
    return {"images": files, "grid": str(out / "grid.png")}
