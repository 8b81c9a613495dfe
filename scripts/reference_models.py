"""The published models as torch builds them with random weights, and how ours runs them.

``MODELS`` names, for each checkpoint of the paper, the reference class and its published
configuration, a tiny configuration of the same kind, our loader, and inputs for both.
``parity.py`` and the benchmarks read it. Inputs and outputs are in our layout (NHWC).
torch is imported only where a reference is built, so that each side can be measured
alone in its own process.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Inputs = tuple[Any, ...]


class Model(NamedTuple):
    """One row of the tables. ``size`` is the edge of the network's input."""

    label: str
    full: Callable[[], Any]
    tiny: Callable[[], Any]
    port: str
    size: int
    inputs: Callable[[dict[str, Any], int, int], Inputs]
    torch_run: Callable[..., Any]
    method: str = "__call__"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


# UNets

CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
TINY_UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": (CROSS[0], "DownBlock2D"),
    "up_block_types": ("UpBlock2D", CROSS[1]),
    "attention_head_dim": 4,
    "cross_attention_dim": 48,
}
SD2 = {
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
LCM = {"time_cond_proj_dim": 256}
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
BIG_XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", CROSS[0], CROSS[0]),
    "up_block_types": (CROSS[1], CROSS[1], "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
}


def unet(**config: Any) -> Callable[[], Any]:
    """diffusers' UNet; SD 1.x unless told otherwise."""

    def build() -> Any:
        from diffusers import UNet2DConditionModel

        base = {"sample_size": 64, "cross_attention_dim": 768}
        return UNet2DConditionModel.from_config(base | config)

    return build


def unet_inputs(config: dict[str, Any], batch: int, size: int) -> Inputs:
    """Latents, timesteps, and the text's states or all the fields of a Condition."""
    x = normal(batch, size, size, config["in_channels"])
    t = np.linspace(1, 981, batch).round().astype(np.int32)
    context = normal(1, 77, config["cross_attention_dim"], seed=1)
    if config.get("time_cond_proj_dim"):
        return x, t, (context, np.full(1, 3.5, np.float32), None, None)
    if config.get("addition_embed_type"):
        d_sizes = 6 * config["addition_time_embed_dim"]
        d = config["projection_class_embeddings_input_dim"] - d_sizes
        edge = float(8 * size)
        sizes = np.array([[edge, edge, 0, 0, edge, edge]], np.float32)
        return x, t, (context, None, normal(1, d, seed=2), sizes)
    return x, t, context


def run_unet(model: Any, x: np.ndarray, t: np.ndarray, cond: Any) -> Any:
    """The same through diffusers, conditions as its pipelines hand them over."""
    import torch
    from diffusers import LatentConsistencyModelPipeline as Lcm

    batch, kind = len(x), next(model.parameters())

    def rows(a: np.ndarray) -> Any:
        return torch.from_numpy(a).to(kind).expand(batch, *a.shape[1:])

    extra = {}
    context = cond
    if isinstance(cond, tuple):
        context, guidance, pooled, sizes = cond
        if guidance is not None:
            w, dim = rows(guidance).float() - 1, model.config["time_cond_proj_dim"]
            embed: Any = Lcm.get_guidance_scale_embedding  # uses nothing of its self
            extra["timestep_cond"] = embed(None, w, embedding_dim=dim).to(kind)
        if pooled is not None:
            added = {"text_embeds": rows(pooled), "time_ids": rows(sizes)}
            extra["added_cond_kwargs"] = added
    steps = torch.from_numpy(t).to(kind.device)
    return nhwc(model(nchw(x, kind), steps, rows(context), **extra).sample)


# VAE, encoders


def vae(**config: Any) -> Callable[[], Any]:
    """diffusers' AutoencoderKL; Stable Diffusion's unless told otherwise."""

    def build() -> Any:
        from diffusers import AutoencoderKL

        base = {
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "sample_size": 512,
        }
        return AutoencoderKL.from_config(base | config)

    return build


TINY_VAE = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}


def image_inputs(config: dict[str, Any], batch: int, size: int) -> Inputs:
    """Standardised images."""
    del config
    return (normal(batch, size, size, 3),)


def run_vae(model: Any, images: np.ndarray) -> Any:
    """There and back, through the posterior's mode."""
    latents = model.encode(nchw(images, next(model.parameters()))).latent_dist.mode()
    return nhwc(model.decode(latents).sample)


TOWER = {"hidden_act": "quick_gelu", "num_hidden_layers": 12, "projection_dim": 768}
TEXT_L = TOWER | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}  # fmt: skip
VISION_L = TOWER | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
TINY_TOWER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def clip(
    text: dict[str, Any], vision: dict[str, Any], **both: Any
) -> Callable[[], Any]:
    """transformers' CLIPModel."""

    def build() -> Any:
        from transformers import CLIPConfig, CLIPModel

        return CLIPModel(
            CLIPConfig(
                text_config=text | both,
                vision_config=vision | both,
                projection_dim=text["projection_dim"],
            )
        )

    return build


