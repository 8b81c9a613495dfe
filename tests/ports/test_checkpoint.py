"""Where checkpoints lie: folders, variants, shards, the hub's cache; and their hash."""

import hashlib
import json
import os
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from golden import DIFFUSERS, TRANSFORMERS, copy, folder, tensors
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects
from safetensors.numpy import save_file

from ports import checkpoint, clip, unet, vae
from ports.checkpoint import CheckpointError

INDEX = f"{TRANSFORMERS}.index.json"


def load(path, **options):
    return clip.load(str(path), **options)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def refused(path, **options) -> str:
    """The one-line message of a checkpoint that cannot be used."""
    with pytest.raises(CheckpointError) as e:
        load(path, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def changed(value: float) -> dict[str, np.ndarray]:
    """The text tower with every weight moved."""
    return {k: v + np.float16(value) for k, v in tensors("clip_text").items()}


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
    message = refused(copy("clip_text", tmp_path), variant="fp16")
    assert "variant 'fp16'" in message and TRANSFORMERS in message
    (tmp_path / TRANSFORMERS).rename(tmp_path / "model.fp16.safetensors")
    assert "model.fp16.safetensors" in refused(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt"])
def test_pickled_weights_are_never_opened(tmp_path, name):
    """The message says how to convert them."""
    copy("clip_text", tmp_path)
    (tmp_path / TRANSFORMERS).rename(tmp_path / name)
    message = refused(tmp_path)
    assert "pickled" in message and "safe_serialization=True" in message


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


def sharded(to: Path, case: str = "clip_text", *, tag: str = "") -> dict[str, str]:
    """The golden in two shards; the index's weight map."""
    stem = "model" if case.startswith("clip") else "diffusion_pytorch_model"
    copy(case, to)
    (to / f"{stem}.safetensors").unlink()
    names = sorted(tensors(case))
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-0000{i}-of-00002{tag}.safetensors"
        save_file({k: tensors(case)[k] for k in part}, to / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (to / f"{stem}.safetensors.index{tag}.json").write_text(json.dumps(index))
    return weight_map


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


# The hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, offline."""
    assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, repo_id: str, files: dict[str, Path], ref: str = "main") -> str:
    """Lay files out as the hub's cache does: blobs, and snapshots that link to them."""
    repo, commit = cache / f"models--{repo_id.replace('/', '--')}", "0123456789" * 4
    for name, file in files.items():
        content = file.read_bytes()
        blob = repo / "blobs" / hashlib.sha256(content).hexdigest()
        link = repo / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / ref).write_text(commit)
    return commit


def files(case: str) -> dict[str, Path]:
    return {p.name: p for p in Path(folder(case)).iterdir() if p.suffix != ".npz"}


def test_a_cached_model_loads_by_its_id_offline(cache):
    commit = cached(cache, "owner/text", files("clip_text"))
    same(load("owner/text"), load(folder("clip_text")))
    same(load("owner/text", revision=commit), load(folder("clip_text")))


def test_a_cached_part_of_a_pipeline_loads_by_its_id(cache):
    parts = {"vae": "vae", "unet": "unet_sd1"}
    listing = {
        f"{part}/{name}": file
        for part, case in parts.items()
        for name, file in files(case).items()
    }
    cached(cache, "owner/pipeline", listing)
    same(vae.load("owner/pipeline", subfolder="vae"), vae.load(folder("vae")))
    same(unet.load("owner/pipeline", subfolder="unet"), unet.load(folder("unet_sd1")))


def test_a_cached_revision(cache):
    cached(cache, "owner/text", files("clip_text"), ref="v2")
    same(load("owner/text", revision="v2"), load(folder("clip_text")))
    assert "'owner/text'" in refused("owner/text")


def test_offline_with_an_empty_cache_names_the_id(cache):
    message = refused("owner/text")
    assert "'owner/text' is not a local directory" in message
    assert "give a local directory" in message


@pytest.mark.parametrize("path", ["run 1/model", "owner/a--b", "owner/name."])
def test_what_cannot_be_an_id_is_a_path_that_is_not_there(cache, path):
    assert repr(path) in refused(path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError, "is gated: accept its licence"),
        (errors.RepositoryNotFoundError, "neither a local directory nor a hub"),
        (errors.RevisionNotFoundError, "could not be downloaded"),
        (errors.HfHubHTTPError, "could not be downloaded"),
        (OSError, "could not be downloaded (OSError)"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, error, words):
    def download(*args, **options):
        failure = error.__new__(error)
        failure.args = ("401 Client Error.\nSee https://...",)
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    message = refused("owner/text")
    assert message.startswith("'owner/text' ") and words in message


SD15 = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "v1-5-pruned.ckpt",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    f"unet/{DIFFUSERS}",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json",
    f"vae/{DIFFUSERS}",
]
SHARDED = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.fp16-00001-of-00002.safetensors",
    "model.safetensors.index.fp16.json",
    INDEX,
    "pytorch_model-00001-of-00002.bin",
    "onnx/model.onnx",
]


@pytest.mark.parametrize(
    ("listing", "options", "wanted"),
    [
        (SD15, {}, ["model_index.json"]),
        (SD15, {"subfolder": "unet"}, ["unet/config.json", f"unet/{DIFFUSERS}"]),
        (
            SD15,
            {"subfolder": "text_encoder", "variant": "fp16"},
            ["text_encoder/config.json", "text_encoder/model.fp16.safetensors"],
        ),
        (
            SD15,
            {"subfolder": "tokenizer"},
            ["tokenizer/merges.txt", "tokenizer/vocab.json"],
        ),
        (
            SHARDED,
            {},
            [s for s in SHARDED if s.endswith(".json") or s.startswith("model-")],
        ),
        (
            SHARDED,
            {"variant": "fp16"},
            [s for s in SHARDED if s.endswith(".json") or s.startswith("model.fp16")],
        ),
    ],
)
def test_only_what_is_needed_is_downloaded(
    tmp_path, monkeypatch, listing, options, wanted
):
    """No pickles, no second copy in another precision, no whole pipeline."""
    asked = {}

    def download(repo_id, *, revision, **patterns):
        asked.update(patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / options.get("subfolder", "")).mkdir(exist_ok=True)
    checkpoint.locate("owner/name", **options)
    assert list(filter_repo_objects(listing, **asked)) == wanted


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
