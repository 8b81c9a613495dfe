"""What a model is called: built-in names, and ``NAME=PATH_OR_ID``."""

import difflib
from pathlib import Path
from typing import NamedTuple

from une_jax import miniature
from une_jax.errors import UneError

HUB = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "clip-b16": "openai/clip-vit-base-patch16",
    "clip-l14": "openai/clip-vit-large-patch14",
}
MINIATURE = miniature.GENERATORS + miniature.ENCODERS


class Model(NamedTuple):
    """``name`` is the view's name, ``source`` a directory or hub id, ``model_id`` what
    the manifest calls it (never a path of one machine)."""

    name: str
    source: str
    model_id: str


def resolve(spec: str) -> Model:
    """``mini-sd15``, ``sd15``, ``mine=path/to/model`` or a bare path -> Model.

    >>> resolve("clip-b16").source
    'openai/clip-vit-base-patch16'
    """
    name, equals, source = spec.partition("=")
    if not equals:
        name, source = "", spec
    if source in MINIATURE:
        return Model(name or source, str(miniature.path(source)), source)
    if source in HUB:
        return Model(name or source, HUB[source], HUB[source])
    if not source:
        raise UneError(f"{spec!r} names no model: write NAME=PATH_OR_ID")
    if "/" not in source and not Path(source).is_dir():
        known = (*MINIATURE, *HUB)
        close = difflib.get_close_matches(source, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise UneError(f"{source!r} is neither a folder nor a built-in name; {hint}")
    last = source.rstrip("/").rsplit("/", 1)[-1]
    hub_id = source.count("/") == 1 and not source.startswith((".", "/", "~"))
    return Model(name or last, source, source if hub_id else last)
