"""Turn a Lightning checkpoint of DiffuseVAE's VAE into what ports/resnet_vae.py loads.

    python scripts/convert_resnet_vae.py --checkpoint vae.ckpt --out resnet-vae-celeba64

Once, where torch is installed: ``une_jax`` and ``ports`` never open a pickle. The files
are those that the README of kpandey008/DiffuseVAE links; a checkpoint of its second
stage will do, for the VAE in it. torch opens them with ``weights_only``: what else
Lightning left in them becomes plain dicts, and none of its code is run or needed.
Writes ``model.safetensors`` and ``config.json``, with the source's sha256. The block and
channel strings are those in the checkpoint, or, where it has none, the options'.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ports import resnet_vae  # noqa: E402
from ports.checkpoint import CheckpointError  # noqa: E402
from scripts.convert_lpips import sha256  # noqa: E402

KEYS = [field.name for field in dataclasses.fields(resnet_vae.Config)]


# Names under which Lightning's versions pickle the settings and the callbacks: dicts,
# or keys of dicts.
STAND_INS = [
    f"{package}.{name}"
    for package in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")
    for name in (
        "utilities.parsing.AttributeDict",
        "utilities.data.AttributeDict",
        "callbacks.model_checkpoint.ModelCheckpoint",
        "callbacks.progress.ProgressBar",
    )
]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert the weights of a ResNet VAE."""

    checkpoint: Path
    """Lightning's file (.ckpt)"""
    out: Path
    """folder to make"""
    input_res: int | None = None
    """edge of the images, where the checkpoint does not say (as the next four)"""
    enc_block_str: str | None = None
    """the encoder's blocks"""
    dec_block_str: str | None = None
    """the decoder's blocks"""
    enc_channel_str: str | None = None
    """the encoder's channels by level"""
    dec_channel_str: str | None = None
    """the decoder's channels by level"""


def main(args: Args) -> None:
    found = opened(args.checkpoint)
    tensors = {
        k.removeprefix("vae."): v.contiguous()
        for k, v in found.get("state_dict", found).items()
        if k.removeprefix("vae.").startswith(("enc.", "dec."))
    }
    if not tensors:
        sys.exit(f"{args.checkpoint} does not hold a VAE of DiffuseVAE")
    stated = dict(found.get("hyper_parameters") or {})
    stated |= {k: v for k in KEYS if (v := getattr(args, k)) is not None}
    if missing := [k for k in KEYS if k not in stated]:
        options = ", ".join(f"--{k.replace('_', '-')}" for k in missing)
        sys.exit(f"{args.checkpoint} does not say all of its shape: give {options}")
    try:
        config = resnet_vae.Config(**{k: stated[k] for k in KEYS})
        args.out.mkdir(parents=True, exist_ok=True)
        save_file(tensors, args.out / "model.safetensors")
        raw = {"_class_name": "ResNetVAE", **dataclasses.asdict(config)}
        raw["source"] = {
            "file": args.checkpoint.name,
            "sha256": sha256(args.checkpoint),
        }
        text = json.dumps(raw, indent=2) + "\n"
        (args.out / "config.json").write_text(text, encoding="utf-8")
        resnet_vae.load(str(args.out))
    except CheckpointError as e:
        sys.exit(f"{args.checkpoint}: {e}")
    print(f"{args.out}: a latent of {config.latent_dim}, {len(tensors)} tensors")


def opened(file: Path) -> dict[str, Any]:
    """What a checkpoint holds, Lightning's objects as plain dicts."""
    allowed: Any = [(dict, name) for name in STAND_INS]
    try:
        with torch.serialization.safe_globals(allowed):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # torch's reasons are many
        sys.exit(f"{file} cannot be read: {type(e).__name__}: {e}".splitlines()[0])
    if not isinstance(found, dict):
        sys.exit(f"{file} does not hold tensors by name")
    return found


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
