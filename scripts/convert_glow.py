"""Turn a checkpoint of glow-pytorch, which is a pickle, into what ports/glow.py loads.

    python scripts/convert_glow.py --checkpoint model_200001.pt --size 64 --out glow-celeba64

Once, where torch is installed: ``une_jax`` and ``ports`` never open a pickle. The file
is what rosinality/glow-pytorch's train.py saves, and torch opens it with
``weights_only``. Its shapes say all of the configuration but the images' size and bits.
Writes ``model.safetensors`` and ``config.json``, with the source's sha256.
"""

import dataclasses
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ports import glow  # noqa: E402
from ports.checkpoint import CheckpointError  # noqa: E402
from scripts.convert_lpips import opened, sha256  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert the weights of a Glow."""

    checkpoint: Path
    """what train.py saved (model_*.pt)"""
    out: Path
    """folder to make"""
    size: int = 64
    """edge of the images (train.py's --img_size)"""
    n_bits: int = 5
    """bits of their values (train.py's --n_bits)"""


def main(args: Args) -> None:
    found = opened(args.checkpoint)
    tensors = {k.removeprefix("module."): v for k, v in found.items()}
    try:
        config = config_of(tensors, args.size, args.n_bits)
    except CheckpointError as e:
        sys.exit(f"{args.checkpoint}: {e}")
    except (KeyError, ValueError, AttributeError, IndexError, TypeError):
        sys.exit(f"{args.checkpoint} does not hold a Glow of glow-pytorch")
    if any(k.endswith(".initialized") and not v for k, v in tensors.items()):
        sys.exit(f"{args.checkpoint} holds a Glow that has not seen an image yet")
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, args.out / "model.safetensors"
    )
    raw = {"_class_name": "Glow", **dataclasses.asdict(config)}
    raw["source"] = {"file": args.checkpoint.name, "sha256": sha256(args.checkpoint)}
    text = json.dumps(raw, indent=2) + "\n"
    (args.out / "config.json").write_text(text, encoding="utf-8")
    try:
        glow.load(str(args.out))
    except CheckpointError as e:
        sys.exit(str(e))
    print(f"{args.out}: {config}")


def config_of(tensors: dict[str, Any], size: int, n_bits: int) -> glow.Config:
    """What the tensors' names and shapes say."""
    flow, coupling = "blocks.0.flows.0", "blocks.0.flows.0.coupling.net"
    n = tensors[f"{flow}.actnorm.loc"].shape[1]
    return glow.Config(
        in_channels=n // 4,
        n_flow=_count(tensors, r"blocks\.0\.flows\.(\d+)\..*"),
        n_block=_count(tensors, r"blocks\.(\d+)\..*"),
        affine=tensors[f"{coupling}.4.conv.weight"].shape[0] == n,
        conv_lu=f"{flow}.invconv.w_l" in tensors,
        hidden=tensors[f"{coupling}.0.weight"].shape[0],
        size=size,
        n_bits=n_bits,
    )


def _count(tensors: dict[str, Any], pattern: str) -> int:
    """How many there are of what a pattern numbers."""
    matches = (re.fullmatch(pattern, name) for name in tensors)
    return 1 + max(int(m[1]) for m in matches if m)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
