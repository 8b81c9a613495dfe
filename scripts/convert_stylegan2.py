"""Turn a published StyleGAN2-ADA pickle into what ports/stylegan2.py loads.

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch
    python scripts/convert_stylegan2.py --code stylegan2-ada-pytorch \\
        --pickle ffhq.pkl --out stylegan2-ffhq

Once, where torch and what the official code imports are installed. Such a pickle holds
code that runs when it is opened, so give this only a file that you trust: ``une_jax``
and ``ports`` never open one. Of the pickle it takes ``G_ema``, an unconditional
generator of the skip architecture. Writes ``model.safetensors`` under the official
names and ``config.json``, with the source's sha256. The weights' licence stays theirs.
"""

import hashlib
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ports.checkpoint import CheckpointError  # noqa: E402
from ports.load import read_config  # noqa: E402
from ports.stylegan2 import Config  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert a StyleGAN2-ADA generator."""

    pickle: Path
    """the official pickle, e.g. ffhq.pkl: opening it runs the code in it"""
    code: Path
    """a checkout of NVlabs/stylegan2-ada-pytorch, which the pickle needs"""
    out: Path
    """folder to make"""


def main(args: Args) -> None:
    if not (args.code / "torch_utils" / "persistence.py").is_file():
        sys.exit(f"{args.code} is not a checkout of NVlabs/stylegan2-ada-pytorch")
    sys.path.insert(0, str(args.code))
    try:
        with args.pickle.open("rb") as file:
            generator = pickle.load(file)["G_ema"]
    except Exception as e:  # a pickle's reasons are many
        sys.exit(f"{args.pickle}: {type(e).__name__}: {e}".splitlines()[0])
    source = hashlib.sha256(args.pickle.read_bytes()).hexdigest()
    write(generator, args.out, {"file": args.pickle.name, "sha256": source})


def write(generator: Any, folder: Path, source: dict[str, str]) -> None:
    """A generator of the official class, as the port loads it."""
    config = config_of(generator) | {"source": source}
    try:
        read_config(Config, config)
    except CheckpointError as e:
        sys.exit(str(e).replace("config.json", "the generator"))
    tensors = {
        name: tensor.float().contiguous()
        for name, tensor in generator.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    text = json.dumps(config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    edge = config["img_resolution"]
    print(f"{folder}: StyleGAN2, {edge}x{edge} pixels, {len(tensors)} tensors")


def config_of(g: Any) -> dict[str, Any]:
    """The keys of config.json, read off the modules: options that a pickle leaves to
    its own defaults count too."""
    mapping, synthesis = g.mapping, g.synthesis
    edge = int(g.img_resolution)
    first, last = synthesis.b4, getattr(synthesis, f"b{edge}")
    widths = {r: len(getattr(synthesis, f"b{r}").conv1.weight) for r in edges(edge)}
    most = max(widths.values())
    # The least base under which no block is narrower than it is.
    base = max(r * n for r, n in widths.items())
    for r, n in widths.items():
        if min(base // r, most) != n:
            sys.exit(f"no channel_base and channel_max give {n} channels at {r} pixels")
    fc0 = mapping.fc0
    features = len(fc0.weight)
    return {
        "_class_name": "StyleGAN2",
        "z_dim": int(g.z_dim),
        "c_dim": int(g.c_dim),
        "w_dim": int(g.w_dim),
        "img_resolution": edge,
        "img_channels": int(g.img_channels),
        "mapping_layers": int(mapping.num_layers),
        "mapping_features": features if mapping.num_layers > 1 else None,
        "mapping_lr_multiplier": float(fc0.bias_gain),
        "channel_base": base,
        "channel_max": most,
        "architecture": last.architecture,
        "activation": first.conv1.activation,
        "resample_filter": taps(last.resample_filter),
        "conv_clamp": first.conv1.conv_clamp,
        "use_noise": bool(first.conv1.use_noise),
    }


def edges(resolution: int) -> list[int]:
    """4, 8, ... resolution."""
    return [2**i for i in range(2, resolution.bit_length())]


def taps(kernel: torch.Tensor) -> list[int]:
    """[1, 3, 3, 1] of its normalised outer product."""
    row = kernel.sum(0) if kernel.ndim == 2 else kernel
    row = row / row[0]
    whole = row.round()
    if not torch.allclose(row, whole, atol=1e-4):
        sys.exit(f"the low-pass filter {row.tolist()} is not of whole numbers")
    return [int(x) for x in whole]


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
