"""``une-jax edit``: one image, more or less of an attribute, others held."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from PIL import Image

from une_jax import images, zoo
from une_jax.attributes import resolve
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Invert an image, walk its noise along an attribute's direction, decode each step."""

    zoo: Path
    """the NoiseZoo whose rows teach the direction"""
    image: Path
    """the image file to edit"""
    attribute: str
    """which attribute, e.g. Smiling"""
    out: Path
    """folder for the edited images and grid.png"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which generator view of the zoo (default: its only one, or --generator's)"""
    keep: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """attributes to leave alone: their directions are projected out"""
    prompt: str = ""
    """the image's prompt, where the zoo's images have each their own"""
    strength: tuple[float, ...] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    """in standard deviations of the zoo's latents along the direction"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        wanted = resolve(opened.attribute_names, self.attribute)
        for name in self.keep:
            resolve(opened.attribute_names, name)
        if self.attribute in self.keep:
            raise UneError(f"--keep {self.attribute} would undo the edit itself")
        if not self.strength or not np.isfinite(self.strength).all():
            raise UneError("--strength: give one number or more, none infinite or NaN")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        picture = images.decode(self.image)

        from une_jax.cli.generator import generator_of_view
        from une_jax.report import figures, probing

        view = generator_view(opened, self.view, self.generator)
        generator = generator_of_view(view, self.generator, rows=len(self.strength))
        probed = probing.probe_view(opened, view.name)
        direction, unit = probed.direction(
            opened.attribute_names, self.attribute, self.keep
        )
        pixels = generator.prepare(picture)[None]
        own = generator.settings.prompt is None
        if self.prompt and not own:
            raise UneError(
                f"--prompt: view {view.name!r} has one prompt for all images"
            )
        prompts = [self.prompt] if own else None
        origin = generator.compute(pixels, np.zeros(1, int), prompts).arrays
        grid = walk(
            generator,
            origin,
            direction[None],
            np.array([unit]),
            self.strength,
            prompts=prompts,
        )

        self.out.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"\W+", "_", f"{self.image.stem}_{self.attribute}")
        labels = [f"{s:+g}" if s else "0" for s in self.strength]
        files = []
        for label, edited in zip(labels, grid[0, 0], strict=True):
            file = self.out / f"{stem}_{label}.png"
            Image.fromarray(edited).save(file)
            files.append(str(file))
        tile = max(96, min(256, generator.size))
        sheet = np.concatenate([pixels[None], grid[0]], axis=1)
        png = figures.sheet(sheet, columns=["image", *labels], tile=tile)
        (self.out / "grid.png").write_bytes(png)
        return {
            "attribute": self.attribute,
            "keep": list(self.keep),
            "strength": list(self.strength),
            "test_auc": float(probed.metrics.auc[wanted]),
            "images": files,
            "grid": str(self.out / "grid.png"),
        }

    def text(self, result: dict[str, Any]) -> str:
        kept = f", keeping {', '.join(self.keep)}" if self.keep else ""
        return (
            f"{self.attribute}{kept}: {len(result['images'])} images and "
            f"{result['grid']} (test AUC of its probe: {result['test_auc']:.2f})"
        )


def generator_view(opened: zoo.Zoo, name: str | None, source: str | None) -> zoo.View:
    """The view that is asked for, or the only one it can be."""
    views = [v for v in opened.manifest.views if v.kind == "generator"]
    if not views:
        raise UneError(f"{opened.path} has no generator view to edit in")
    if name is None and len(views) == 1:
        return views[0]
    wanted = name or source or ""
    for view in views:
        if wanted in (view.name, view.model_id):
            return view
    listed = ", ".join(view.name for view in views)
    raise UneError(
        f"{opened.path} has the generator views {listed}: choose with --view"
    )


def walk(
    generator: "Generator",
    origin: dict[str, np.ndarray],
    directions: Any,
    units: np.ndarray,
    strengths: tuple[float, ...],
    *,
    prompts: Sequence[str] | None = None,
) -> np.ndarray:
    """Images (n, directions, strengths, h, w, 3) uint8 along each (m, d) direction.

    ``origin`` are n images' rows of the views that ``generator.decodes_from``; strength
    0 is what they themselves give back.
    """
    import jax
    import jax.numpy as jnp

    from une_jax import edits

    per_direction = jax.vmap(edits.move, in_axes=(None, 0, None, 0))
    per_image = jax.vmap(per_direction, in_axes=(0, None, None, None))
    noise = origin[generator.name]
    moved = per_image(
        jnp.asarray(noise, jnp.float32),
        directions,
        jnp.asarray(strengths, jnp.float32),
        jnp.asarray(units, jnp.float32),
    )
    each = len(directions) * len(strengths)
    flat = generator.decode(
        np.asarray(moved).reshape(-1, *noise.shape[1:]),
        prompts=None if prompts is None else np.repeat(prompts, each).tolist(),
        origin={name: np.repeat(x, each, axis=0) for name, x in origin.items()},
    )
    return flat.reshape(*moved.shape[:3], *flat.shape[1:])
