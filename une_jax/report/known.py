"""What is true of a zoo of miniature faces."""

from pathlib import Path

import numpy as np

from une_jax.errors import UneError
from une_jax.miniature import factors, truth
from une_jax.zoo import Zoo


def of_zoo(path: Path, zoo: Zoo) -> factors.Truth:
    """The truth of the zoo's ok rows, in its order.

    Raises:
        UneError: ``path`` is no truth, or not that of the zoo's images.
    """
    found = truth.read(path, zoo.keys)
    names = zoo.attribute_names
    if names and set(names) <= set(factors.NAMES):
        said = np.asarray(found.attributes)[:, columns(names)]
        if np.array_equal(said, zoo.attributes):
            return found
    raise UneError(
        f"{path} is not the truth of {zoo.path}'s images; give the {truth.FILE} that "
        "une-jax faces wrote beside them"
    )


def columns(names: tuple[str, ...]) -> list[int]:
    """Where these attributes are among the miniature's.

    >>> columns(("Big_Nose", "Bangs"))
    [1, 0]
    """
    return [factors.NAMES.index(name) for name in names]
