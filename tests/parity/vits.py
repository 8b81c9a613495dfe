"""What the parity tests of the DINO families share."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from closeness import rel
from live import normal

from ports.port import Port, define
from ports.vit import Features

# Small models that still show every mistake: an odd number of heads, twelve channels
# in each, an epsilon that counts.
SMALL = dict(
    hidden_size=36,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=16,
    patch_size=4,
    layer_norm_eps=1e-3,
)

# The size that positions are stored for (where a family stores any), and a rectangle,
# smaller one way and larger the other, with a strip beyond its last whole patches.
SIZES = [(16, 16), (8, 23)]


class Pair(NamedTuple):
    """A torch model, where it was saved, and the port of that folder."""

    model: Any
    folder: Path
    port: Port


def last_hidden_state(features: Features) -> np.ndarray:
    """All tokens in transformers' order."""
    b, _, _, d = features.patches.shape
    parts = features.cls[:, None], features.registers, features.patches
    return np.concatenate([np.asarray(x).reshape(b, -1, d) for x in parts], axis=1)


def part(network: type, port: Port, run: Any, *inputs: Any) -> jax.Array:
    """``run(network, *inputs)``: a part of the network, with the port's parameters."""

    class Part(network):
        def part(self, *inputs):
            return run(self, *inputs)

    _, apply = define(Part, port.config)
    return jax.jit(apply, static_argnames="method")(port.params, *inputs, method="part")


def saved_anew(model: Any, folder: Path) -> str:
    """The folder, with the model in it under the names that transformers 5 gives."""
    model.save_pretrained(folder, save_original_format=False)
    return str(folder)


def same(a: Port, b: Port) -> None:
    """Both ports have the same parameters, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def bfloat16_error(load: Any, pair: Pair) -> float:
    """How far bfloat16 features are from float32's, of the largest value."""
    half, pixels = load(str(pair.folder), dtype=jnp.bfloat16), normal(2, 8, 20, 3)
    got, expected = (
        last_hidden_state(jax.jit(p.apply)(p.params, pixels)) for p in (half, pair.port)
    )
    assert got.dtype == jnp.bfloat16
    return rel(got.astype(np.float32), expected)
