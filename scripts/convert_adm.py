"""Turn a checkpoint of guided-diffusion or improved-diffusion, which is a pickle, into the
pipeline that ports/ddpm.py loads, and diffusers as well.

    python scripts/convert_adm.py --checkpoint 256x256_diffusion_uncond.pt --size 256 \\
        --head-channels 64 --out adm-imagenet256

Once, where torch is installed: ``une_jax`` and ``ports`` never open a pickle; torch opens
it with ``weights_only``. Its shapes say all of the configuration but the images' size, the
heads of the attention and the noise schedule. Models that were trained on other than 1000
timesteps, and those whose number of heads makes heads of several widths, are none that
diffusers' UNet2DModel can be. Writes ``unet/``, ``scheduler/`` and ``model_index.json``,
with the source's sha256.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ports import ddpm  # noqa: E402
from ports.checkpoint import CheckpointError  # noqa: E402
from scripts.convert_lpips import opened, sha256  # noqa: E402

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
REST = {"norm": "group_norm", "proj_out": "to_out.0", "op": "conv", "conv": "conv"}
GROUPS = 32


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert the weights of an ADM or an improved DDPM."""

    checkpoint: Path
    """the file of its weights (.pt), best their moving average"""
    out: Path
    """folder to make"""
    size: int
    """edge of the images (--image_size)"""
    head_channels: int | None = None
    """channels of a head of the attention (--num_head_channels), or"""
    heads: int | None = None
    """their number (--num_heads)"""
    attention_order: Literal["legacy", "new"] = "legacy"
    """new: --use_new_attention_order True"""
    noise: Literal["linear", "cosine"] = "linear"
    """its schedule (--noise_schedule)"""


def main(args: Args) -> None:
    if (args.heads is None) == (args.head_channels is None):
        sys.exit("give --head-channels or --heads, as the model was trained")
    found = opened(args.checkpoint)
    tensors = {k.removeprefix("module."): v for k, v in found.items()}
    try:
        config = config_of(tensors, args)
        renamed = converted(tensors, config, args.attention_order)
    except CheckpointError as e:
        sys.exit(f"{args.checkpoint}: {e}")
    except (KeyError, ValueError, AttributeError, IndexError, TypeError, RuntimeError):
        sys.exit(f"{args.checkpoint} does not hold a UNet of guided-diffusion")
    unet = args.out / "unet"
    unet.mkdir(parents=True, exist_ok=True)
    save_file(renamed, unet / "diffusion_pytorch_model.safetensors")
    raw = {"_class_name": "UNet2DModel", **dataclasses.asdict(config)}
    raw["source"] = {"file": args.checkpoint.name, "sha256": sha256(args.checkpoint)}
    write(unet / "config.json", raw)
    write(args.out / "scheduler" / "scheduler_config.json", scheduler_of(config, args))
    parts = {"scheduler": "DDPMScheduler", "unet": "UNet2DModel"}
    index = {name: ["diffusers", kind] for name, kind in parts.items()}
    write(args.out / "model_index.json", {"_class_name": "DDPMPipeline", **index})
    try:
        ddpm.load_pipeline(str(args.out))
    except CheckpointError as e:
        sys.exit(str(e))
    print(f"{args.out}: {config}")


