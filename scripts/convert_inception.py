"""Turn pytorch-fid's public weights, which are a pickle, into what ports/inception.py loads.

    curl -LO https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/\\
pt_inception-2015-12-05-6726825d.pth
    python scripts/convert_inception.py --weights pt_inception-2015-12-05-6726825d.pth \\
        --out inception-fid

Once, where torch is installed: ``une_jax`` and ``ports`` never open a pickle. torch
opens the file with ``weights_only``; neither torchvision nor pytorch-fid need to be
installed. Writes ``model.safetensors`` (87 MB; the classifier is left out) and
``config.json`` with the source's sha256.
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

DIVISORS = {32: 1, 16: 2, 8: 4, 4: 8, 2: 16}  # by the first layer's channels
FIRST = "Conv2d_1a_3x3.conv.weight"
LEFT_OUT = ("fc.", "AuxLogits.")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert the weights of FID's InceptionV3."""

    weights: Path
    """pt_inception-2015-12-05-6726825d.pth, of pytorch-fid"""
    out: Path
    """folder to make"""


def main(args: Args) -> None:
    found = opened(args.weights)
    first = found.get(FIRST)
    last = found.get("Mixed_7c.branch3x3dbl_3b.conv.weight")
    if first is None or last is None or len(first) not in DIVISORS:
        sys.exit(f"{args.weights} does not hold FID's InceptionV3")
    # Torchvision's own weights have the same names; FID's classify 1,008 classes.
    if "fc.bias" in found and len(found["fc.bias"]) != 1008:
        sys.exit(
            f"{args.weights} is an InceptionV3 of {len(found['fc.bias'])} classes: FID's "
            "has 1008"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.float().contiguous()
        for name, tensor in found.items()
        if not name.startswith(LEFT_OUT) and tensor.ndim
    }
    save_file(tensors, args.out / "model.safetensors")
    config = {
        "_class_name": "FIDInceptionV3",
        "divisor": DIVISORS[len(first)],
        "weights": {"file": args.weights.name, "sha256": sha256(args.weights)},
    }
    text = json.dumps(config, indent=2) + "\n"
    (args.out / "config.json").write_text(text, encoding="utf-8")
    print(f"{args.out}: FID's InceptionV3, {len(tensors)} tensors")


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
