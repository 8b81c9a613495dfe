"""Tensors out of safetensors files, laid out as JAX wants them.

They are read, not memory-mapped: mapped pages count as this process's memory beside the
parameters that they become.
"""

import json
from collections.abc import Sequence
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ports.checkpoint import CheckpointError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_LINE = 64  # bytes: a cache line, and how XLA's CPU client wants arrays aligned


class Tensor(NamedTuple):
    """Where one tensor lies: its bytes begin at ``start`` of ``file``."""

    file: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def tensors(file: Path) -> list[Tensor]:
    """The tensors of a file, in the order of their bytes.

    CheckpointError if it is not a whole safetensors file.
    """
    try:
        with safe_open(file, framework="numpy"):  # checks every offset and the length
            pass
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{file} is not a whole safetensors file: {e}") from None
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise CheckpointError(
                f"{file}: {name} has dtype {entry['dtype']}, which is not supported "
                f"(supported: {', '.join(DTYPES)})"
            )
    found = [
        Tensor(
            file,
            name,
            np.dtype(DTYPES[entry["dtype"]]),
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
        )
        for name, entry in header.items()
    ]
    return sorted(found, key=lambda tensor: tensor.start)


def read(stream: FileIO, tensor: Tensor, into: np.ndarray) -> np.ndarray:
    """A tensor of an open, unbuffered file, read into the first bytes of ``into``."""
    values = into[: tensor.nbytes]
    stream.seek(tensor.start)
    done = 0
    while done < len(values):  # one read gives 2 GiB at most
        n = stream.readinto(values[done:].data)
        if not n:
            raise CheckpointError(f"{tensor.file} ended while it was read")
        done += n
    return values.view(tensor.dtype).reshape(tensor.shape)


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An uninitialised array that ``jax.device_put`` on a CPU takes without a copy."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + _LINE - 1, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def laid_out(x: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in C order and this dtype, as ``empty`` makes it."""
    out = empty(x.shape, dtype)
    if x.ndim < 2 or abs(x.strides[-1]) <= x.itemsize:
        np.copyto(out, x, casting="unsafe")
        return out
    # A transpose, by columns of one cache line: several times faster than at once.
    step = max(_LINE // out.itemsize, 1)
    for i in range(0, x.shape[-1], step):
        out[..., i : i + step] = x[..., i : i + step].astype(dtype, copy=False)
    return out
