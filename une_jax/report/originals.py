"""The image files that a zoo was built from, by row and never by path."""

import bisect
import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from une_jax import images
from une_jax.errors import UneError
from une_jax.sources import Source
from une_jax.zoo import Zoo

MAX_PIXELS = 50_000_000


class Originals:
    """Images of a zoo's rows, looked up by key in a collection.

    The collection alone says where a key's bytes are, so that no name leads out of it;
    bytes that are not those the row was made from are refused.
    """

    def __init__(self, zoo: Zoo, source: Source):
        self.zoo, self.source = zoo, source

    def image(self, row: int) -> Image.Image:
        """The image of the zoo's ok row ``row``, upright RGB.

        Raises:
            UneError: the collection has it no more, or has other bytes; it cannot be
                decoded.
        """
        key = self.zoo.rows.column("key")[row].as_py()
        keys = self.source.keys
        at = bisect.bisect_left(keys, key)
        if at == len(keys) or keys[at] != key:
            raise UneError(f"{key}: not among the images in {self.source.name}")
        data = self.source.read(at)
        if hashlib.sha256(data).hexdigest() != self._sha256(row):
            raise UneError(f"{key}: not the file that the zoo was built from")
        return images.decode(data, max_pixels=MAX_PIXELS)

    def _sha256(self, row: int) -> str:
        return self.zoo.rows.column("sha256")[row].as_py()


def squares(
    zoo: Zoo, source: Source
) -> Callable[[Int[np.ndarray, " k"], int], UInt8[np.ndarray, "k h w 3"]]:
    """A function of rows and an edge: their images as models of that size see them.

    Raises:
        UneError: the first test image is not in the collection, or is another there.
    """
    found = Originals(zoo, source)

    def read(rows: np.ndarray, size: int) -> np.ndarray:
        return np.stack([images.centre_crop(found.image(int(r)), size) for r in rows])

    read(zoo.split("test")[:1], 8)
    return read