def config_of(tensors: dict[str, Any], args: Args) -> ddpm.Config:
    """What the tensors' names and shapes say, and the arguments."""
    n = 1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("output_blocks."))
    ends = [k for k in range(n) if _resampler(tensors, k)]
    layers = ends[0] + 1 if ends else n
    firsts = range(0, n, layers)
    attends = [f"output_blocks.{k}.1.norm.weight" in tensors for k in firsts]
    widths = [len(tensors[f"output_blocks.{k}.0.out_layers.3.weight"]) for k in firsts]
    by_resnet = bool(ends) and _resampler(tensors, ends[0]) == "resnet"
    asked = {w for w, has in zip(widths, attends, strict=True) if has} | {widths[0]}
    heads = {args.head_channels or w // (args.heads or 1) for w in asked}
    if len(heads) > 1:
        raise CheckpointError(
            f"{args.heads} heads are of {' and '.join(map(str, sorted(heads)))} channels: "
            "a UNet2DModel's are of one width"
        )
    first, time = widths[-1], tensors["time_embed.0.weight"].shape
    if tuple(time) != (4 * first, first):
        raise CheckpointError(
            f"time is embedded in {time[1]} channels and the first level has {first}: a "
            "UNet2DModel has as many (ADM for 512 pixels is none)"
        )
    embedding = tensors["middle_block.0.emb_layers.1.weight"]
    labels = tensors.get("label_emb.weight")

    def kinds(attention: str, resnet: str, plain: str) -> tuple[str, ...]:
        other = resnet if by_resnet else plain
        return tuple(attention if has else other for has in attends)

    return ddpm.Config(
        sample_size=args.size,
        out_channels=len(tensors["out.2.weight"]),
        down_block_types=kinds(ddpm.ATTN_DOWN, ddpm.RESNET_DOWN, "DownBlock2D")[::-1],
        up_block_types=kinds(ddpm.ATTN_UP, ddpm.RESNET_UP, "UpBlock2D"),
        block_out_channels=tuple(widths[::-1]),
        layers_per_block=layers - 1,
        downsample_type="resnet" if by_resnet else "conv",
        upsample_type="resnet" if by_resnet else "conv",
        attention_head_dim=heads.pop(),
        norm_num_groups=GROUPS,
        attn_norm_num_groups=GROUPS,
        resnet_time_scale_shift="scale_shift"
        if len(embedding) == 2 * widths[0]
        else "default",
        num_class_embeds=None if labels is None else len(labels),
    )


def _resampler(tensors: dict[str, Any], block: int) -> str | None:
    """By what an output block ends in twice the pixels, if it does."""
    for place in (1, 2):
        if f"output_blocks.{block}.{place}.in_layers.0.weight" in tensors:
            return "resnet"
        if f"output_blocks.{block}.{place}.conv.weight" in tensors:
            return "conv"
    return None


def converted(
    tensors: dict[str, Any], config: ddpm.Config, order: str
) -> dict[str, Any]:
    """The tensors under diffusers' names; those that have none there keep their own."""
    places, out = dict(places_of(config)), {}
    for name, tensor in tensors.items():
        value = tensor.float()
        module, _, leaf = name.rpartition(".")
        if module in places:
            out[f"{places[module]}.{leaf}"] = value
            continue
        parts = module.split(".")
        there = ".".join(parts[: 2 if parts[0] == "middle_block" else 3])
        inner = module[len(there) + 1 :]
        to = places.get(there)
        if to is not None and inner == "qkv":
            split = heads_apart(value, config.attention_head_dim or 1, order)
            for letter, part in zip("qkv", split, strict=True):
                out[f"{to}.to_{letter}.{leaf}"] = part
        elif to is not None and (own := (RESNET | REST).get(inner)):
            flat = value[..., 0] if inner == "proj_out" and value.ndim == 3 else value
            out[f"{to}.{own}.{leaf}"] = flat
        else:
            out[name] = value
    return {name: value.contiguous() for name, value in out.items()}


def places_of(config: ddpm.Config) -> Iterator[tuple[str, str]]:
    """Where each module of guided-diffusion is in diffusers."""
    yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))  # fmt: skip
    yield from (("label_emb", "class_embedding"), ("input_blocks.0.0", "conv_in"))
    yield from (("out.0", "conv_norm_out"), ("out.2", "conv_out"))
    middle = ("resnets.0", "attentions.0", "resnets.1")
    yield from ((f"middle_block.{i}", f"mid_block.{to}") for i, to in enumerate(middle))
    last, layers = len(config.block_out_channels) - 1, config.layers_per_block
    k = 1
    for i in range(last + 1):
        for j in range(layers):
            yield f"input_blocks.{k}.0", f"down_blocks.{i}.resnets.{j}"
            yield f"input_blocks.{k}.1", f"down_blocks.{i}.attentions.{j}"
            k += 1
        if i < last:
            yield f"input_blocks.{k}.0", f"down_blocks.{i}.downsamplers.0"
            k += 1
    for i, kind in enumerate(config.up_block_types):
        for j in range(layers + 1):
            here = f"output_blocks.{i * (layers + 1) + j}"
            yield f"{here}.0", f"up_blocks.{i}.resnets.{j}"
            attends = kind == ddpm.ATTN_UP
            if attends:
                yield f"{here}.1", f"up_blocks.{i}.attentions.{j}"
            if i < last and j == layers:
                yield f"{here}.{1 + attends}", f"up_blocks.{i}.upsamplers.0"


def heads_apart(qkv: Any, d: int, order: str) -> list[Any]:
    """Queries, keys and values; the legacy order has them head by head."""
    n = len(qkv) // 3
    flat = qkv[..., 0] if qkv.ndim == 3 else qkv
    if order == "new":
        return list(flat.chunk(3))
    by_head = flat.reshape(n // d, 3, d, *flat.shape[1:])
    return [by_head[:, i].reshape(n, *flat.shape[1:]) for i in range(3)]


def scheduler_of(config: ddpm.Config, args: Args) -> dict[str, Any]:
    """The noise that it was trained on; a learned variance lies between two bounds."""
    learned = config.out_channels > config.in_channels
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear" if args.noise == "linear" else "squaredcos_cap_v2",
        "variance_type": "learned_range" if learned else "fixed_large",
        "prediction_type": "epsilon",
    }


def write(file: Path, raw: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
