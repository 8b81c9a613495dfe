"""Write the goldens: tiny checkpoints and what torch computes with them.

    python scripts/make_goldens.py [CASE ...]

Each folder of ``tests/ports/goldens`` holds a checkpoint as diffusers or transformers
publish it, and ``golden.npz`` with inputs and outputs (images and latents as NHWC).
Weights are random and rounded to float16, as they are stored, before torch computes
with them in float32. Rerun only when a golden must change: torch's rounding differs a
little between machines. Needs the ``test`` extra; the tests that read them do not.
The golden of open_clip is left as it is where ``open_clip_torch`` is not installed.
"""

import functools as ft
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    LatentConsistencyModelPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTModel,
)
from transformers.core_model_loading import revert_weight_conversion

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import golden_gans, golden_generators  # noqa: E402
from scripts.golden_arrays import Golden, nchw, nhwc, normal  # noqa: E402
from scripts.reference_lpips import Lpips  # noqa: E402

OUT = ROOT / "tests" / "ports" / "goldens"
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"
OPEN_CLIP = "open_clip_model.safetensors"
CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
# How files from before diffusers 0.15 name the attention of the VAE.
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

Example = Callable[[Any, np.random.Generator], Golden]


def scattered(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter moved off its initial value, then rounded to float16.

    Norms start at weight one and bias zero, where a mistake would not show.
    """
    by = getattr(model, "scatter", 0.1)  # where 0.1 breaks it
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_((p + by * noise).half().float())
    return model.eval()


def write(
    case: str, file: str, model: Any, example: Example, rename: dict[str, str]
) -> None:
    """One folder: config.json, float16 weights, inputs and outputs."""
    folder = OUT / case
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    weights = scattered(model, seed=0).state_dict()
    if case.startswith("dino"):  # whose published names transformers 5 left
        weights = revert_weight_conversion(model, weights)
    if case.startswith("lpips"):
        weights = model.tensors()
    for name, tensor in weights.items():
        for new, old in rename.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        # Conversions of the original files keep 1x1 convolutions there.
        conv = rename and "attentions.0" in name and tensor.ndim == 2
        tensor = tensor[:, :, None, None] if conv else tensor
        tensors[name] = tensor.half().contiguous()
    save_file(tensors, folder / file)
    model.save_config(folder) if file == DIFFUSERS else _config(model, file, folder)
    with torch.no_grad():
        golden = example(model, np.random.default_rng(1))
    np.savez_compressed(folder / "golden.npz", **golden)


def _config(model: Any, file: str, folder: Path) -> None:
    if file == OPEN_CLIP:
        name, raw = "open_clip_config.json", {"model_cfg": MODEL_CFG}
    elif isinstance(model, Lpips):
        name, raw = "config.json", {"backbone": model.backbone, "version": "0.1"}
        raw |= {"architectures": ["LPIPS"], "channels": list(model.channels)}
    elif callable(model.config):
        name, raw = "config.json", model.config()
    else:
        name, raw = "config.json", model.config.to_diff_dict()
        raw |= {"architectures": [type(model).__name__]}
    text = json.dumps(raw, indent=2, sort_keys=True) + "\n"
    (folder / name).write_text(text, encoding="utf-8")


def unet_example(model: Any, rng: np.random.Generator, *, prompts: int = 2) -> Golden:
    """Noise prediction on odd latents at two timesteps; one prompt serves both."""
    x = normal(rng, 2, 7, 9, model.config["in_channels"])
    t = np.array([1, 901], np.int32)
    context = normal(rng, prompts, 5, model.config["cross_attention_dim"])
    states = torch.from_numpy(context).expand(2, -1, -1)
    told: Golden = {}
    extra: dict[str, Any] = {}
    if d := model.config["time_cond_proj_dim"]:
        told = {"guidance_scale": np.array([1.0, 3.5], np.float32)}
        embed: Any = LatentConsistencyModelPipeline.get_guidance_scale_embedding
        w = torch.from_numpy(told["guidance_scale"]) - 1
        extra["timestep_cond"] = embed(None, w, embedding_dim=d)
    if d := model.config["projection_class_embeddings_input_dim"]:
        sizes = 8.0 * rng.integers(8, 128, (2, 6)).astype(np.float32)
        d_pooled = d - 6 * model.config["addition_time_embed_dim"]
        told = {"pooled": normal(rng, 2, d_pooled), "time_ids": sizes}
        names = {"text_embeds": "pooled", "time_ids": "time_ids"}
        added = {k: torch.from_numpy(told[v]) for k, v in names.items()}
        extra["added_cond_kwargs"] = added
    eps = model(nchw(x), torch.from_numpy(t), states, **extra).sample
    return {"x": x, "t": t, "context": context, "eps": nhwc(eps), **told}


def vae_example(model: Any, rng: np.random.Generator) -> Golden:
    """Posterior of odd images, and a decoded latent."""
    images, latents = normal(rng, 2, 14, 18, 3), normal(rng, 2, 5, 3, 4)
    posterior = model.encode(nchw(images)).latent_dist
    return {
        "images": images,
        "mean": nhwc(posterior.mean),
        "logvar": nhwc(posterior.logvar),
        "latents": latents,
        "decoded": nhwc(model.decode(nchw(latents)).sample),
    }


def ids_example(rng: np.random.Generator) -> np.ndarray:
    """Three captions of a 54-word vocabulary; 52 starts, 53 ends and pads."""
    ids = rng.integers(0, 52, (3, 8)).astype(np.int32)
    ids[:, 0] = 52
    for row, length in zip(ids, (2, 5, 7), strict=True):
        row[length:] = 53
    return ids


def clip_example(model: Any, rng: np.random.Generator) -> Golden:
    """Projected features of both towers, and the text tower's states."""
    ids, pixels = ids_example(rng), normal(rng, 2, 14, 14, 3)
    tokens = torch.from_numpy(ids).long()
    output = model.text_model(tokens)
    return {
        "ids": ids,
        "pixels": pixels,
        "hidden": output.last_hidden_state.numpy(),
        "text": model.text_projection(output.pooler_output).numpy(),
        "image": model.visual_projection(
            model.vision_model(nchw(pixels)).pooler_output
        ).numpy(),
    }


def open_clip_example(model: Any, rng: np.random.Generator) -> Golden:
    """Projected features of both towers."""
    ids, pixels = ids_example(rng), normal(rng, 2, 14, 14, 3)
    return {
        "ids": ids,
        "pixels": pixels,
        "text": model.encode_text(torch.from_numpy(ids).long()).numpy(),
        "image": model.encode_image(nchw(pixels)).numpy(),
    }


def text_example(model: Any, rng: np.random.Generator) -> Golden:
    """The states that condition a UNet."""
    ids = ids_example(rng)
    hidden = model(torch.from_numpy(ids).long()).last_hidden_state
    return {"ids": ids, "hidden": hidden.numpy()}


def dino_example(model: Any, rng: np.random.Generator) -> Golden:
    """All tokens, of images of the stored positions' size and of a rectangle."""
    # Other models resample positions unasked.
    asked = {"interpolate_pos_encoding": True} if isinstance(model, ViTModel) else {}
    golden = {}
    for shape, size in (("square", (16, 16)), ("rectangle", (8, 20))):
        pixels = normal(rng, 2, *size, 3)
        tokens = model(nchw(pixels), **asked).last_hidden_state
        golden |= {f"{shape}_pixels": pixels, f"{shape}_tokens": tokens.numpy()}
    return golden


def lpips_example(model: Any, rng: np.random.Generator) -> Golden:
    """Images that differ everywhere, a little, and not at all; and the features."""
    a, b = rng.uniform(-1, 1, (2, 3, 35, 47, 3)).astype(np.float32)
    b[1] = 0.9 * a[1] + 0.1 * b[1]
    b[2] = a[2]
    stages = {f"stage_{i}": nhwc(x) for i, x in enumerate(model.stages(nchw(a)))}
    return {"a": a, "b": b, "distance": model(nchw(a), nchw(b)).numpy(), **stages}


UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
}


