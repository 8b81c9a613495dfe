"""``une-jax synthesize``: images that a generative model paints, one for each seed."""

import json as json_
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from une_jax import images
from une_jax.cli import names
from une_jax.cli.options import Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.zoo.atomic import make_folder, write_bytes_atomically

MARK = "synthetic.json"
PART = 256  # images painted at once
LAST = 2**32 - 1  # seed


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Paint images of fresh draws of a model's prior, as PNG files named by seed.

    A GAN has no encoder: `une-jax build` finds its latents again from these seeds, so
    that other models' latents of the same images can be mapped to them.
    """

    generator: str
    """PATH_OR_ID or a built-in name (mini-gan) of a GAN, flow, VAE or pixel diffusion"""
    out: Path
    """folder for the images"""
    n: int = 1000
    """how many"""
    seed: int = 0
    """of the first; the others follow"""
    steps: int = 50
    """diffusion: DDIM steps"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if self.n < 1:
            raise UneError(f"--n {self.n}: use 1 or more")
        if not 0 <= self.seed <= LAST - self.n + 1:
            raise UneError(f"--seed {self.seed}: seeds go from 0 to {LAST}")

        from une_jax.cli.family import load_family
        from une_jax.cli.settings import Settings

        model = names.resolve(self.generator)
        how = Settings(steps=self.steps, seed=self.seed)
        family = load_family(model, how, rows=self.n)
        _ = family.prior  # before the folder is made
        asked = {
            "model": model.model_id,
            "weights_sha256": family.views[0].weights_sha256,
            "n": self.n,
            "seed": self.seed,
            "steps": self.steps,
        }
        self._begin(asked)
        seeds = range(self.seed, self.seed + self.n)
        todo = [seed for seed in seeds if not self._file(seed).is_file()]
        with Progress(len(todo), "painting") as progress:
            for start in range(0, len(todo), PART):
                part = todo[start : start + PART]
                painted = family.draw(np.asarray(part))
                for seed, image in zip(part, painted, strict=True):
                    write_bytes_atomically(self._file(seed), images.png(image))
                progress.add(len(part))
        return {"images": str(self.out), **asked, "size": family.size}

    def text(self, result: dict[str, Any]) -> str:
        last = result["seed"] + result["n"] - 1
        return (
            f"{result['n']} images of {result['size']} pixels by {result['model']}, seeds "
            f"{result['seed']} to {last}, in {result['images']}"
        )

    def _file(self, seed: int) -> Path:
        return (
            self.out / f"{seed:010d}.png"
        )  # sorted by name, they are in order of seed

    def _begin(self, asked: dict[str, Any]) -> None:
        """Marks the folder; refuses one that holds anything but these images."""
        mark = self.out / MARK
        if mark.is_file():
            if mark.read_text() != _said(asked):
                raise UneError(
                    f"{self.out} holds other images (see {mark}); choose another --out"
                )
            return
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UneError(f"{self.out} is not an empty folder; choose another --out")
        make_folder(self.out)
        write_bytes_atomically(mark, _said(asked).encode())


def _said(asked: dict[str, Any]) -> str:
    return json_.dumps(asked, indent=2) + "\n"
