"""Write the goldens: tiny checkpoints and what torch computes with them.

    python scripts/make_goldens.py

Each folder of ``tests/ports/goldens`` holds a checkpoint as diffusers or transformers
publish it, and ``golden.npz`` with inputs and outputs (images and latents as NHWC).
Weights are random and rounded to float16, as they are stored, before torch computes
with them in float32. Rerun only when a golden must change: torch's rounding differs a
little between machines. Needs the ``test`` extra; the tests that read them do not.
"""

import functools as ft
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

OUT = Path(__file__).resolve().parent.parent / "tests" / "ports" / "goldens"
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"
CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
# How files from before diffusers 0.15 name the attention of the VAE.
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

Golden = dict[str, Any]  # of arrays
Example = Callable[[Any, np.random.Generator], Golden]


def scattered(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter moved off its initial value, then rounded to float16.

    Norms start at weight one and bias zero, where a mistake would not show.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_((p + 0.1 * noise).half().float())
    return model.eval()


def write(
    case: str, file: str, model: Any, example: Example, rename: dict[str, str]
) -> None:
    """One folder: config.json, float16 weights, inputs and outputs."""
    folder = OUT / case
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in scattered(model, seed=0).state_dict().items():
        for new, old in rename.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        # Conversions of the original files keep 1x1 convolutions there.
        conv = rename and "attentions.0" in name and tensor.ndim == 2
        tensor = tensor[:, :, None, None] if conv else tensor
        tensors[name] = tensor.half().contiguous()
    save_file(tensors, folder / file)
    model.save_config(folder) if file == DIFFUSERS else _config(model, folder)
    with torch.no_grad():
        golden = example(model, np.random.default_rng(1))
    np.savez_compressed(folder / "golden.npz", **golden)


def _config(model: Any, folder: Path) -> None:
    raw = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    text = json.dumps(raw, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32."""
    return rng.standard_normal(shape, np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    """Our layout to torch's."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def nhwc(x: torch.Tensor) -> np.ndarray:
    """torch's layout to ours."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def unet_example(model: Any, rng: np.random.Generator, *, prompts: int = 2) -> Golden:
    """Noise prediction on odd latents at two timesteps; one prompt serves both."""
    x = normal(rng, 2, 7, 9, model.config["in_channels"])
    t = np.array([1, 901], np.int32)
    context = normal(rng, prompts, 5, model.config["cross_attention_dim"])
    states = torch.from_numpy(context).expand(2, -1, -1)
    eps = model(nchw(x), torch.from_numpy(t), states).sample
    return {"x": x, "t": t, "context": context, "eps": nhwc(eps)}


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


def text_example(model: Any, rng: np.random.Generator) -> Golden:
    """The states that condition a UNet."""
    ids = ids_example(rng)
    hidden = model(torch.from_numpy(ids).long()).last_hidden_state
    return {"ids": ids, "hidden": hidden.numpy()}


UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
}


def unet_sd1() -> Any:
    """Convolutional projections, as many heads everywhere."""
    return UNet2DConditionModel.from_config(
        UNET
        | {
            "block_out_channels": (8, 16),
            "down_block_types": (CROSS[0], "DownBlock2D"),
            "up_block_types": ("UpBlock2D", CROSS[1]),
            "attention_head_dim": 2,
        }
    )


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


def main() -> None:
    """Write every golden."""
    for case, file, model, example, rename in (
        ("unet_sd1", DIFFUSERS, unet_sd1, unet_example, {}),
        ("unet_sd2", DIFFUSERS, unet_sd2, ft.partial(unet_example, prompts=1), {}),
        ("vae", DIFFUSERS, vae, vae_example, {}),
        ("vae_old", DIFFUSERS, vae, vae_example, OLD),
        ("clip", TRANSFORMERS, clip, clip_example, {}),
        ("clip_text", TRANSFORMERS, clip_text, text_example, {}),
    ):
        torch.manual_seed(0)
        write(case, file, model(), example, rename)


if __name__ == "__main__":
    main()
