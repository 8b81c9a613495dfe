import hashlib
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from une_jax.errors import UneError
from une_jax.interop import npy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6)).astype(np.float16)


def saved(path, array):
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f2", ">f4"])
def test_floats_come_back_bit_for_bit(tmp_path, dtype):
    x = RNG.normal(size=(5, 6)).astype(dtype)
    array = npy.open_array(saved(tmp_path / "a.npy", x))
    assert array.shape == (5, 6)
    assert array.stored == {2: "float16", 4: "float32"}[x.dtype.itemsize]
    rows = array.rows(1, 4)
    assert rows.dtype == array.stored
    np.testing.assert_array_equal(rows, x[1:4])


def test_doubles_become_floats_and_what_is_too_large_becomes_infinite(tmp_path):
    x = np.array([[np.pi, 1e300, -1e300, np.nan]])
    array = npy.open_array(saved(tmp_path / "a.npy", x))
    assert array.stored == "float32"
    want = np.array([[np.pi, np.inf, -np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(array.rows(0, 1), want)


def test_files_that_python_2_wrote(tmp_path):
    """It put an L behind each number of the shape."""
    file = tmp_path / "a.npy"
    header = b"{'descr': '<f2', 'fortran_order': False, 'shape': (5L, 6L), }\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    file.write_bytes(start + X.tobytes())
    np.testing.assert_array_equal(npy.open_array(file).rows(0, 5), X)


def test_a_row_of_one_file_is_read_without_the_others(tmp_path):
    x = np.zeros((4096, 4096), np.float16)  # 32 MB
    array = npy.open_array(saved(tmp_path / "a.npy", x))
    tracemalloc.start()
    for start in range(0, 4096, 64):
        array.rows(start, start + 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5e6


def test_the_sha256_is_that_of_the_whole_file(tmp_path):
    file = saved(tmp_path / "a.npy", np.zeros((1, 1), np.float16))
    assert file.stat().st_size == 130
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert npy.open_array(file).sha256() == digest


class Exploding:
    """What a file could hold to run code when it is read."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def structured():
    return np.zeros((2, 2), [("a", np.float32)])


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.array([[Exploding()]], object), "holds Python objects"),
        (np.zeros((2, 2), np.int64), "is int64; save it as float16, float32"),
        (np.zeros((2, 2), np.complex64), "is complex64; save it"),
        (np.zeros((2, 2), np.longdouble), "save it as float16, float32"),
        (structured(), "save it as float16, float32"),
        (np.zeros(4, np.float16), r"is of shape \(4,\); it should be \(images"),
        (np.zeros((2, 4, 8, 8), np.float16), r"is of shape \(2, 4, 8, 8\)"),
        (np.zeros((0, 4), np.float16), r"is of shape \(0, 4\)"),
        (np.zeros((4, 0), np.float16), r"is of shape \(4, 0\)"),
        (np.asfortranarray(X), "is in Fortran order"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_rows_of_floats(tmp_path, monkeypatch, array, problem):
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path / "a.npy", array)
    with pytest.raises(UneError, match=problem) as refused:
        npy.open_array(file)
    assert str(refused.value).startswith(f"{file} ")
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_not_whole(tmp_path):
    file = saved(tmp_path / "a.npy", X)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UneError, match="is cut short: 187 bytes, where .* says 188"):
        npy.open_array(file)
    file.write_bytes(whole + b"0")
    with pytest.raises(UneError, match="is too long: 189 bytes, where .* says 188"):
        npy.open_array(file)


def test_files_that_are_no_npy(tmp_path):
    file = tmp_path / "a.npy"
    with pytest.raises(UneError, match="a.npy: cannot read: No such file"):
        npy.open_array(file)
    for data in (b"", b"\x93NUM", b"PK\x03\x04 an npz", b"\x80\x04 a pickle"):
        file.write_bytes(data)
        with pytest.raises(UneError, match="a.npy is no .npy file: "):
            npy.open_array(file)
    with pytest.raises(UneError, match="is no file; give the .npy files"):
        npy.open_array(tmp_path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    file = saved(tmp_path / "a.npy", X)
    array = npy.open_array(file)
    file.write_bytes(b"")
    with pytest.raises(UneError, match="a.npy: cannot read: "):
        array.rows(0, 5)
    file.unlink()
    with pytest.raises(UneError, match="a.npy: cannot read: "):
        array.rows(0, 5)
    with pytest.raises(UneError, match="a.npy: cannot read: No such file"):
        array.sha256()


HEADER = npy.header(2, 3, np.dtype(np.float16))


@given(
    st.integers(0, len(HEADER) - 1),
    st.binary(max_size=12) | st.sampled_from([b"-" * 99999, b"(" * 9000, b"9" * 99]),
    st.integers(0, 3),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, at, junk, cut):
    data = HEADER[:at] + junk + HEADER[at + cut :] + bytes(12)
    file = tmp_path_factory.getbasetemp() / "hostile.npy"
    file.write_bytes(data)
    try:
        array = npy.open_array(file)
    except UneError as error:
        assert str(error).startswith(str(file)) and "\n" not in str(error)
    else:
        assert array.rows(0, array.shape[0]).shape == array.shape


@pytest.mark.parametrize("junk", [b"-" * 9000 + b"1", b"(" * 9000, b"[" * 99 + b"]"])
def test_headers_that_overwhelm_the_parser(tmp_path, junk):
    for version, size in ((1, "<H"), (2, "<I"), (3, "<I"), (9, "<I")):
        start = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(junk))
        (tmp_path / "a.npy").write_bytes(start + junk)
        with pytest.raises(UneError, match="is no .npy file"):
            npy.open_array(tmp_path / "a.npy")


def test_what_is_written_numpy_reads(tmp_path):
    start = npy.header(5, 6, X.dtype)
    (tmp_path / "a.npy").write_bytes(start + b"".join(row.tobytes() for row in X))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), X)
    np.save(tmp_path / "b.npy", X)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
