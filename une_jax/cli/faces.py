"""``une-jax faces``: miniature faces as image files, in CelebA's layout."""

import json as json_
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from une_jax.cli.options import Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.zoo.atomic import make_folder, write_bytes_atomically

MARK = "faces.json"
IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
PART = 256  # faces painted at once


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Render miniature faces in CelebA's layout, with their true latents beside them.

    truth.safetensors holds z, scores and nuisance, one row a face.
    """

    out: Path
    """folder for the images, CelebA's two lists and truth.safetensors"""
    n: int = 1000
    """how many"""
    seed: int = 0
    """which stream of faces; face i of a seed is always the same"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        import jax
        from PIL import Image

        from une_jax import attributes
        from une_jax.miniature import factors, render, truth

        if self.n < 1:
            raise UneError(f"--n {self.n}: use 1 or more")
        if not 0 <= self.seed < 2**32:
            raise UneError(f"--seed {self.seed}: use 0 to {2**32 - 1}")
        if self.seed == factors.TRAINING_SEED:
            raise UneError(
                f"--seed {self.seed} is the stream that the miniature models were "
                "trained on; use another"
            )
        asked = {"n": self.n, "seed": self.seed, "size": render.SIZE}
        result = {"faces": str(self.out), "n": self.n, "seed": self.seed}
        if self._there(asked):
            return result
        make_folder(self.out)
        mark = (json_.dumps(asked) + "\n").encode()
        write_bytes_atomically(self.out / MARK, mark)  # first: what is to be there
        folder = self.out / IMAGES
        folder.mkdir(exist_ok=True)
        keys = [truth.key(i) for i in range(self.n)]
        parts = []
        with Progress(self.n, "painting") as progress:
            for start in range(0, self.n, PART):
                # Whole parts: the last bit of a face depends on how many are painted.
                part = factors.draw(jax.random.key(self.seed), PART, start)
                faces = np.asarray(render.faces(part.scores, part.nuisance))
                pixels = (faces * 255 + 0.5).astype(np.uint8)
                for key, face in zip(keys[start : start + PART], pixels, strict=False):
                    image = Image.fromarray(face)
                    image.save(folder / key, quality=95, subsampling=0)
                parts.append(part)
                progress.add(min(PART, self.n - start))
        whole = jax.tree.map(lambda *x: np.concatenate(x)[: self.n], *parts)
        table = attributes.Attributes(
            keys=tuple(keys), names=factors.NAMES, values=whole.attributes
        )
        attributes.write_celeba(self.out / ATTRIBUTES, table)
        # CelebA's proportions: about 80 % train (0), 10 % validation (1), 10 % test (2).
        splits = {k: (10 * i // self.n >= 8) + (10 * i // self.n >= 9) for i, k in enumerate(keys)}  # fmt: skip
        attributes.write_partition(self.out / PARTITION, splits)
        truth.write(self.out / truth.FILE, whole)  # last: all is there
        return result

    def _there(self, asked: dict[str, int]) -> bool:
        """Whether these very faces are in place; refuses a folder of anything else."""
        from une_jax.miniature import truth

        mark = self.out / MARK
        if mark.is_file():
            found = mark.read_text().strip()
            if found == json_.dumps(asked):
                return (
                    self.out / truth.FILE
                ).is_file()  # else: interrupted, paint again
            raise UneError(
                f"{self.out} holds other faces ({found}); choose another --out"
            )
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UneError(f"{self.out} is not an empty folder; choose another --out")
        return False

    def text(self, result: dict[str, Any]) -> str:
        return f"{result['n']} faces in {result['faces']}"
