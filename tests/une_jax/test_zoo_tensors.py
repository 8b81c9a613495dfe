"""Tensor files are refused, by name, where their header is not what it must be."""

import json
import shutil

import pytest
from small_zoo import MANIFEST, build, latents

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import tensors


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def path(built, tmp_path):
    return shutil.copytree(built, tmp_path / "zoo")


def read_all(opened):
    return opened["mini-sd"][:]


def rewritten(path, change):
    """The tensors of shard 0 with their header changed."""
    file = path / "shards/00000.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = change(header)
    text = (json.dumps(header) if text is None else text).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def entry(name, field, value):
    def change(header):
        header[name][field] = value

    return change


def swap(header):
    a, b = header["mini-clip"], header["mini.dino"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]


CLIP_BYTES = 4 * 8 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: "", "header is not JSON"),
        (lambda h: "[]", "not an object"),
        (
            lambda h: "\ud800".encode("utf-16", "surrogatepass").decode("latin1"),
            "header",
        ),
        (lambda h: "[" * 100_000, "nested too deeply|not JSON"),
        (lambda h: " " * (1 << 20) + json.dumps(h), "header is too large"),
        (lambda h: '{"mini-sd": 1, "mini-sd": 2}', "there twice"),
        (lambda h: h.pop("mini-sd") and None, "it holds"),
        (lambda h: h.update(more=h["mini-sd"]), "it holds"),
        (lambda h: h.update({"mini-sd": []}), "malformed entry"),
        (lambda h: h["mini-sd"].update(more=1), "malformed entry"),
        (entry("mini-sd", "dtype", "BF16"), "dtype is not float16"),
        (entry("mini-sd", "dtype", ["F16"]), "dtype is not float16"),
        (entry("mini-sd", "shape", [4, 2, 4, 2]), "shape is not"),
        (entry("mini-sd", "shape", [4, 4, 2, 2.0]), "shape is not"),
        (entry("mini-sd", "shape", "4422"), "shape is not"),
        (entry("mini-clip", "data_offsets", [0, CLIP_BYTES + 4]), "do not span"),
        (entry("mini-clip", "data_offsets", [-4, CLIP_BYTES - 4]), "do not span"),
        (entry("mini-clip", "data_offsets", [0, True]), "do not span"),
        (entry("mini-clip", "data_offsets", [0]), "do not span"),
        (entry("mini-clip", "data_offsets", [4, CLIP_BYTES + 4]), "overlap"),
        (entry("mini-clip", "data_offsets", [10**18, 10**18 + CLIP_BYTES]), "overlap"),
        (swap, "do not span"),
    ],
)
def test_hostile_headers_are_refused(path, change, message):
    rewritten(path, change)
    with pytest.raises(UneError, match=f"00000.safetensors: .*({message})|{message}"):
        read_all(zoo.open(path))


@pytest.mark.parametrize("size", [0, 7, 8, 100])
def test_tensors_cut_short_are_refused(path, size):
    file = path / "shards/00000.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UneError, match="00000.safetensors: .*(cut short|not JSON)"):
        read_all(zoo.open(path))


def test_bytes_beyond_the_tensors_are_refused(path):
    file = path / "shards/00000.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UneError, match="miss the file's end"):
        read_all(zoo.open(path))


def test_offsets_are_those_of_the_data(path):
    file = path / "shards/00000.safetensors"
    offsets = tensors.offsets(file, MANIFEST.views, 4)
    data = file.read_bytes()
    for view in MANIFEST.views:
        expected = latents(view)[:4].tobytes()
        start = offsets[view.name]
        assert data[start : start + len(expected)] == expected
