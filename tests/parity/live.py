"""Random torch models beside the ports that load what they save."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from ports.port import define

torch = pytest.importorskip("torch")


def scattered(model: Any, *, seed: int = 0) -> Any:
    """The model for inference, with every parameter moved off its initial value.

    Norms start at weight one and bias zero, where a mistake would not show.
    """
    generator = torch.Generator().manual_seed(seed)
    for p in model.requires_grad_(False).parameters():
        p.copy_(0.9 * p + 0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


def saved(model: Any, folder: Path) -> str:
    """The folder, with the model in it as its library publishes it."""
    model.save_pretrained(folder)
    return str(folder)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def to_torch(x: np.ndarray) -> Any:
    """The same values in torch; (b, h, w, c) becomes (b, c, h, w)."""
    t = torch.from_numpy(np.ascontiguousarray(x))
    t = t.long() if t.dtype == torch.int32 else t
    return t.permute(0, 3, 1, 2) if t.ndim == 4 else t


def from_torch(t: Any) -> np.ndarray:
    """The same values in our layout."""
    return (t.permute(0, 2, 3, 1) if t.ndim == 4 else t).contiguous().numpy()


def part(params: Any, path: Sequence[str | int]) -> Any:
    """The parameters of one block: ``part(params, ("resnets", 0))``."""
    for key in path:
        params = params[key]
    return params


def block(
    make: Callable[[nnx.Rngs], nnx.Module],
    params: Any,
    *inputs: Any,
    method: str = "__call__",
) -> Any:
    """One block of a network, run with these parameters; numpy out."""
    _, apply = define(lambda _, rngs: make(rngs), None)
    run = jax.jit(apply, static_argnames="method")
    return jax.tree.map(np.asarray, run(params, *inputs, method=method))


def shapes_of(params: Any) -> dict[str, list[int]]:
    """The shapes of parameters by torch's names, each sorted: layouts differ."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {".".join(str(k.key) for k in path): sorted(x.shape) for path, x in leaves}


def torch_shapes(model: Any) -> dict[str, list[int]]:
    """As ``shapes_of``, of a torch model."""
    return {name: sorted(x.shape) for name, x in model.state_dict().items()}
