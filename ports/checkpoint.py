"""Where a checkpoint lives: a local directory or a hub id, its config, its files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEMS = ("diffusion_pytorch_model", "model")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: says which file or tensor, and what to do."""


def locate(
    path_or_id: str,
    *,
    subfolder: str = "",
    revision: str | None = None,
    variant: str | None = None,
) -> Path:
    """The local folder of a checkpoint, downloaded from the hub where needed.

    A path that exists is used as it is; anything shaped like ``owner/name`` is asked
    of ``huggingface_hub`` (which honours ``HF_HUB_OFFLINE`` and its cache).
    """
    local = Path(path_or_id).expanduser()
    if not local.is_dir():
        if path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
            raise CheckpointError(
                f"no model directory at {path_or_id!r}: give a directory in diffusers "
                "or transformers layout, or a hub id like 'owner/name'"
            )
        local = _download(path_or_id, subfolder, revision, variant)
    folder = local / subfolder
    if not folder.is_dir():
        raise CheckpointError(
            f"{path_or_id!r} has no folder {subfolder!r}: is it a whole pipeline?"
        )
    return folder


def _download(
    repo_id: str, subfolder: str, revision: str | None, variant: str | None
) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    # One folder and one variant of it: repositories often hold every weight four times.
    # (In these patterns * also matches slashes.)
    tag = f".{variant}" if variant else ""
    weights = [
        f"{s}{t}.safetensors" for s in STEMS for t in (tag, f"{tag}-*", f"-*{tag}")
    ]
    prefix = f"{subfolder}/" if subfolder else ""
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[prefix + p for p in ("*.json", "*.txt", *weights)],
                ignore_patterns=None if subfolder else ["*/*"],
            )
        )
    except errors.GatedRepoError as e:
        raise CheckpointError(
            f"{repo_id!r} is gated: accept its licence on its model page, then log in "
            "with `hf auth login`"
        ) from e
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as e:
        raise CheckpointError(
            f"{repo_id!r} is neither a local directory nor a hub repository"
        ) from e
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as e:
        raise CheckpointError(
            f"{repo_id!r} is not a local directory and could not be downloaded "
            f"({type(e).__name__}): check the network, or give a local directory"
        ) from e


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


def weight_files(folder: Path, *, variant: str | None = None) -> list[Path]:
    """The safetensors files that hold a model's weights: one, or the index's shards."""
    tag = f".{variant}" if variant else ""
    for stem in STEMS:
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
    found = sorted(p.name for p in folder.glob("*.safetensors"))
    if found:
        asked = f" for variant {variant!r}" if variant else ""
        return (
            f"{folder} has no weights{asked}, only {', '.join(found)}: "
            "name another variant (variant='fp16', or none)"
        )
    if any(folder.glob("*.bin")) or any(folder.glob("*.ckpt")):
        return (
            f"{folder} holds pickled weights only, which are never opened: convert "
            "them with `model.save_pretrained(folder, safe_serialization=True)`"
        )
    return f"{folder} has no .safetensors weights"


def sha256(folders: Sequence[Path], *, variant: str | None = None) -> str:
    """One hash over the bytes of all weight files of these folders, in order."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in weight_files(folder, variant=variant):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
