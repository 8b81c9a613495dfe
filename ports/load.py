"""The one strict loader: a table of rules from checkpoint names to parameter paths.

Every tensor must be used or ignored by exactly one rule, every parameter filled,
every shape equal; all mistakes are reported at once, before any weight is read.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from ports.checkpoint import (
    CheckpointError,
    class_name,
    locate,
    read_json,
    weight_files,
)
from ports.port import Params, Port, define
from ports.tensors import Tensor, empty, laid_out, read, tensors

Transform = Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """``pattern`` must match a whole tensor name; ``target`` is its path (None: ignore).

    ``target`` may use the pattern's groups (``\\1``); ``transform`` turns torch's
    layout into ours. A tuple of targets shares the tensor out in equal parts along its
    first axis, each transformed: torch's q, k and v, stacked.
    """

    pattern: str
    target: str | tuple[str, ...] | None
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
    files = weight_files(folder, variant=variant)
    return assemble(files, network, config, rules, dtype=dtype, param_dtype=param_dtype)


def assemble(
    files: Sequence[Path],
    network: Callable[..., nnx.Module],
    config: Any,
    rules: Sequence[Rule],
    *,
    dtype: Any,
    param_dtype: Any,
) -> Port:
    """Weights and pure function of a network whose config is known."""
    target, apply = define(network, config, dtype)
    return Port(config, load_params(files, target, rules, param_dtype or dtype), apply)


class MisfitError(CheckpointError):
    """The tensors of a checkpoint do not fit the network; ``problems`` lists all."""

    def __init__(self, folder: Path, problems: list[str]):
        shown = "; ".join(problems[:12])
        more = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
        super().__init__(f"{folder} does not fit its config: {shown}{more}")
        self.problems = problems


class _Move(NamedTuple):
    tensor: Tensor
    rule: Rule
    paths: list[str]
    as_is: bool  # the tensor becomes one parameter of the same layout


def load_params(
    files: Sequence[Path], target: Params, rules: Sequence[Rule], dtype: Any
) -> Params:
    """Fill ``target`` (shapes) from safetensors files.

    Beside the parameters only the largest tensor that has to be transformed is in
    memory. Raises CheckpointError listing every tensor that no rule or several rules
    claim, every parameter that stays empty or is filled twice, every shape that differs.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(target)
    wanted = {".".join(str(k.key) for k in path): leaf for path, leaf in leaves}
    moves, problems = _plan([t for file in files for t in tensors(file)], wanted, rules)
    if problems:
        raise MisfitError(files[0].parent, problems)
    dtype = np.dtype(dtype)
    turned = [m.tensor.nbytes for m in moves if not _stays(m, dtype)]
    scratch = empty((max(turned, default=0),), np.uint8)
    filled: dict[str, jax.Array] = {}
    for file, group in groupby(moves, key=lambda move: move.tensor.file):
        with file.open("rb", buffering=0) as stream:
            for move in group:
                filled |= _moved(stream, move, dtype, scratch)
    return jax.tree_util.tree_unflatten(treedef, [filled[path] for path in wanted])


def _stays(move: _Move, dtype: np.dtype) -> bool:
    return move.as_is and move.tensor.dtype == dtype


def _moved(
    stream: FileIO, move: _Move, dtype: np.dtype, scratch: np.ndarray
) -> dict[str, jax.Array]:
    """The parameters that one tensor becomes, on the default device."""
    if _stays(move, dtype):
        x = read(stream, move.tensor, empty((move.tensor.nbytes,), np.uint8))
        return {move.paths[0]: jax.device_put(x)}
    parts = _parts(read(stream, move.tensor, scratch), move.rule)
    return {
        path: jax.device_put(laid_out(part, dtype))
        for path, part in zip(move.paths, parts, strict=True)
    }


def _plan(
    found: Sequence[Tensor], wanted: dict[str, Any], rules: Sequence[Rule]
) -> tuple[list[_Move], list[str]]:
    """Which tensor fills which paths, and everything that is wrong."""
    moves: list[_Move] = []
    filled: dict[str, str] = {}
    problems: list[str] = []
    for tensor in found:
        name, shape = tensor.name, tensor.shape
        hits = [(r, m) for r in rules if (m := re.fullmatch(r.pattern, name))]
        if len(hits) != 1:
            claim = "unexpected tensor" if not hits else "claimed by several rules"
            problems.append(f"{name}: {claim}")
            continue
        rule, match = hits[0]
        if rule.target is None:
            continue
        paths = [match.expand(target) for target in _targets(rule)]
        like = np.broadcast_to(np.int8(0), shape)
        parts = _parts(like, rule)
        moves.append(_Move(tensor, rule, paths, as_is=parts[0] is like))
        for path, part in zip(paths, parts, strict=True):
            if path not in wanted:
                problems.append(f"{name}: unexpected tensor (no parameter {path})")
            elif path in filled:
                problems.append(f"{name}: {path} is already filled by {filled[path]}")
            else:
                filled[path] = name
                if part.shape != wanted[path].shape:
                    problems.append(
                        f"{name}: shape {shape} becomes {part.shape}, expected "
                        f"{wanted[path].shape}"
                    )
    problems += [f"{p}: missing tensor" for p in wanted if p not in filled]
    return moves, list(dict.fromkeys(problems))


def _targets(rule: Rule) -> tuple[str, ...]:
    return (rule.target,) if isinstance(rule.target, str) else rule.target or ()


def _parts(x: np.ndarray, rule: Rule) -> list[np.ndarray]:
    """What a tensor becomes, one array for each target."""
    n = len(_targets(rule))
    # Where n does not divide the axis the parts are unequal, and one does not fit.
    parts = np.array_split(np.atleast_1d(x), n) if n > 1 else [x]
    return [rule.transform(part) for part in parts]
