"""A generator's h-space: what it holds while images are sampled, and edits in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float16, Float32, UInt8

from une_jax import asyrp, hspace_files, images
from une_jax.cli import pictures
from une_jax.cli.diffusion import Diffusion
from une_jax.cli.layout import nchw
from une_jax.cli.programs import TABLES, Rule
from une_jax.cli.progress import Progress
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.hspace import Phases
from une_jax.zoo import Zoo

CHUNK = 64  # images whose h is on the device at a time


def require_plain(generator: Diffusion) -> None:
    """Refuses noise that is not walked by DDIM alone.

    Raises:
        UneError: the view keeps a code beside its noise.
    """
    if generator.settings.code:
        raise UneError(
            f"view {generator.name!r} is of --method {generator.settings.method}: h-space "
            "is walked by DDIM; use a zoo of --method ddim or fixed-point"
        )


def middles(
    generator: Diffusion,
    noise: Float32[np.ndarray, "b c h w"],
    prompts: Sequence[str] | None = None,
) -> Float32[np.ndarray, "b t i j k"]:
    """h at each step of sampling these images."""
    return generator.walk(generator.walks.middles, noise, prompts=prompts)


def edit(
    generator: Diffusion,
    noise: Float32[np.ndarray, "n c h w"],
    moves: Float32[np.ndarray, "m t i j k"] | asyrp.Params,
    amounts: Float32[np.ndarray, "n s m"],
    phases: Phases,
    *,
    symmetric: bool,
    rule: Rule = TABLES,
    prompts: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n s size size 3"]:
    """n images at s places each: h moved by ``amounts`` of the moves in sampling.

    ``moves`` are tables, or by ``programs.FUNCTIONS`` the stacked params of f_t.
    Whatever is drawn at boosted steps is the same at all places of an image.
    ``symmetric`` as for :func:`une_jax.hspace.sample`.
    """
    n, places, m = amounts.shape
    at = np.repeat(np.arange(n), places)
    x0 = generator.walk(
        generator.walks.inside(rule, symmetric),
        noise[at],
        extra={"moves": jax.tree.map(jnp.asarray, moves), "phases": phases},
        more={"amounts": amounts.reshape(-1, m), "row": at.astype(np.int32)},
        prompts=None if prompts is None else [prompts[int(i)] for i in at],
    )
    made = generator.paint(nchw(x0, "float32"))
    return made.reshape(n, places, *made.shape[1:])


@dataclass(frozen=True)
class Sampled:
    """A zoo's images, sampled from their noise for what the bottleneck holds."""

    generator: Diffusion
    opened: Zoo

    def chunks(self, rows: np.ndarray) -> Iterator[Float32[Array, "b t i j k"]]:
        """h of these images, so many at a time."""
        name = self.generator.name
        with Progress(len(rows), "sampling") as bar:
            for start in range(0, len(rows), CHUNK):
                some = rows[start : start + CHUNK]
                noise = np.asarray(self.opened[name][some], np.float32)
                said = pictures.prompts_of(self.generator, self.opened, some)
                yield jnp.asarray(middles(self.generator, noise, said))
                bar.add(len(some))

    def kept(self, rows: np.ndarray) -> Float16[np.ndarray, "n t i j k"]:
        """h of all of them, in half precision on the host."""
        kept = None
        for i, h in enumerate(self.chunks(rows)):
            if kept is None:
                kept = np.empty((len(rows), *h.shape[1:]), np.float16)
            kept[i * CHUNK : i * CHUNK + len(h)] = h
        assert kept is not None
        return kept

    def packed(
        self,
        names: Sequence[str],
        moves: Any,
        spread: np.ndarray,
        about: dict[str, Any],
        n: int,
    ) -> Directions:
        """Directions that know this generator and zoo, and that n images made them."""
        return hspace_files.pack(
            names,
            moves,
            self.generator.views[0],
            np.asarray(self.generator.walk_params["steps"].sampling.t),
            spread=spread,
            method={**about, "images": n},
            zoo=images.sha256(self.opened.path / "manifest.json"),
        )
