"""The miniature's CLIP: contrastive on captions that mention most attributes."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ports import clip
from ports.port import Port, init
from ports.stable_diffusion import token_ids
from scripts.miniature import data, export, tokenizer
from scripts.miniature.loop import train
from une_jax.miniature import captions

BATCH, RATE, MENTION = 128, 1e-3, 0.75
WIDTH, PROJECTION = 96, 64
MEAN_STD = (0.5, 0.5, 0.5)


def configs(vocab: int) -> tuple[clip.TextConfig, clip.VisionConfig]:
    text = clip.TextConfig(
        vocab_size=vocab,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=PROJECTION,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.LENGTH,
        eos_token_id=vocab - 1,
    )
    vision = clip.VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=PROJECTION,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
    )
    return text, vision


def loss_fn(port: Port):
    """The symmetric InfoNCE loss of CLIP (Radford et al. 2021, figure 3)."""

    def loss(params, batch, key):
        del key
        a, b = port.apply(params, *batch)
        a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
        logits = jnp.exp(jnp.minimum(params["logit_scale"], 4.6)) * a @ b.T
        own = jnp.arange(len(logits))
        rows = -jax.nn.log_softmax(logits, 1)[own, own].mean()
        cols = -jax.nn.log_softmax(logits, 0)[own, own].mean()
        top1 = (logits.argmax(1) == own).mean()
        return (rows + cols) / 2, {"nce": (rows + cols) / 2, "top1": top1}

    return loss


def run(runs: Path, out: Path, *, steps: int, faces: int) -> None:
    """Train; write ``out/mini-clip-p8`` and the text encoder and tokenizer of sd15."""
    images = data.images(faces)
    attributes = np.asarray(data.truth(faces).attributes)
    rng = np.random.default_rng(0)
    texts = [captions.write(attributes, rng, mention=MENTION) for _ in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        tok = tokenizer.write(Path(folder), texts[0])
    ids = np.stack([token_ids(tok, t) for t in texts])

    text, vision = configs(len(tok))
    config = clip.Config(
        text=text,
        vision=vision,
        text_projection=PROJECTION,
        visual_projection=PROJECTION,
        logit_scale=True,
    )
    port = init(clip.Clip, config, jax.random.key(12))

    def batch(key):
        rows = data.pick(key, faces, BATCH)
        draft = data.pick(jax.random.fold_in(key, 1), len(ids), BATCH)
        return data.signed(images[rows]), jnp.asarray(ids[draft, rows])

    params = train(
        runs / "clip", port.params, loss_fn(port), batch, steps=steps, rate=RATE
    )
    write(out, config, params, texts[0])


def write(out: Path, config: clip.Config, params, texts: list[str]) -> None:
    folder = out / "mini-clip-p8"
    export.transformers_model(
        folder,
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": PROJECTION,
            "text_config": export.as_json(config.text),
            "vision_config": export.as_json(config.vision),
        },
        params,
    )
    export.write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": 64},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 64, "width": 64},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN_STD,
            "image_std": MEAN_STD,
        },
    )
    tokenizer.write(folder, texts)

    sd = out / "mini-sd15"
    flat = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    export.transformers_model(
        sd / "text_encoder",
        {**flat, **export.as_json(config.text)},
        {"text_model": params["text_model"]},
    )
    tokenizer.write(sd / "tokenizer", texts)
