"""What looks at decoded images: LPIPS, an encoder's features, Inception's, a judge."""

import functools as ft
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from une_jax.errors import UneError
from une_jax.report.parts import in_parts
from une_jax.zoo import Zoo

if TYPE_CHECKING:
    from une_jax.report.effects import Distance
    from une_jax.report.roads.pictures import Eyes

PAIRS = 64  # images that a network compares or reads at once, at most
PIXELS = 2**20  # and of larger images, these


def eyes_of(
    opened: Zoo,
    *,
    lpips: Path | None,
    inception: Path | None,
    features: str | None,
    judge: str | None,
    sizes: Sequence[int],
    faces: bool = False,
) -> "Eyes":
    """Those that are asked for, and by default the zoo's own.

    ``features`` is VIEW or VIEW=PATH_OR_ID of an encoder view (default: the first, where
    its model is found), whose embeddings are compared as FID compares Inception's. The
    judge is there where images have attributes. ``sizes`` are the edges of what is to be
    seen; ``faces`` says that they are miniature faces, whatever their size.

    Raises:
        UneError: something that is asked for is not there, or cannot see these images.
    """
    from une_jax.cli.judging import judge_of
    from une_jax.miniature import render
    from une_jax.report.roads.pictures import Eyes

    distances = {} if lpips is None else {"LPIPS": lpips_of(lpips, min(sizes))}
    clouds: dict[str, Any] = {}
    if inception is not None:
        clouds["Inception"] = inception_of(inception)
    clouds |= _encoder(opened, features)
    found = None
    if opened.attribute_names:
        try:
            found = judge_of(opened, judge, render.SIZE if faces else max(sizes))
        except UneError:
            if judge is not None:
                raise
    return Eyes(distances=distances, features=clouds, judge=found)


def _encoder(opened: Zoo, asked: str | None) -> dict[str, Any]:
    from une_jax.cli.encoder import encoder_of_view, named_view
    from une_jax.cli.judging import embed

    found = named_view(opened, asked)
    if found is None:
        if asked is not None:
            raise UneError(
                f"--features {asked}: {opened.path} has no such encoder view"
            )
        return {}
    try:
        encoder = encoder_of_view(*found)
    except UneError:
        if asked is not None:
            raise
        return {}
    return {encoder.name: lambda images: np.asarray(embed(encoder, images), np.float32)}


def inception_of(folder: Path) -> Any:
    """FID's features, with the weights in ``folder`` (``scripts/convert_inception.py``)."""
    import jax

    from ports import inception
    from une_jax import images

    port = inception.load(str(folder))

    @jax.jit
    def run(params: Any, x: jax.Array) -> jax.Array:
        return port.apply(params, images.to_signed(x))

    def features(x: np.ndarray) -> np.ndarray:
        read = ft.partial(run, port.params)
        return in_parts(read, x, size=_size(x))

    return features


def lpips_of(folder: Path, size: int) -> "Distance":
    """LPIPS of images of this edge, with the weights in ``folder``.

    Raises:
        UneError: the images are too small for it.
    """
    import jax

    from ports import lpips
    from une_jax import images

    port = lpips.load(str(folder))

    @jax.jit
    def far(params: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return port.apply(params, images.to_signed(a), images.to_signed(b))

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return in_parts(ft.partial(far, port.params), a, b, size=_size(a))

    nothing = np.zeros((1, size, size, 3), np.uint8)
    try:
        distance(nothing, nothing)  # compiles, or refuses, before anything is edited
    except ValueError as error:
        raise UneError(f"--lpips: {error}") from error
    return distance


def _size(images: np.ndarray) -> int:
    """How many of these a network looks at at once."""
    return min(PAIRS, max(1, PIXELS // images.shape[1] ** 2))
