"""A generator's h-space: what it holds while images are sampled, and edits in it."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from une_jax.cli.generator import Generator
from une_jax.cli.layout import nchw
from une_jax.errors import UneError
from une_jax.hspace import Phases


def require_plain(generator: Generator) -> None:
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
    generator: Generator,
    noise: Float32[np.ndarray, "b c h w"],
    prompts: Sequence[str] | None = None,
) -> Float32[np.ndarray, "b t i j k"]:
    """h at each step of sampling these images."""
    return generator.walk(generator.walks.middles, noise, prompts=prompts)


def edit(
    generator: Generator,
    noise: Float32[np.ndarray, "n c h w"],
    moves: Float32[np.ndarray, "m t i j k"],
    amounts: Float32[np.ndarray, "n s m"],
    phases: Phases,
    *,
    symmetric: bool,
    prompts: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n s size size 3"]:
    """n images at s places each: h moved by ``amounts`` of the moves in sampling.

    Whatever is drawn at boosted steps is the same at all places of an image.
    ``symmetric`` as for :func:`une_jax.hspace.sample`.
    """
    n, places, m = amounts.shape
    at = np.repeat(np.arange(n), places)
    x0 = generator.walk(
        generator.walks.inside(symmetric),
        noise[at],
        extra={"moves": jnp.asarray(moves), "phases": phases},
        more={"amounts": amounts.reshape(-1, m), "row": at.astype(np.int32)},
        prompts=None if prompts is None else [prompts[int(i)] for i in at],
    )
    images = generator.paint(nchw(x0, "float32"))
    return images.reshape(n, places, *images.shape[1:])
