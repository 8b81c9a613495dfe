"""Read a miniature face: pixels in, estimates of its true scores and nuisance out.

An instrument, shipped with its own error. It was taught on faces whose scores are drawn
independently, so that it reads every attribute from that attribute's own pixels and not
from those that the planted correlations put beside it: an edit that adds only a beard
then looks like an edit that adds only a beard.

What it cannot see, it cannot read: the painter shows most attributes through
``sigmoid(14 * (score - threshold))``, so of such a score little more is visible than on
which side of its threshold it is, and a hat hides bangs. The estimate is then the mean of
what the score may be, and a change of 1 in the score is read as less (``HeldOut.gain``).

>>> from une_jax.miniature import render, truth
>>> faces = truth.of(seed=7, rows=range(2))
>>> estimates = apply(load(), render.faces(faces.scores, faces.nuisance))
>>> estimates.scores.shape, estimates.nuisance.shape
((2, 20), (2, 12))
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from une_jax.errors import UneError
from une_jax.miniature import MODELS
from une_jax.miniature.factors import NAMES, NUISANCES

FOLDER = MODELS / "regressor"
WEIGHTS, HELD_OUT = "model.safetensors", "held_out.json"
SIZE = 64
_PATCH, _HALF = 4, 2  # pixels of a first patch; cells that a later one takes together
_WIDE, _DEEP, _LAST, _HIDDEN = 48, 64, 48, 64

# (in, out) of every layer; a 3x3 convolution has the two sides of its window in front.
SHAPES: dict[str, tuple[int, ...]] = {
    "patches": (3, 3, _PATCH**2 * 3, _WIDE),  # 16x16 cells
    "halve": (_HALF**2 * _WIDE, _DEEP),  # 8x8
    "around": (3, 3, _DEEP, _DEEP),
    "quarter": (_HALF**2 * _DEEP, _LAST),  # 4x4
    "whole": (16 * _LAST, _HIDDEN),
    "answer": (_HIDDEN, len(NAMES) + len(NUISANCES)),
}

Params = dict[str, dict[str, Array]]  # {layer: {"weight", "bias"}}


class Estimates(NamedTuple):
    """What the regressor reads off n images, in the units of factors.Truth."""

    scores: Float32[Array, "n a"]
    nuisance: Float32[Array, "n m"]


class HeldOut(NamedTuple):
    """How well the shipped weights read faces that they never saw.

    R^2 is ``1 - mean squared error / variance of the truth``. The faces have the planted
    correlations. ``gain`` is the mean change read when only that score rises by 1, and
    ``leak`` the root mean square of the mean changes that are then read in the others.
    """

    r2: Float32[np.ndarray, " a"]  # of the scores
    r2_decoded: Float32[np.ndarray, " a"]  # after a round trip through the VAE
    auc: Float32[np.ndarray, " a"]  # of an attribute's presence
    gain: Float32[np.ndarray, " a"]
    leak: Float32[np.ndarray, " a"]
    nuisance_r2: Float32[np.ndarray, " m"]
    nuisance_r2_decoded: Float32[np.ndarray, " m"]
    nuisance_std: Float32[np.ndarray, " m"]  # of the estimates, over faces


@jax.default_matmul_precision("float32")
def apply(params: Params, images: Float[Array, "n h w 3"]) -> Estimates:
    """Estimates of n images of 64x64 pixels, values in [0, 1]; jit, vmap and grad.

    Raises:
        ValueError: if the images are not 64x64.

    >>> apply(load(), jnp.zeros((3, 64, 64, 3))).scores.dtype
    dtype('float32')
    """
    if images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"images {images.shape}: the regressor reads (n, 64, 64, 3)")
    x = _cells(2 * images.astype(jnp.float32) - 1, _PATCH)
    x = jax.nn.silu(_layer(params["patches"], x))
    x = jax.nn.silu(_layer(params["halve"], _cells(x, _HALF)))
    x = x + jax.nn.silu(_layer(params["around"], x))
    x = jax.nn.silu(_layer(params["quarter"], _cells(x, _HALF)))
    x = jax.nn.silu(_layer(params["whole"], x.reshape(len(x), -1)))
    x = _layer(params["answer"], x)
    return Estimates(x[:, : len(NAMES)], x[:, len(NAMES) :])


def load(folder: str | os.PathLike[str] = FOLDER) -> Params:
    """The shipped weights (or another folder's), as float32.

    Raises:
        UneError: if the file is missing, is no safetensors or is of another network.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UneError(f"{path} cannot be read; reinstall une-jax ({error})") from None
    wanted = {f"{layer}.weight": shape for layer, shape in SHAPES.items()}
    wanted |= {f"{layer}.bias": shape[-1:] for layer, shape in SHAPES.items()}
    if {name: x.shape for name, x in tensors.items()} != wanted:
        raise UneError(f"{path} is of another network; reinstall une-jax")
    return {
        layer: {
            part: jnp.asarray(tensors[f"{layer}.{part}"], jnp.float32)
            for part in ("weight", "bias")
        }
        for layer in SHAPES
    }


def held_out(folder: str | os.PathLike[str] = FOLDER) -> HeldOut:
    """The error of the weights in that folder, as measured after their training.

    Raises:
        UneError: if the file is missing or has not every number.

    >>> held_out().auc.shape
    (20,)
    """
    path = Path(folder) / HELD_OUT
    try:
        read = json.loads(path.read_text(encoding="utf-8"))

        def column(table: str, names: tuple[str, ...], key: str):
            return np.array([read[table][name][key] for name in names], np.float32)

        scores = ("r2", "r2_decoded", "auc", "gain", "leak")
        nuisance = ("r2", "r2_decoded", "std")
        return HeldOut(
            *(column("scores", NAMES, key) for key in scores),
            *(column("nuisance", NUISANCES, key) for key in nuisance),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UneError(f"{path} cannot be read; reinstall une-jax ({error})") from None


def _cells(x: Array, k: int) -> Array:
    """(n, h, w, c) -> (n, h / k, w / k, k * k * c): neighbours side by side."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // k, k, w // k, k, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // k, w // k, k * k * c)


def _layer(layer: dict[str, Array], x: Array) -> Array:
    weight = layer["weight"]
    if weight.ndim == 4:
        order = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=order)  # fmt: skip
    else:
        y = x @ weight
    return y + layer["bias"].reshape((1,) * (y.ndim - 1) + (-1,))
