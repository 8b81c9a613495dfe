"""A small network that reads a face's true scores and nuisance off its pixels.

Made to measure edits: it was trained on painted faces, sharp and blurred, whose scores
were independent, so that it reads a beard off the beard and not off what usually comes
with one. It knows nothing of any generator or probe. How well it does on faces it was
not trained on is stored beside its weights: :func:`held_out`.
"""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from safetensors.numpy import load_file

from une_jax.miniature import MODELS
from une_jax.miniature.factors import NAMES, NUISANCES

FOLDER = MODELS / "regressor"
CHANNELS = (3, 24, 32, 64, 64)
HIDDEN = 64
_GRID = 4  # the image's edge after four halvings

Params = dict[str, Float[Array, "..."]]


class Estimates(NamedTuple):
    """scores: (n, attributes) in units of a score's standard deviation over faces;
    nuisance: (n, nuisances) likewise. In the order of ``factors.NAMES``, ``NUISANCES``.
    """

    scores: Float[Array, "n a"]
    nuisance: Float[Array, "n m"]


def init(key: Array) -> Params:
    """Random weights, for training; float32."""
    keys = iter(jax.random.split(key, len(CHANNELS) + 1))
    params: Params = {}
    for i, (m, n) in enumerate(zip(CHANNELS[:-1], CHANNELS[1:], strict=True)):
        shape = (3, 3, m, n)
        params[f"conv{i}.weight"] = jax.random.normal(next(keys), shape) * (2 / (9 * m)) ** 0.5  # fmt: skip
        params[f"conv{i}.bias"] = jnp.zeros(n)
    widths = (_GRID**2 * CHANNELS[-1], HIDDEN, len(NAMES) + len(NUISANCES))
    for i, (m, n) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        params[f"dense{i}.weight"] = jax.random.normal(next(keys), (m, n)) * m**-0.5
        params[f"dense{i}.bias"] = jnp.zeros(n)
    return params


def load() -> Params:
    """The shipped weights, as float32."""
    stored = load_file(FOLDER / "model.safetensors")
    return {name: jnp.asarray(w, jnp.float32) for name, w in stored.items()}


def apply(params: Params, images: Float[Array, "n 64 64 3"]) -> Estimates:
    """What the pixels (values in [0, 1]) say. Works under jit, vmap and grad.

    >>> apply(load(), jnp.zeros((2, 64, 64, 3))).scores.shape
    (2, 20)
    """
    x = 2 * images - 1
    for i in range(len(CHANNELS) - 1):
        x = jax.lax.conv_general_dilated(
            x,
            params[f"conv{i}.weight"],
            window_strides=(2, 2),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.silu(x + params[f"conv{i}.bias"][None, None, None])
    x = x.reshape(len(x), -1)
    x = jax.nn.silu(x @ params["dense0.weight"] + params["dense0.bias"][None])
    x = x @ params["dense1.weight"] + params["dense1.bias"][None]
    return Estimates(x[:, : len(NAMES)], x[:, len(NAMES) :])


def held_out() -> dict[str, float]:
    """R² of the shipped weights by attribute and nuisance, on faces never trained on.

    1 - squared error / variance. Nothing gets to 1: a face hardly shows how far below
    its threshold a score is.
    """
    return json.loads((FOLDER / "held_out.json").read_text())["r2"]
