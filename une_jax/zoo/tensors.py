"""The latents of a shard: a safetensors file that is read through the page cache.

The header is parsed here, strictly, because its offsets go straight into `np.memmap`;
safetensors' own slices read random rows three times slower.
"""

import json
import math
import os
import reprlib
from pathlib import Path

import numpy as np
import safetensors.numpy

from une_jax.errors import UneError
from une_jax.zoo import checks
from une_jax.zoo.manifest import DTYPES, View

CODES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
MAX_HEADER_BYTES = 1 << 20


def encode(tensors: dict[str, np.ndarray]) -> bytes:
    """The file's bytes; equal tensors give equal bytes, whatever their order.

    >>> len(encode({"clip": np.zeros((2, 512), np.float32)})) > 2 * 512 * 4
    True
    """
    # safetensors reads raw memory, so strided arrays must be copied first.
    names = sorted(tensors)
    return safetensors.numpy.save({n: np.ascontiguousarray(tensors[n]) for n in names})


def offsets(path: Path, views: tuple[View, ...], rows: int) -> dict[str, int]:
    """Where in the file each view's (rows, *shape) tensor starts, in bytes.

    Raises:
        UneError: the file is missing or short, its header is malformed, or it holds
            anything but these tensors of these shapes and dtypes.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            _expect(path, 8 + length <= size, "cut short, or no safetensors file")
            _expect(path, length <= MAX_HEADER_BYTES, "its header is too large")
            header = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise UneError(
            f"{path}: cannot read ({error.strerror}); restore the file, "
            "`une-jax verify` lists all that is wrong"
        ) from error
    except RecursionError as error:
        raise UneError(f"{path}: its header is nested too deeply") from error
    except UneError:
        raise
    except ValueError as error:
        raise UneError(f"{path}: its header is not JSON: {error}") from error
    _expect(path, isinstance(header, dict), "its header is not an object")
    wanted = sorted(view.name for view in views)
    found = f"it holds {reprlib.repr(sorted(header))}, not {wanted}"
    _expect(path, sorted(header) == wanted, found)

    starts = {}
    spans = []
    for view in views:
        entry, nbytes = header[view.name], view_bytes(view, rows)
        shape = [rows, *view.shape]
        fields = isinstance(entry, dict) and sorted(entry)
        right = fields == ["data_offsets", "dtype", "shape"]
        _expect(path, right, f"{view.name}: a malformed entry")
        code = entry["dtype"]
        right = isinstance(code, str) and CODES.get(code) == view.dtype
        _expect(path, right, f"{view.name}: dtype is not {view.dtype}")
        right = _integers(entry["shape"]) and entry["shape"] == shape
        _expect(path, right, f"{view.name}: shape is not {shape}")
        span = entry["data_offsets"]
        right = _integers(span) and len(span) == 2 and span[1] - span[0] == nbytes
        _expect(path, right, f"{view.name}: its offsets do not span {nbytes} bytes")
        starts[view.name] = 8 + length + span[0]
        spans.append(span)
    # Without gaps or overlaps, from the header to the end of the file.
    edges = [0, *(edge for span in sorted(spans) for edge in span), size - 8 - length]
    right = all(a == b for a, b in zip(edges[::2], edges[1::2], strict=True))
    _expect(path, right, "its tensors overlap, leave gaps or miss the file's end")
    return starts


def view_bytes(view: View, rows: int) -> int:
    """Bytes of `rows` rows of a view."""
    return rows * math.prod(view.shape) * DTYPES[view.dtype].itemsize


def problems(view: View, values: np.ndarray, ok: np.ndarray) -> list[str]:
    """What is wrong with one view's rows of a shard; empty if nothing.

    Args:
        view: what the values should be.
        values: (rows, *view.shape) of the view's dtype.
        ok: (rows,) bool; these rows must be finite, the others zero.
    """
    if values.dtype != DTYPES[view.dtype] or values.shape != (len(ok), *view.shape):
        return [
            f"{view.name}: expected {view.dtype} {(len(ok), *view.shape)}, got "
            f"{values.dtype} {values.shape}"
        ]
    flat = np.asarray(values).reshape(len(ok), -1)  # a map's rows are slow to slice
    infinite = [i for i in np.flatnonzero(ok) if not np.isfinite(flat[i]).all()]
    nonzero = [i for i in np.flatnonzero(~ok) if flat[i].any()]
    found = []
    if infinite:
        found.append(f"{view.name}: NaN or infinity in ok rows {_some(infinite)}")
    if nonzero:
        found.append(f"{view.name}: rows {_some(nonzero)} are not ok, yet not zero")
    return found


def _integers(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _some(rows: list) -> str:
    rest = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(str(int(row)) for row in rows[:3]) + rest


def _expect(path: Path, ok: bool, problem: str) -> None:
    checks.require(ok, f"{path}:", problem)


def _without_repeats(pairs: list) -> dict:
    checks.require(len(dict(pairs)) == len(pairs), "a name", "is there twice")
    return dict(pairs)
