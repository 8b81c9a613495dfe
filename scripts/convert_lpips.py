"""Turn the published weights of LPIPS, which are pickles, into what ports/lpips.py loads.

    curl -LO https://download.pytorch.org/models/alexnet-owt-7be5be79.pth
    pip download --no-deps lpips==0.1.4 && unzip lpips-0.1.4-*.whl 'lpips/weights/*'
    python scripts/convert_lpips.py --trunk alexnet-owt-7be5be79.pth \\
        --heads lpips/weights/v0.1/alex.pth --out lpips-alex

Once, where torch is installed: ``une_jax`` and ``ports`` never open a pickle. For VGG16
it is vgg16-397923af.pth and vgg.pth. torch opens both files with ``weights_only``, and
neither torchvision nor lpips need to be installed. Writes ``model.safetensors`` (AlexNet
10 MB, VGG16 59 MB) and ``config.json``, with both sources' sha256.
"""

import hashlib
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

from ports.lpips import TRUNKS  # noqa: E402

HEADS = [f"lin{i}.model.1.weight" for i in range(5)]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert the weights of LPIPS."""

    trunk: Path
    """torchvision's AlexNet or VGG16 (.pth)"""
    heads: Path
    """lpips/weights/v0.1/alex.pth or vgg.pth, of the lpips package"""
    out: Path
    """folder to make"""


def main(args: Args) -> None:
    trunk = {k: v for k, v in opened(args.trunk).items() if k.startswith("features.")}
    heads = opened(args.heads)
    backbone = next((name for name in TRUNKS if layers(name) == set(trunk)), None)
    if backbone is None:
        sys.exit(f"{args.trunk} is neither torchvision's AlexNet nor its VGG16")
    if sorted(heads) != HEADS:
        sys.exit(f"{args.heads} does not hold the five heads of lpips 0.1")
    lasts = [stage[-1].index for stage in TRUNKS[backbone].stages]
    channels = [len(trunk[f"features.{index}.weight"]) for index in lasts]
    if [heads[name].shape[1] for name in HEADS] != channels:
        sys.exit(f"{args.heads} holds the heads of another network than {args.trunk}")
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.float().contiguous() for k, v in (trunk | heads).items()}
    save_file(tensors, args.out / "model.safetensors")
    config = {
        "architectures": ["LPIPS"],
        "backbone": backbone,
        "version": "0.1",
        "channels": channels,
        "trunk": {"file": args.trunk.name, "sha256": sha256(args.trunk)},
        "heads": {"file": args.heads.name, "sha256": sha256(args.heads)},
    }
    text = json.dumps(config, indent=2) + "\n"
    (args.out / "config.json").write_text(text, encoding="utf-8")
    print(f"{args.out}: LPIPS 0.1 over {backbone}, {len(tensors)} tensors")


def layers(backbone: str) -> set[str]:
    """The tensors of a trunk in torchvision's file."""
    convs = [c for stage in TRUNKS[backbone].stages for c in stage]
    return {f"features.{c.index}.{part}" for c in convs for part in ("weight", "bias")}


def opened(file: Path) -> dict[str, Any]:
    """The tensors of a .pth file."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # torch's reasons are many
        sys.exit(f"{file} cannot be read: {type(e).__name__}: {e}".splitlines()[0])
    if not isinstance(found, dict):
        sys.exit(f"{file} does not hold tensors by name")
    return found


def sha256(file: Path) -> str:
    """Of all its bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
