"""The judge that ``--judge`` names, with its network."""

import concurrent.futures as cf
import os

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from une_jax.cli.encoder import Encoder, encoder_of_view, named_view
from une_jax.errors import UneError
from une_jax.miniature import factors, render
from une_jax.report import judges
from une_jax.zoo import Zoo

REGRESSOR = "regressor"
CHUNK = 512  # images that are prepared at once


def judge_of(opened: Zoo, asked: str | None, size: int) -> judges.Judge:
    """``regressor``, or ``VIEW`` or ``VIEW=PATH_OR_ID`` of an encoder view.

    Without one, the regressor where the zoo is of miniature faces, else the zoo's first
    encoder view. ``size`` is that of the images it will see.

    Raises:
        UneError: there is none such, its weights or its preprocessing are not the
            view's, or it cannot read images of this size.
    """
    names = set(opened.attribute_names)
    if asked is None and names <= set(factors.NAMES) and size == render.SIZE:
        asked = REGRESSOR
    if asked == REGRESSOR:
        if size != render.SIZE:
            raise UneError(
                f"--judge {REGRESSOR} reads miniature faces of {render.SIZE} pixels, and "
                f"these images have {size}: name an encoder view of the zoo"
            )
        return judges.miniature_judge()
    encoders = [v for v in opened.manifest.views if v.kind == "encoder"]
    if not encoders:
        raise UneError(
            f"{opened.path} has no encoder view to judge edits by: build it with "
            "--encoder"
        )
    found = named_view(opened, asked)
    if found is None:
        listed = ", ".join([REGRESSOR, *(v.name for v in encoders)])
        raise UneError(f"--judge {asked}: choose one of {listed}")
    (view, source), name = found, found[0].name
    try:
        encoder = encoder_of_view(view, source)
    except UneError as error:
        where = "" if source else f" (say where it is with --judge {name}=PATH_OR_ID)"
        raise UneError(f"--judge {name}: {error}{where}") from error
    return judges.encoder_judge(opened, name, lambda images: embed(encoder, images))


def embed(
    encoder: Encoder, images: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n d"]:
    """The encoder's embeddings of decoded images, prepared as files are."""
    parts = []
    with cf.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), CHUNK):
            some = map(Image.fromarray, images[start : start + CHUNK])
            pixels = np.stack(list(pool.map(encoder.prepare, some)))
            out = encoder.compute(pixels, np.arange(len(pixels)))
            parts.append(out.arrays[encoder.name])
    return np.concatenate(parts)
