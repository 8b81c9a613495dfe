"""What is true of painted faces, as ``une-jax faces`` stores it beside the images.

Faces of a stream need no file: :func:`une_jax.miniature.factors.draw` gives the truth
of face i of any seed, and :func:`~une_jax.miniature.factors.from_z` that of any z.
"""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from une_jax.errors import UneError
from une_jax.miniature.factors import DIM, NAMES, NUISANCES, THRESHOLDS, Truth
from une_jax.zoo.atomic import write_bytes_atomically

FILE = "truth.safetensors"
_WIDTHS = {"z": DIM, "scores": len(NAMES), "nuisance": len(NUISANCES)}


def key(row: int) -> str:
    """The image file of face ``row``, numbered from 1 as CelebA's are.

    >>> key(0)
    '000001.jpg'
    """
    return f"{row + 1:06d}.jpg"


def write(path: Path, truth: Truth) -> None:
    """z, scores and nuisance as one safetensors file; what was there is replaced."""
    arrays = {name: np.asarray(getattr(truth, name)) for name in _WIDTHS}
    write_bytes_atomically(path, save(arrays))


def read(path: Path, keys: Sequence[str] | None = None) -> Truth:
    """The truth of the images named ``keys`` (default: all), in their order.

    Args:
        path: the ``truth.safetensors`` that :func:`write` made.
        keys: n image files as :func:`key` names them, e.g. a NoiseZoo's ``keys``.

    Raises:
        UneError: if there is no such file, or not of this form, or a key is not of a
            face in it.

    >>> import tempfile, jax
    >>> from une_jax.miniature import factors
    >>> path = Path(tempfile.mkdtemp()) / FILE
    >>> write(path, factors.draw(jax.random.key(0), 3))
    >>> read(path, ["000003.jpg"]).scores.shape
    (1, 20)
    """
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as e:
        raise UneError(f"{path} is no file of true factors: {e}") from e
    shapes = {name: array.shape for name, array in arrays.items()}
    n = len(arrays["z"]) if "z" in arrays else 0
    if shapes != {name: (n, width) for name, width in _WIDTHS.items()}:
        raise UneError(f"{path} holds {shapes}; use what `une-jax faces` wrote")
    rows = np.arange(n) if keys is None else [_row(path, k, n) for k in keys]
    z, scores, nuisance = (jnp.asarray(arrays[name][rows]) for name in _WIDTHS)
    return Truth(z, scores, scores > jnp.asarray(THRESHOLDS)[None], nuisance)


def _row(path: Path, name: str, n: int) -> int:
    stem = Path(name).stem
    if not stem.isdecimal() or not 1 <= int(stem) <= n:
        raise UneError(f"{path} is the truth of {n} faces, and {name} is none of them")
    return int(stem) - 1
