"""``une-jax faces``: miniature faces as image files, in CelebA's layout."""

import json as json_
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from une_jax.cli.progress import Progress
from une_jax.errors import UneError

MARK, TRUTH = "faces.json", "truth.safetensors"
IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Render miniature faces in CelebA's layout, with their true latents beside them."""

    out: Path
    """folder for img_align_celeba/, list_attr_celeba.txt, list_eval_partition.txt and
    truth.safetensors (z, scores, nuisance)"""
    n: int = 1000
    """how many"""
    seed: int = 0
    """which stream of faces; face i of a seed is always the same"""
    json: Annotated[bool, tyro.conf.arg(help="machine-readable result")] = False

    def run(self) -> dict[str, Any]:
        import jax
        from PIL import Image
        from safetensors.numpy import save_file

        from une_jax import attributes
        from une_jax.miniature import factors, render

        if self.n < 1:
            raise UneError(f"--n {self.n}: use 1 or more")
        if self.seed == factors.TRAINING_SEED:
            raise UneError(
                f"--seed {self.seed} is the stream that the miniature models were "
                "trained on; use another"
            )
        asked = {"n": self.n, "seed": self.seed, "size": render.SIZE}
        result = {"faces": str(self.out), "n": self.n, "seed": self.seed}
        if self._there(asked):
            return result
        folder = self.out / IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        truth = factors.draw(jax.random.key(self.seed), self.n)
        keys = [f"{i + 1:06d}.jpg" for i in range(self.n)]
        with Progress(self.n, "painting") as progress:
            for start in range(0, self.n, 256):
                part = slice(start, min(start + 256, self.n))
                faces = render.faces(truth.scores[part], truth.nuisance[part])
                pixels = np.asarray(faces * 255 + 0.5).astype(np.uint8)
                for key, face in zip(keys[part], pixels, strict=True):
                    image = Image.fromarray(face)
                    image.save(folder / key, quality=95, subsampling=0)
                progress.add(len(pixels))
        table = attributes.Attributes(
            keys=tuple(keys), names=factors.NAMES, values=np.asarray(truth.attributes)
        )
        attributes.write_celeba(self.out / ATTRIBUTES, table)
        # CelebA's proportions: about 80 % train (0), 10 % validation (1), 10 % test (2).
        parts = {k: (10 * i // self.n >= 8) + (10 * i // self.n >= 9) for i, k in enumerate(keys)}  # fmt: skip
        attributes.write_partition(self.out / PARTITION, parts)
        arrays = {k: np.asarray(getattr(truth, k)) for k in ("z", "scores", "nuisance")}
        save_file(arrays, self.out / TRUTH)
        (self.out / MARK).write_text(json_.dumps(asked) + "\n")  # last: all is there
        return result

    def _there(self, asked: dict[str, int]) -> bool:
        """Whether these very faces are in place; refuses a folder of anything else."""
        mark = self.out / MARK
        if mark.is_file():
            found = json_.loads(mark.read_text())
            if found == asked:
                return True
            raise UneError(
                f"{self.out} holds other faces ({found}); choose another --out"
            )
        ours = {IMAGES, ATTRIBUTES, PARTITION, TRUTH}
        if self.out.exists() and (
            not self.out.is_dir() or {p.name for p in self.out.iterdir()} - ours
        ):
            raise UneError(f"{self.out} is not an empty folder; choose another --out")
        return False

    def text(self, result: dict[str, Any]) -> str:
        return f"{result['n']} faces in {result['faces']}"
