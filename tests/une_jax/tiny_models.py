"""Tiny random models in the published on-disk layouts, for the tests of the commands.

A Stable Diffusion pipeline of 16-pixel images (8x8 latents) and a CLIP of 16-pixel
images. They know nothing, but load, invert, embed, sample and edit like the big ones.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # scripts/ is no installed package

from ports import clip, unet, vae  # noqa: E402
from ports.port import Params, define  # noqa: E402
from scripts.miniature import diffusion, export  # noqa: E402

EDGE, WIDTH, TOKENS = 16, 16, 12

VAE = vae.Config(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    sample_size=EDGE,
    scaling_factor=0.5,
)
UNET = unet.Config(
    sample_size=EDGE // 2,
    block_out_channels=(16, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=8,
    cross_attention_dim=WIDTH,
    attention_head_dim=2,
)
TOWER = dict(
    hidden_size=WIDTH,
    intermediate_size=2 * WIDTH,
    projection_dim=8,
    num_hidden_layers=1,
    num_attention_heads=2,
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(c + "</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]  # fmt: skip
TEXT = clip.TextConfig(
    vocab_size=len(VOCABULARY),
    max_position_embeddings=TOKENS,
    eos_token_id=len(VOCABULARY) - 1,
    **TOWER,
)
VISION = clip.VisionConfig(image_size=EDGE, patch_size=8, **TOWER)


def write_pipeline(folder: Path, *, seed: int = 0, lcm: bool = False) -> Path:
    """A StableDiffusionPipeline directory, or a LatentConsistencyModelPipeline."""
    unet_config = dataclasses.replace(UNET, time_cond_proj_dim=8) if lcm else UNET
    for part, name, network, config in (
        ("vae", "AutoencoderKL", vae.AutoencoderKL, VAE),
        ("unet", "UNet2DConditionModel", unet.UNet, unet_config),
    ):
        params = random_params(network, config, seed)
        export.diffusers_model(folder / part, name, config, params)
    raw = {"architectures": ["CLIPTextModel"], **dataclasses.asdict(TEXT)}
    text = random_params(clip.Clip, clip.Config(text=TEXT), seed)
    export.transformers_model(folder / "text_encoder", raw, text)
    write_tokenizer(folder / "tokenizer")
    export.write_json(folder / "scheduler/scheduler_config.json", diffusion.SCHEDULER)
    index = {"_class_name": "LatentConsistencyModelPipeline"} if lcm else {}
    export.write_json(folder / "model_index.json", diffusion.PIPELINE | index)
    return folder


def random_params(network: type, config: object, seed: int) -> Params:
    """Numpy's noise in place of flax's initialisers, which take half a minute."""
    rng = np.random.default_rng(seed)
    shapes, _ = define(network, config)

    def one(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.standard_normal(leaf.shape, np.float32)
        if len(leaf.shape) < 2:  # of norms and biases; weights of norms are about 1
            return 0.1 * noise + (path[-1].key == "weight")
        return noise / np.sqrt(np.prod(leaf.shape[:-1]))

    return jax.tree_util.tree_map_with_path(one, shapes)


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that spells: every letter is a token."""
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    export.write_json(folder / "vocab.json", ids)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS}
    export.write_json(folder / "tokenizer_config.json", config)


def write_clip(folder: Path, *, seed: int = 1) -> Path:
    """A CLIPModel directory with its preprocessor_config.json."""
    config = clip.Config(
        text=TEXT,
        vision=VISION,
        text_projection=TEXT.projection_dim,
        visual_projection=VISION.projection_dim,
        logit_scale=True,
    )
    params = random_params(clip.Clip, config, seed)
    raw = {
        "architectures": ["CLIPModel"],
        "projection_dim": VISION.projection_dim,
        "text_config": dataclasses.asdict(TEXT),
        "vision_config": dataclasses.asdict(VISION),
    }
    export.transformers_model(folder, raw, params)
    export.write_json(
        folder / "preprocessor_config.json",
        {
            "size": {"shortest_edge": EDGE},
            "crop_size": {"height": EDGE, "width": EDGE},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.25, 0.25, 0.25],
        },
    )
    return folder


def change_json(file: Path, **changes: object) -> None:
    """Sets keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
