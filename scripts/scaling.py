"""What a NoiseZoo of the paper's eight views costs: FLOPs, hours, bytes; prints Markdown.

    python scripts/scaling.py

FLOPs are counted from our own networks at the published sizes, nothing is run. Device
hours are FLOPs over (peak rate x ``--utilisation``): the peaks are the vendors' dense
bfloat16 figures, the utilisation is an assumption until a table in the README measures
it. docs/scaling.md holds the output and says what follows.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ports import clip, dinov3, unet, vae  # noqa: E402
from ports.conditioning import Condition  # noqa: E402
from ports.port import define  # noqa: E402
from une_jax import flops  # noqa: E402
from une_jax.cli.plan import amount, size  # noqa: E402

LATENT, EDGE, TOKENS = 64, 512, 77


class Device(NamedTuple):
    """A device's dense bfloat16 FLOP/s, by its vendor."""

    name: str
    peak: float


DEVICES = (
    Device("H100 SXM", 989e12),
    Device("H200 SXM", 989e12),
    Device("TPU v5e", 197e12),
    Device("TPU v6e", 918e12),
)


@dataclass(frozen=True, kw_only=True)
class Args:
    """Count, multiply, print."""

    utilisation: float = 0.45
    """of the peak rate"""
    image_bytes: float = 100e3
    """of an image file: a 512-pixel JPEG"""
    rows_bytes: float = 300.0
    """of an image's row: key, hashes, 40 attributes, residuals"""
    images: tuple[float, ...] = (20e3, 1e6, 1e9)
    """zoo sizes"""
    steps: int = 50
    """of the two Stable Diffusions"""
    lcm_steps: int = 150
    """of the consistency model, as the paper has it"""


def shape(*axes: int, dtype: Any = jnp.float32) -> Any:
    """An array that need not exist."""
    return jax.ShapeDtypeStruct(axes, dtype)


def one_call(network: Any, config: Any, *inputs: Any, method: str = "__call__") -> int:
    """FLOPs of one image through a network."""
    params, apply = define(network, config)
    return flops.count(lambda p, *x: apply(p, *x, method=method), params, *inputs)


def unet_call(made: unet.Config) -> int:
    """FLOPs of a UNet at 64x64 latents."""
    x, t = shape(1, LATENT, LATENT, 4), shape(1, dtype=jnp.int32)
    cond: Any = shape(1, TOKENS, made.cross_attention_dim)
    if made.time_cond_proj_dim:
        cond = Condition(cond, shape(1))
    return one_call(unet.UNet, made, x, t, cond)


def vision(width: int, out: int, layers: int, heads: int, patch: int) -> int:
    """FLOPs of a CLIP image tower at 224 pixels."""
    tower = clip.VisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        patch_size=patch,
        projection_dim=out,
    )
    made = clip.Config(vision=tower, visual_projection=out)
    pixels = shape(1, 224, 224, 3)
    return one_call(clip.Clip, made, pixels, method="encode_image")


def stages(args: Args) -> dict[str, float]:
    """FLOPs per image of everything a build does."""
    levels = (128, 256, 512, 512)
    kl = vae.Config(
        block_out_channels=levels,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    pixels = shape(1, EDGE, EDGE, 3)
    sd15 = unet.Config(cross_attention_dim=768)
    sd21 = unet.Config(
        cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20),
        use_linear_projection=True,
    )
    lcm7 = unet.Config(cross_attention_dim=768, time_cond_proj_dim=256)
    large = dinov3.Config(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_register_tokens=4,
    )
    dino = one_call(dinov3.DinoV3, large, shape(1, 224, 224, 3), method="encode_image")
    b16, l14 = vision(768, 512, 12, 12, 16), vision(1024, 768, 24, 16, 14)
    return {
        "VAE encoder, three times": 3.0
        * one_call(vae.AutoencoderKL, kl, pixels, method="encode"),
        f"sd15, {args.steps - 1} calls": (args.steps - 1.0) * unet_call(sd15),
        f"sd21, {args.steps - 1} calls": (args.steps - 1.0) * unet_call(sd21),
        f"lcm7, {args.lcm_steps - 1} calls": (args.lcm_steps - 1.0) * unet_call(lcm7),
        "CLIP and OpenCLIP, B/16 and L/14": 2.0 * (b16 + l14),
        "DINOv3 L/16": float(dino),
    }


def main(args: Args) -> None:
    """Prints both tables."""
    parts = stages(args)
    total = sum(parts.values())
    print("| stage | FLOP per image | share |\n|---|---:|---:|")
    for name, count in parts.items():
        print(f"| {name} | {amount(count)} | {count / total:.2%} |")
    print(f"| all | {amount(total)} | |")

    widths = (512, 768, 512, 768, 1024)
    stored = 2 * (3 * 4 * LATENT**2 + sum(widths)) + args.rows_bytes
    heads = " | ".join(f"{d.name}, device-hours" for d in DEVICES)
    print(
        f"\nAt {args.utilisation:.0%} of the peak; a row is {size(stored)} in float16, "
        f"an image file {size(args.image_bytes)}.\n\n"
        f"| images | {heads} | zoo | images to read |\n|---:|{'---:|' * (len(DEVICES) + 2)}"
    )
    for n in args.images:
        hours = (n * total / (d.peak * args.utilisation) / 3600 for d in DEVICES)
        cells = " | ".join(f"{h:,.3g}" if h < 1000 else f"{h:,.0f}" for h in hours)
        print(f"| {n:,.0f} | {cells} | {size(n * stored)} | {size(n * args.image_bytes)} |")  # fmt: skip
    print("\n| device | images/s | reads | writes |\n|---|---:|---:|---:|")
    for device in DEVICES:
        rate = device.peak * args.utilisation / total
        print(
            f"| {device.name} | {rate:.2g} | {size(rate * args.image_bytes)}/s "
            f"| {size(rate * stored)}/s |"
        )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
