"""``une-jax interpolate``: from one image to another, through the noise between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from une_jax import images, zoo
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """Invert two images and decode the great circle between their noises (slerp)."""

    zoo: Path
    """the NoiseZoo whose generator and settings to use"""
    image: Path
    """the image file to start from"""
    to: Path
    """the image file to arrive at"""
    out: Path
    """folder for the images and grid.png"""
    places: int = 7
    """how many images, both ends included"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which generator view of the zoo (default: its only one, or --generator's)"""
    prompt: str = ""
    """the images' prompt, where the zoo's images have each their own"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if self.places < 2:
            raise UneError(f"--places is {self.places}; use 2 or more")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        opened = zoo.open(self.zoo)
        ends = [images.decode(file) for file in (self.image, self.to)]

        import jax.numpy as jnp

        from une_jax import shells
        from une_jax.cli.generator import generator_of_view

        view = pictures.generator_view(opened, self.view, self.generator)
        generator = generator_of_view(view, self.generator, rows=self.places)
        prompts = pictures.prompts_for(generator, self.prompt, 2)
        pixels = np.stack([generator.prepare(end) for end in ends])
        noise = generator.compute(pixels, np.arange(2), prompts).arrays[view.name]
        a, b = jnp.asarray(noise, jnp.float32)
        t = np.linspace(0, 1, self.places, dtype=np.float32)
        between = np.asarray(shells.slerp(a, b, jnp.asarray(t)))
        said = pictures.prompts_for(generator, self.prompt, self.places)
        made = generator.decode(between, prompts=said)
        stem = f"{self.image.stem}_to_{self.to.stem}"
        digits = max(2, len(str(self.places - 2)))  # no two places have one name
        labels = [f"{x:.{digits}f}" for x in t]
        cosine = float(jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))
        return {
            "places": t.tolist(),
            "cosine": cosine,
            **pictures.write_strip(self.out, stem, labels, made, pixels),
        }

    def text(self, result: dict[str, Any]) -> str:
        return (
            f"{len(result['images'])} images and {result['grid']}; the two noises are "
            f"at a cosine of {result['cosine']:.2f}"
        )
