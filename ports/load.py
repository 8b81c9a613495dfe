"""The one strict loader: a table of rules from checkpoint names to parameter paths.

Every tensor must be used or ignored by exactly one rule, every parameter filled,
every shape equal; all mistakes are reported at once, before any weight is read.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes  # noqa: F401  (lets safetensors hand out bfloat16 arrays)
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from ports.checkpoint import (
    CheckpointError,
    class_name,
    locate,
    read_json,
    weight_files,
)
from ports.port import Params, Port, define

Transform = Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """``pattern`` must match a whole tensor name; ``target`` is its path (None: ignore).

    ``target`` may use the pattern's groups (``\\1``); ``transform`` turns torch's
    layout into ours.
    """

    pattern: str
    target: str | None
    transform: Transform = lambda x: x


def keep(x: np.ndarray) -> np.ndarray:
    """Same layout on both sides: biases, norms, embeddings."""
    return x


def linear(x: np.ndarray) -> np.ndarray:
    """(out, in) -> (in, out)."""
    return x.transpose(1, 0) if x.ndim == 2 else x


def conv(x: np.ndarray) -> np.ndarray:
    """(out, in, kh, kw) -> (kh, kw, in, out)."""
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x


def linear_from_any(x: np.ndarray) -> np.ndarray:
    """(out, in) or a 1x1 convolution's (out, in, 1, 1) -> (in, out)."""
    return linear(x[..., 0, 0] if x.ndim == 4 and x.shape[2:] == (1, 1) else x)


def only(
    key: str,
    values: Sequence[Any],
    allowed: Sequence[Any],
    *,
    file: str = "config.json",
) -> None:
    """Refuse a config value that the network does not implement."""
    for value in values:
        if value not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise CheckpointError(
                f"{file}: {key} = {value!r} is not supported (supported: {listed})"
            )


def read_config(config_type: type, raw: dict[str, Any]) -> Any:
    """Build a family's ``Config`` from a config.json; keys it does not know are left."""
    names = {field.name for field in dataclasses.fields(config_type)}
    picked = {k: _frozen(v) for k, v in raw.items() if k in names}
    try:
        return config_type(**picked)
    except TypeError as e:
        raise CheckpointError(f"config.json: {e}") from None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def load_port(
    path_or_id: str,
    network: Callable[..., nnx.Module],
    config_from_json: Callable[[dict[str, Any]], Any],
    rules: Sequence[Rule],
    *,
    class_names: Sequence[str],
    subfolder: str,
    variant: str | None,
    revision: str | None,
    dtype: Any,
    param_dtype: Any,
) -> Port:
    """Config, weights and pure function of one checkpoint folder."""
    folder = locate(path_or_id, subfolder=subfolder, revision=revision, variant=variant)
    raw = read_json(folder / "config.json")
    if (name := class_name(raw)) not in class_names:
        raise CheckpointError(
            f"{folder} holds a {name or 'model of no named class'}, not a "
            f"{' or '.join(class_names)}"
        )
    config = config_from_json(raw)
    target, apply = define(network, config, dtype)
    files = weight_files(folder, variant=variant)
    return Port(config, load_params(files, target, rules, param_dtype or dtype), apply)


class MisfitError(CheckpointError):
    """The tensors of a checkpoint do not fit the network; ``problems`` lists all."""

    def __init__(self, folder: Path, problems: list[str]):
        shown = "; ".join(problems[:12])
        more = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
        super().__init__(f"{folder} does not fit its config.json: {shown}{more}")
        self.problems = problems


class _Move(NamedTuple):
    file: Path
    name: str
    transform: Transform


def load_params(
    files: Sequence[Path], target: Params, rules: Sequence[Rule], dtype: Any
) -> Params:
    """Fill ``target`` (shapes) from safetensors files, one tensor in memory at a time.

    Raises CheckpointError listing every tensor that no rule or several rules claim,
    every parameter that stays empty or is filled twice, every shape that differs.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(target)
    wanted = {".".join(str(k.key) for k in path): leaf for path, leaf in leaves}
    with ExitStack() as stack:
        handles = {file: _open(stack, file) for file in files}
        moves, problems = _plan(handles, wanted, rules)
        if problems:
            raise MisfitError(files[0].parent, problems)
        filled = []
        for path in wanted:  # in the order of the leaves
            file, name, transform = moves[path]
            value = transform(handles[file].get_tensor(name))
            filled.append(jax.device_put(value.astype(dtype, order="C")))
    return jax.tree_util.tree_unflatten(treedef, filled)


def _open(stack: ExitStack, file: Path) -> Any:
    try:
        return stack.enter_context(safe_open(file, framework="numpy"))
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{file} is not a whole safetensors file: {e}") from None


def _plan(
    handles: dict[Path, Any], wanted: dict[str, Any], rules: Sequence[Rule]
) -> tuple[dict[str, _Move], list[str]]:
    """Which tensor fills which path, and everything that is wrong."""
    moves: dict[str, _Move] = {}
    problems: list[str] = []
    for file, handle in handles.items():
        for name in handle.keys():
            hits = [(r, m) for r in rules if (m := re.fullmatch(r.pattern, name))]
            if len(hits) != 1:
                claim = "unexpected tensor" if not hits else "claimed by several rules"
                problems.append(f"{name}: {claim}")
                continue
            rule, match = hits[0]
            if rule.target is None:
                continue
            path = match.expand(rule.target)
            if path not in wanted:
                problems.append(f"{name}: unexpected tensor (no parameter {path})")
            elif path in moves:
                problems.append(
                    f"{name}: {path} is already filled by {moves[path].name}"
                )
            else:
                moves[path] = _Move(file, name, rule.transform)
                shape = tuple(handle.get_slice(name).get_shape())
                got = rule.transform(np.broadcast_to(np.int8(0), shape)).shape
                if got != wanted[path].shape:
                    problems.append(
                        f"{name}: shape {shape} becomes {got}, expected "
                        f"{wanted[path].shape}"
                    )
    problems += [f"{p}: missing tensor" for p in wanted if p not in moves]
    return moves, problems
