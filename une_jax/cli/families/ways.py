"""What a family's module says of a model: its latents, and the ways from and to them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array

Encode = Callable[[Any, Mapping[str, Array]], dict[str, Array]]
Decode = Callable[[Any, Array], Array]


class Latent(NamedTuple):
    """One of the latents that a model has for an image.

    ``shape`` is a row's as stored: flat, or (c, h, w). ``normal``: images are decoded
    from draws of N(0, I) in it.
    """

    suffix: str  # of its view's name; "" for the one that the family is known by
    what: str
    shape: tuple[int, ...]
    normal: bool = False


class Ways(NamedTuple):
    """A model as the commands use it; images are (b, size, size, 3) in [-1, 1].

    ``encode(params, batch)`` gives latents by suffix, channels last where they are not
    flat; its batch has ``pixels``, ``row`` (numbers) and, for a model that ``draws``,
    ``z`` of the rows' seeds. ``decode[suffix](params, latents)`` gives images.
    """

    kind: str
    size: int
    latents: tuple[Latent, ...]
    params: Any
    encode: Encode
    decode: Mapping[str, Decode]
    weights_sha256: str
    settings: Mapping[str, Any]  # what else fixes the numbers
    draws: bool = False  # it has no encoder: latents are those it paints images from


class Place(NamedTuple):
    """Where a model is."""

    source: str  # a directory or hub id
    revision: str | None
