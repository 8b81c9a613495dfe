"""Images named one by one or by the folder, in the order given."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from une_jax import images, sources
from une_jax.errors import UneError

COLLECTIONS = (".parquet", ".arrow", ".tar")


class Picture(NamedTuple):
    """An image, by the name of the files that are made of it."""

    name: str
    where: str
    read: Callable[[], bytes | Path]

    def decode(self) -> Image.Image:
        """Raises UneError where it is no image, by its path or key."""
        data = self.read()
        try:
            return images.decode(data)
        except UneError as error:
            if isinstance(data, Path):
                raise
            raise UneError(f"{self.where}: {error}") from error

    def sha256(self) -> str:
        """Of the encoded file. Raises UneError where it cannot be read."""
        data = self.read()
        if isinstance(data, Path):
            return images.sha256(data)
        return hashlib.sha256(data).hexdigest()


def list_pictures(paths: Sequence[Path], limit: int | None = None) -> list[Picture]:
    """Image files, and all of each folder or collection that ``sources.open`` knows.

    Raises:
        UneError: there are none, or two that files made of them could not tell apart.
    """
    found: list[tuple[str, Callable[[], bytes | Path]]] = []
    for path in paths:
        if path.is_file() and path.suffix.lower() not in COLLECTIONS:
            found.append((path.name, lambda path=path: path))
            continue
        source = sources.open(path)
        for row, key in enumerate(source.keys):
            found.append((key, lambda source=source, row=row: source.read(row)))
    pictures: dict[str, Picture] = {}
    for key, read in found[:limit]:
        name = re.sub(r"\W+", "_", str(Path(key).with_suffix("")))
        if name in pictures:
            raise UneError(
                f"--images: {pictures[name].where} and {key} would both be written as "
                f"{name}_*.png; rename one"
            )
        pictures[name] = Picture(name, key, read)
    if not pictures:
        raise UneError("--images: give image files, or a folder of them")
    return list(pictures.values())