SD1 = UNET | {
    "block_out_channels": (8, 16),
    "down_block_types": (CROSS[0], "DownBlock2D"),
    "up_block_types": ("UpBlock2D", CROSS[1]),
    "attention_head_dim": 2,
}


def unet_sd1() -> Any:
    """Convolutional projections, as many heads everywhere."""
    return UNet2DConditionModel.from_config(SD1)


def unet_sd2() -> Any:
    """Linear projections, heads by level."""
    return UNet2DConditionModel.from_config(
        UNET
        | {
            "block_out_channels": (8, 12, 16),
            "down_block_types": (CROSS[0], CROSS[0], "DownBlock2D"),
            "up_block_types": ("UpBlock2D", CROSS[1], CROSS[1]),
            "attention_head_dim": (1, 3, 4),
            "use_linear_projection": True,
        }
    )


def unet_lcm() -> Any:
    """Stable Diffusion 1 with a guidance embedding."""
    return UNet2DConditionModel.from_config(SD1 | {"time_cond_proj_dim": 10})


def unet_xl() -> Any:
    """Text at the bottom only, deeper there; sizes and a pooled feature."""
    return UNet2DConditionModel.from_config(
        UNET
        | {
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", CROSS[0]),
            "up_block_types": (CROSS[1], "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 6,
            "projection_class_embeddings_input_dim": 6 * 6 + 10,
        }
    )


def vae() -> Any:
    """Two levels, attention in the middle, both 1x1 convolutions."""
    return AutoencoderKL.from_config(
        {
            "sample_size": 16,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "norm_num_groups": 4,
        }
    )


TEXT = {
    "vocab_size": 54,
    "hidden_size": 12,
    "intermediate_size": 20,
    "projection_dim": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 8,
    "bos_token_id": 52,
    "eos_token_id": 53,
    "pad_token_id": 53,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "projection_dim": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 14,
    "patch_size": 4,
}


def clip() -> Any:
    """Both towers; an image that is no multiple of the patch."""
    return CLIPModel(
        CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=10)
    )


