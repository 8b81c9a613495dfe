"""`.npy` files of one row an image, read part by part and written row after row."""

import dataclasses
import hashlib
import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float

from une_jax.errors import UneError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Array:
    """A 2-D float array in a file, of which only the header was read.

    Attributes:
        path: the file.
        shape: (n, d).
        dtype: float16, float32 or float64, as in the file; perhaps of other byte order.
        offset: where in the file the rows start, in bytes.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype
    offset: int

    @property
    def stored(self) -> str:
        """What a zoo keeps it as: float16 and float32 as they are, float64 as float32."""
        return "float16" if self.dtype.itemsize == 2 else "float32"

    def rows(self, start: int, stop: int) -> Float[np.ndarray, "m d"]:
        """Rows [start, stop) as `stored`; what is too large for it becomes infinite.

        Raises:
            UneError: the file can no longer be read.
        """
        width = self.shape[1]
        try:  # mapped anew each time, so that memory does not fill with pages read once
            part = np.memmap(
                self.path,
                self.dtype,
                mode="r",
                offset=self.offset + start * width * self.dtype.itemsize,
                shape=(stop - start, width),
            )
        except (OSError, ValueError) as error:
            raise UneError(f"{self.path}: cannot read: {error}") from error
        with np.errstate(over="ignore"):
            return np.array(part, self.stored)

    def sha256(self) -> str:
        """Of the whole file, in hex.

        Raises:
            UneError: the file can no longer be read.
        """
        try:
            with open(self.path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UneError(f"{self.path}: cannot read: {error.strerror}") from error


def open_array(path: str | os.PathLike[str]) -> Array:
    """What the header of a `.npy` file says, if its bytes are all there.

    Raises:
        UneError: no `.npy` file, cut short or too long, not (n, d) with both at least
            1, not float16, float32 or float64, in Fortran order, or of Python objects,
            which would run code.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.ones((3, 2), np.float16))
    ...     array = open_array(f"{folder}/a.npy")
    ...     array.shape, array.stored, array.rows(1, 3).tolist()
    ((3, 2), 'float16', [[1.0, 1.0], [1.0, 1.0]])
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UneError(f"{path} is no file; give the .npy files themselves")
        with open(path, "rb") as file:
            shape, fortran, dtype = _read_header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error
    except ValueError as error:
        raise UneError(f"{path} is no .npy file: {error}") from error
    if dtype.hasobject:
        raise UneError(
            f"{path} holds Python objects, which may run code when they are read; "
            "save it as floats"
        )
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise UneError(f"{path} is {dtype}; save it as float16, float32 or float64")
    if len(shape) != 2 or min(shape) < 1:
        raise UneError(f"{path} is of shape {shape}; it should be (images, numbers)")
    if fortran and min(shape) > 1:
        raise UneError(
            f"{path} is in Fortran order, column after column, so that no row can be "
            "read alone; save numpy.ascontiguousarray of it"
        )
    expected = offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        problem = "cut short" if size < expected else "too long"
        raise UneError(
            f"{path} is {problem}: {size} bytes, where its header says {expected}; "
            "fetch it again"
        )
    return Array(path=path, shape=(shape[0], shape[1]), dtype=dtype, offset=offset)


def _read_header(file: io.BufferedReader) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype; any error is a `ValueError`."""
    form = np.lib.format
    try:
        version = form.read_magic(file)
        readers = {
            (1, 0): form.read_array_header_1_0,
            (2, 0): form.read_array_header_2_0,
        }
        if version not in readers:  # 3.0 is for named fields only
            raise ValueError(f"version {version} of the format has no plain arrays")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote the file
            shape, fortran, dtype = readers[version](file)
        return tuple(map(int, shape)), fortran, dtype
    except OSError:
        raise
    except Exception as error:  # numpy's parser raises nearly anything on hostile bytes
        raise ValueError(
            " ".join(str(error).split()) or type(error).__name__
        ) from error


def header(rows: int, width: int, dtype: np.dtype) -> bytes:
    """The start of a `.npy` file; `rows` rows of `width` numbers, C order, follow it.

    >>> start = header(2, 1, np.dtype(np.float16))
    >>> np.load(io.BytesIO(start + np.float16([1, 2]).tobytes())).tolist()
    [[1.0], [2.0]]
    """
    file = io.BytesIO()
    said = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (rows, width),
    }
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue()
