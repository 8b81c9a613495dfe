"""Reading safetensors: the bytes of the file, in our layout, in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ports import tensors
from ports.checkpoint import CheckpointError

ORDERS = {
    "as it is": (0, 1, 2, 3),
    "a convolution's": (2, 3, 1, 0),
    "reversed": (3, 2, 1, 0),
    "its inner axes": (0, 2, 1, 3),
}
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("of", DTYPES)
def test_a_layout_is_the_cast_in_c_order(of, to, order):
    """For widths around the blocks that it is copied in."""
    for n in (1, 15, 16, 17, 70):
        x = np.random.default_rng(0).standard_normal((n, 5, 3, 2)).astype(of)
        x = x.transpose(ORDERS[order])
        got = tensors.laid_out(x, to)
        assert got.dtype == to and got.flags.c_contiguous
        np.testing.assert_array_equal(got, x.astype(to))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (5, 9)])
def test_a_layout_of_few_axes_is_a_copy(shape):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    got = tensors.laid_out(x, np.float32)
    np.testing.assert_array_equal(got, x)
    assert not np.shares_memory(got, x)
    turned = tensors.laid_out(x.T[::-1], np.float32) if x.ndim else got
    np.testing.assert_array_equal(turned, x.T[::-1] if x.ndim else x)


@pytest.mark.parametrize("shape", [(7,), (100, 33)])
def test_jax_takes_a_layout_without_a_copy(shape):
    """On CPU, where a second copy would count."""
    host = tensors.empty(shape, np.float32)
    host[:] = 1
    device = jax.device_put(host)
    assert device.unsafe_buffer_pointer() == host.ctypes.data


def test_every_dtype_reads_as_it_was_written(tmp_path):
    file = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    written = {
        name: (9 * rng.standard_normal((3, 5))).astype(dtype)
        for name, dtype in tensors.DTYPES.items()
    }
    written |= {"scalar": np.array(2, np.float32), "none": np.zeros((0, 4))}
    save_file(written, file)
    expected = load_file(file)
    listed = tensors.tensors(file)
    assert {t.name for t in listed} == set(expected)
    with file.open("rb", buffering=0) as stream:
        for tensor in listed:
            got = tensors.read(stream, tensor, np.empty(tensor.nbytes + 3, np.uint8))
            assert got.dtype == expected[tensor.name].dtype
            np.testing.assert_array_equal(got, expected[tensor.name])


def raw_file(file: Path, dtype: str, data: bytes) -> Path:
    """A safetensors file of one tensor ``x``, written by hand."""
    entry = {"dtype": dtype, "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "x": entry}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return file


def test_a_dtype_of_other_uses_is_refused(tmp_path):
    file = raw_file(tmp_path / "model.safetensors", "F8_E4M3", b"1234")
    with pytest.raises(CheckpointError, match="x has dtype F8_E4M3, .*BF16"):
        tensors.tensors(file)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    file = raw_file(tmp_path / "model.safetensors", "U8", bytes(64))
    (tensor,) = tensors.tensors(file)
    file.write_bytes(file.read_bytes()[:-1])
    with file.open("rb", buffering=0) as stream:
        with pytest.raises(CheckpointError, match="ended while it was read"):
            tensors.read(stream, tensor, np.empty(tensor.nbytes, np.uint8))


# The high-water mark of a process's memory: getrusage's would be its parent's.
MEASURE = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from ports.load import Rule, conv, linear, load_params

def memory(key):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(key + r":\\s*(\\d+) kB", status)[1])

file, dtype = Path(sys.argv[1]), jnp.dtype(sys.argv[2])
rules = (
    Rule(r"(conv\\.\\d+)", r"\\1", conv),
    Rule(r"(linear\\.\\d+)", r"\\1", linear),
    Rule(r"qkv", ("q", "k", "v"), linear),
    Rule("table", "table"),
)
shapes = {"conv": (3, 3, 768, 768), "linear": (768, 3072)}
target = {
    kind: {str(i): jax.ShapeDtypeStruct(shape, dtype) for i in range(6)}
    for kind, shape in shapes.items()
}
target |= {x: jax.ShapeDtypeStruct((768, 768), dtype) for x in "qkv"}
target["table"] = jax.ShapeDtypeStruct((16384, 768), dtype)
jax.device_put(np.zeros(3)).block_until_ready()
before = memory("VmRSS")
params = jax.block_until_ready(load_params([file], target, rules, dtype))
print((memory("VmHWM") - before) / file.stat().st_size)
print(sum(x.nbytes for x in jax.tree.leaves(params)) / file.stat().st_size)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory) -> Path:
    """256 MB of float32 in the shapes of a UNet and of a text encoder."""
    x = np.arange(768 * 768 * 9, dtype=np.float32)
    weights = {f"conv.{i}": x.reshape(768, 768, 3, 3) + i for i in range(6)}
    weights |= {f"linear.{i}": x[: 768 * 3072].reshape(3072, 768) for i in range(6)}
    weights["qkv"] = x[: 3 * 768 * 768].reshape(-1, 768)
    weights["table"] = np.zeros((16384, 768), np.float32)
    file = tmp_path_factory.mktemp("big") / "model.safetensors"
    save_file(weights, file)
    return file


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_takes_little_more_memory_than_the_parameters(big, dtype):
    """Under 1.3 times the file, parameters included; a memory map would be twice."""
    run = [sys.executable, "-c", MEASURE, str(big), dtype]
    out = subprocess.run(
        run, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    peak, kept = map(float, out.stdout.split())
    assert kept == pytest.approx(jnp.dtype(dtype).itemsize / 4, rel=1e-3)
    assert kept < peak < kept + 0.3