def clip_text() -> Any:
    """A pipeline's text encoder."""
    return CLIPTextModel(CLIPTextConfig.from_dict(TEXT))


MODEL_CFG = {
    "embed_dim": 10,
    "vision_cfg": {
        "image_size": 14,
        "layers": 2,
        "width": 24,
        "head_width": 8,
        "patch_size": 4,
        "mlp_ratio": 1.7,
    },
    "text_cfg": {
        "context_length": 8,
        "vocab_size": 54,
        "width": 12,
        "heads": 3,
        "layers": 2,
    },
}


def open_clip() -> Any:
    """open_clip's own network: exact GELU, an MLP of no whole ratio."""
    return importlib.import_module("open_clip.model").CLIP(**MODEL_CFG)


VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def dino() -> Any:
    """Learned positions, and no pooler, as published."""
    config = ViTConfig.from_dict(VIT | {"intermediate_size": 40})
    return ViTModel(config, add_pooling_layer=False)


def dinov2() -> Any:
    """Scaled residuals."""
    return Dinov2Model(Dinov2Config.from_dict(VIT | {"mlp_ratio": 2}))


def dinov2_registers() -> Any:
    """Registers, and the giant's SwiGLU: gate and values in one matrix."""
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig.from_dict(VIT | {"use_swiglu_ffn": True})
    )


def dinov3() -> Any:
    """Registers, rotary positions, gated MLPs, keys without a bias."""
    return DINOv3ViTModel(
        DINOv3ViTConfig.from_dict(
            VIT
            | {
                "intermediate_size": 40,
                "use_gated_mlp": True,
                "hidden_act": "silu",
                "num_register_tokens": 4,
            }
        )
    )


def lpips_alex() -> Any:
    """AlexNet's strides and pools."""
    return Lpips("alex", (6, 8, 10, 8, 4)).spread()


def lpips_vgg() -> Any:
    """VGG16's thirteen convolutions."""
    return Lpips("vgg", (4, 6, 8, 8, 4)).spread()


def main(wanted: Sequence[str]) -> None:
    """Write these goldens, or all."""
    for case, file, model, example, rename in (
        ("unet_sd1", DIFFUSERS, unet_sd1, unet_example, {}),
        ("unet_sd2", DIFFUSERS, unet_sd2, ft.partial(unet_example, prompts=1), {}),
        ("unet_lcm", DIFFUSERS, unet_lcm, unet_example, {}),
        ("unet_xl", DIFFUSERS, unet_xl, unet_example, {}),
        ("vae", DIFFUSERS, vae, vae_example, {}),
        ("vae_old", DIFFUSERS, vae, vae_example, OLD),
        *((*case, {}) for case in golden_generators.CASES),
        *((*case, {}) for case in golden_gans.CASES),
        ("clip", TRANSFORMERS, clip, clip_example, {}),
        ("clip_text", TRANSFORMERS, clip_text, text_example, {}),
        ("open_clip", OPEN_CLIP, open_clip, open_clip_example, {}),
        ("dino", TRANSFORMERS, dino, dino_example, {}),
        ("dinov2", TRANSFORMERS, dinov2, dino_example, {}),
        ("dinov2_registers", TRANSFORMERS, dinov2_registers, dino_example, {}),
        ("dinov3", TRANSFORMERS, dinov3, dino_example, {}),
        ("lpips_alex", TRANSFORMERS, lpips_alex, lpips_example, {}),
        ("lpips_vgg", TRANSFORMERS, lpips_vgg, lpips_example, {}),
    ):
        if wanted and case not in wanted:
            continue
        if file == OPEN_CLIP and not importlib.util.find_spec("open_clip"):
            continue
        torch.manual_seed(0)
        write(case, file, model(), example, rename)


if __name__ == "__main__":
    main(sys.argv[1:])