def clip_inputs(config: dict[str, Any], batch: int, size: int) -> Inputs:
    """Images, and as many captions of random words that end at different places."""
    text = config["text_config"]
    ids = np.random.default_rng(0).integers(0, 40000, (batch, 77)).astype(np.int32)
    for i, row in enumerate(ids):
        row[10 + i :] = text.get("eos_token_id", 49407)
    return normal(batch, size, size, 3), ids


def run_clip(model: Any, images: np.ndarray, ids: np.ndarray) -> Any:
    """Both towers' projected features, not normalised."""
    import torch

    device = next(model.parameters()).device
    text = model.text_model(torch.from_numpy(ids).long().to(device)).pooler_output
    return run_clip_vision(model, images), model.text_projection(text)


def run_clip_vision(model: Any, images: np.ndarray) -> Any:
    """The vision tower's projected feature."""
    out = model.vision_model(nchw(images, next(model.parameters())))
    return model.visual_projection(out.pooler_output)


def dinov3(**config: Any) -> Callable[[], Any]:
    """transformers' DINOv3; ViT-L unless told otherwise."""

    def build() -> Any:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        base: dict[str, Any] = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_register_tokens": 4,
        }
        return DINOv3ViTModel(DINOv3ViTConfig(**base | config))

    return build


def run_pooled(model: Any, images: np.ndarray) -> Any:
    """A vision transformer's normalised class token."""
    return model(nchw(images, next(model.parameters()))).pooler_output


def _clip_row(label: str, activation: str, *, vision_only: bool) -> Model:
    return Model(
        label,
        clip(TEXT_L, VISION_L, hidden_act=activation),
        clip(
            TINY_TOWER | {"projection_dim": 48},
            TINY_TOWER | {"patch_size": 14},
            hidden_act=activation,
            projection_dim=48,
        ),  # fmt: skip
        "clip",
        224,
        image_inputs if vision_only else clip_inputs,
        run_clip_vision if vision_only else run_clip,
        "encode_image" if vision_only else "__call__",
    )


def _unet_row(label: str, config: dict[str, Any], *, big: dict[str, Any] | None = None) -> Model:  # fmt: skip
    return Model(
        label,
        unet(**config, **(big or {})),
        unet(**TINY_UNET | {k: v for k, v in config.items() if k not in TINY_UNET}),
        "unet",
        64,
        unet_inputs,
        run_unet,
    )


MODELS = {
    "sd15": _unet_row("SD 1.5 UNet", {}),
    "sd21": _unet_row("SD 2.1 UNet", SD2),
    "lcm": _unet_row("LCM_Dreamshaper_v7 UNet", LCM),
    "sdxl": _unet_row("SDXL UNet", XL, big=BIG_XL),
    "vae": Model(
        "SD VAE, there and back",
        vae(),
        vae(**TINY_VAE),
        "vae",
        512,
        image_inputs,
        run_vae,
    ),  # fmt: skip
    "clip-l14": _clip_row("CLIP L/14, both towers", "quick_gelu", vision_only=False),
    "openclip-l14": _clip_row("OpenCLIP L/14, both towers", "gelu", vision_only=False),
    "clip-l14-vision": _clip_row("CLIP ViT-L/14", "quick_gelu", vision_only=True),
    "dinov3-l16": Model(
        "DINOv3 L/16",
        dinov3(),
        dinov3(**TINY_TOWER),
        "dinov3",
        224,
        image_inputs,
        run_pooled,
        "encode_image",
    ),
}


def build(name: str, *, full: bool) -> Any:
    """The torch model with random weights, norms and biases off their initial values."""
    import torch

    torch.manual_seed(0)
    model = (MODELS[name].full if full else MODELS[name].tiny)().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape))
    return model.requires_grad_(False)


def count_flops(
    make: Callable[[], Any], torch_run: Callable[..., Any], inputs: Inputs
) -> int:
    """What torch counts in one run of a model, without its memory or arithmetic."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        ghost = make().eval()
        # As plain products: the counter does not see inside the CPU's fused kernel.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            torch_run(ghost, *inputs)
    return counter.get_total_flops()


def config_of(model: Any) -> dict[str, Any]:
    """A diffusers or transformers model's configuration as a dict."""
    config = model.config
    return dict(config) if isinstance(config, dict) else config.to_dict()


def for_port(inputs: Inputs) -> Inputs:
    """The same with a UNet's conditions as ours takes them."""
    from ports.conditioning import Condition

    return tuple(Condition(*x) if isinstance(x, tuple) else x for x in inputs)


def load(name: str, folder: Path, dtype: str) -> Any:
    """Our port of what torch saved."""
    import importlib

    port = importlib.import_module(f"ports.{MODELS[name].port}")
    return port.load(str(folder), dtype=np.dtype(dtype))


def nchw(x: np.ndarray, like: Any) -> Any:
    """Our layout to torch's, in the dtype and on the device of a parameter."""
    import torch

    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(like)


def nhwc(x: Any) -> Any:
    """torch's layout to ours."""
    return x.permute(0, 2, 3, 1)
