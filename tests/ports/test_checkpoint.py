"""Where checkpoints lie: folders, variants, shards; and their hash."""

import json
import pickle
from pathlib import Path

import pytest
from checkpoints import INDEX, changed, load, refused, same, sharded
from golden import DIFFUSERS, TRANSFORMERS, copy, folder
from safetensors.numpy import save_file

from ports import checkpoint, unet, vae
from ports.checkpoint import CheckpointError

# Folders


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    copy("clip_text", tmp_path / "model")
    same(load("~/model"), load(folder("clip_text")))


@pytest.mark.parametrize("path", ["nowhere", "./nowhere", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_no_folder_is_named(path):
    assert repr(path) in refused(path)


def test_a_missing_config_is_named(tmp_path):
    copy("clip_text", tmp_path)
    (tmp_path / "config.json").unlink()
    assert refused(tmp_path) == f"{tmp_path / 'config.json'} is missing"


@pytest.mark.parametrize("text", ["{", "[]", '"a"', b"\xff\xfe".decode("latin1")])
def test_a_broken_config_is_named(tmp_path, text):
    copy("clip_text", tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="latin1")
    assert str(tmp_path / "config.json") in refused(tmp_path)


def test_a_missing_subfolder_is_named(tmp_path):
    message = refused(tmp_path, subfolder="text_encoder")
    assert "'text_encoder'" in message and str(tmp_path) in message


def test_a_subfolder(tmp_path):
    copy("clip_text", tmp_path / "text_encoder")
    same(load(tmp_path, subfolder="text_encoder"), load(folder("clip_text")))


# Weight files


def test_a_variant_is_another_file_of_the_same_folder(tmp_path):
    copy("clip_text", tmp_path)
    save_file(changed(1), tmp_path / "model.fp16.safetensors")
    same(load(tmp_path), load(folder("clip_text")))
    other = load(copy("clip_text", tmp_path / "other", changed(1)))
    same(load(tmp_path, variant="fp16"), other)


def test_a_variant_that_is_not_there_lists_what_is(tmp_path):
    """Also where another folder of the same pipeline has it: no silent mixture."""
    copy("unet_sd1", tmp_path / "unet")
    weights = tmp_path / "unet" / DIFFUSERS
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    copy("vae", tmp_path / "vae")
    unet.load(str(tmp_path), subfolder="unet", variant="fp16")
    with pytest.raises(CheckpointError) as e:
        vae.load(str(tmp_path), subfolder="vae", variant="fp16")
    assert f"for variant 'fp16', only {DIFFUSERS}:" in str(e.value)

    message = refused(copy("clip_text", tmp_path), variant="fp16")
    assert "variant 'fp16'" in message and TRANSFORMERS in message
    (tmp_path / TRANSFORMERS).rename(tmp_path / "model.fp16.safetensors")
    assert "model.fp16.safetensors" in refused(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "vitl16.pth"])
def test_pickled_weights_are_never_opened(tmp_path, name):
    """The message says how to convert them."""
    copy("clip_text", tmp_path)
    (tmp_path / TRANSFORMERS).unlink()
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    message = refused(tmp_path)
    assert f"pickled weights only ({name})" in message
    assert "safe_serialization=True" in message


class Trap:
    """Fails the test that unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_a_folder_without_weights(tmp_path):
    copy("clip_text", tmp_path)
    (tmp_path / TRANSFORMERS).unlink()
    assert refused(tmp_path) == f"{tmp_path} has no .safetensors weights"


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    copy("clip_text", tmp_path)
    file = tmp_path / TRANSFORMERS
    file.write_bytes(file.read_bytes()[:keep])
    assert str(file) in refused(tmp_path)


def test_a_file_that_is_no_safetensors_file_is_named(tmp_path):
    copy("clip_text", tmp_path)
    file = tmp_path / TRANSFORMERS
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 4)
    assert str(file) in refused(tmp_path)


# Shards


def test_shards_are_one_checkpoint(tmp_path):
    sharded(tmp_path / "clip")
    same(load(tmp_path / "clip"), load(folder("clip_text")))
    sharded(tmp_path / "vae", "vae")
    same(vae.load(str(tmp_path / "vae")), vae.load(folder("vae")))


def test_shards_of_a_variant(tmp_path):
    sharded(tmp_path, tag=".fp16")
    same(load(tmp_path, variant="fp16"), load(folder("clip_text")))
    # The other spelling of the index, which transformers writes.
    (tmp_path / "model.safetensors.index.fp16.json").rename(
        tmp_path / "model.fp16.safetensors.index.json"
    )
    same(load(tmp_path, variant="fp16"), load(folder("clip_text")))
    assert "variant='fp16'" in refused(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    sharded(tmp_path)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.unlink()
    message = refused(tmp_path)
    assert str(shard) in message and "missing" in message


@pytest.mark.parametrize("outside", ["../model.safetensors", "/etc/x", "a/b", ".."])
def test_a_shard_outside_the_folder_is_not_opened(tmp_path, outside):
    weight_map = sharded(tmp_path / "model")
    copy("clip_text", tmp_path)
    index = {"weight_map": weight_map | {"final_layer_norm.bias": outside}}
    (tmp_path / "model" / INDEX).write_text(json.dumps(index))
    message = refused(tmp_path / "model")
    assert INDEX in message and (outside in message)


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}]
)
def test_a_broken_index_is_named(tmp_path, index):
    copy("clip_text", tmp_path)
    (tmp_path / TRANSFORMERS).unlink()
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert INDEX in refused(tmp_path)


# The hash


def test_the_hash_changes_with_a_byte(tmp_path):
    copy("clip_text", tmp_path / "a")
    copy("vae", tmp_path / "b")
    both = [tmp_path / "a", tmp_path / "b"]
    before = checkpoint.sha256(both)
    assert before == checkpoint.sha256([Path(folder("clip_text")), Path(folder("vae"))])
    assert before != checkpoint.sha256(both[::-1])
    assert before != checkpoint.sha256(both[:1])

    file = tmp_path / "b" / DIFFUSERS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert before != checkpoint.sha256(both)


def test_the_hash_is_of_the_variant_that_is_loaded(tmp_path):
    copy("clip_text", tmp_path)
    save_file(changed(1), tmp_path / "model.fp16.safetensors")
    one, other = (checkpoint.sha256([tmp_path], variant=v) for v in (None, "fp16"))
    assert one != other and len(one) == 64
