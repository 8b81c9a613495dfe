"""A Stable Diffusion pipeline directory: its parts, loaded and left side by side."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ports import clip, unet, vae
from ports.checkpoint import CheckpointError, locate, read_json, sha256
from ports.conditioning import Condition
from ports.port import Port

# Pipeline classes and the folders of their models with weights.
XL = "StableDiffusionXLPipeline"
PARTS = {
    "StableDiffusionPipeline": ("vae", "text_encoder", "unet"),
    "LatentConsistencyModelPipeline": ("vae", "text_encoder", "unet"),
    XL: ("vae", "text_encoder", "text_encoder_2", "unet"),
}


class TextEncoder(NamedTuple):
    """A CLIP text tower with its tokenizer."""

    port: Port
    tokenizer: Any


class StableDiffusion(NamedTuple):
    """The parts of a pipeline. ``text_encoders`` are one, or SDXL's two; ``scheduler``
    is the dict of its scheduler_config.json; ``weights_sha256`` covers the weights of
    VAE, text encoders and UNet."""

    vae: Port
    text_encoders: tuple[TextEncoder, ...]
    unet: Port
    scheduler: dict[str, Any]
    weights_sha256: str


def load(
    path_or_id: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    dtype: Any = jnp.float32,
) -> StableDiffusion:
    """Load a diffusers directory or hub id; ``dtype`` is the UNet's.

    Stable Diffusion 1.x, 2.x and XL, and latent consistency models. The VAE stays
    float32, where half precision overflows, and so do the text encoders, which run
    once. Raises CheckpointError where a part is missing or does not fit.

    >>> sd = load("sd15")                                          # doctest: +SKIP
    >>> cond = encode_prompts(sd, [""])                            # doctest: +SKIP
    """
    root = locate(path_or_id, revision=revision)
    name = read_json(root / "model_index.json").get("_class_name", "")
    if name not in PARTS:
        raise CheckpointError(
            f"{path_or_id} is a {name or 'pipeline of no named class'}; supported: "
            f"{', '.join(PARTS)}"
        )
    source: dict[str, Any] = {"variant": variant, "revision": revision}
    folders = [locate(path_or_id, subfolder=part, **source) for part in PARTS[name]]

    def text(part: str) -> TextEncoder:
        tokenizer = part.replace("text_encoder", "tokenizer")
        return TextEncoder(
            clip.load(path_or_id, subfolder=part, layout="transformers", **source),
            load_tokenizer(path_or_id, subfolder=tokenizer, revision=revision),
        )

    scheduler = locate(path_or_id, subfolder="scheduler", revision=revision)
    return StableDiffusion(
        vae=vae.load(path_or_id, subfolder="vae", **source),
        text_encoders=tuple(text(p) for p in PARTS[name] if p.startswith("text")),
        unet=unet.load(path_or_id, subfolder="unet", dtype=dtype, **source),
        scheduler=read_json(scheduler / "scheduler_config.json"),
        weights_sha256=sha256(folders, variant=variant),
    )


def load_tokenizer(
    path_or_id: str, *, subfolder: str = "", revision: str | None = None
) -> Any:
    """transformers' CLIP tokenizer of a checkpoint folder."""
    from transformers import CLIPTokenizer  # slow to import; only prompts need it

    folder = locate(path_or_id, subfolder=subfolder, revision=revision)
    if not (folder / "tokenizer.json").is_file():  # since transformers 5, it alone
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder / name} is missing")
    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> Int[np.ndarray, "b t"]:
    """Prompts padded to the tokenizer's full length, int32."""
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="np",
    )
    return np.asarray(tokens["input_ids"], np.int32)


def encode_prompts(
    sd: StableDiffusion,
    prompts: Sequence[str],
    *,
    guidance_scale: float | Literal["unset"] | None = "unset",
    size: int | None = None,
) -> Float[Array, "b t d"] | Condition:
    """The UNet's ``cond`` for each prompt, as the model's own pipeline makes it.

    One row conditions a whole batch. Consistency models must be told the
    ``guidance_scale`` that they embed (1 is none), or None for no embedding at all; other
    models have none. ``size`` is the image's edge in pixels that SDXL is told
    (default: the one that it was trained for). ValueError if a consistency model is told
    nothing.
    """
    config = sd.unet.config
    if guidance_scale == "unset" and config.time_cond_proj_dim:
        raise ValueError(
            "this consistency model embeds a guidance scale: pass guidance_scale=1.0 "
            "for none, another, or None to leave the embedding out"
        )
    told = isinstance(guidance_scale, float | int)
    scale = jnp.full(1, guidance_scale, jnp.float32) if told else None
    if not config.addition_embed_type:
        context = _last_state(sd.text_encoders[0], prompts)
        return context if guidance_scale == "unset" else Condition(context, scale)

    states, pooled = zip(
        *(_state_before_last(e, prompts) for e in sd.text_encoders), strict=True
    )
    edge = size or 8 * (config.sample_size or 128)
    sizes = jnp.asarray([[edge, edge, 0, 0, edge, edge]], jnp.float32)
    return Condition(
        context=jnp.concatenate(states, axis=-1),
        guidance_scale=scale,
        pooled=pooled[-1],
        time_ids=jnp.repeat(sizes, len(prompts), axis=0),
    )


def _last_state(encoder: TextEncoder, prompts: Sequence[str]) -> Array:
    port, ids = encoder.port, jnp.asarray(token_ids(encoder.tokenizer, prompts))
    apply = jax.jit(port.apply, static_argnames="method")
    return apply(port.params, ids, method="hidden_text")


def _state_before_last(
    encoder: TextEncoder, prompts: Sequence[str]
) -> tuple[Array, Array]:
    """The input of the last block, and the projected feature (or the last state)."""
    port, ids = encoder.port, jnp.asarray(token_ids(encoder.tokenizer, prompts))
    site = f"text.block.{port.config.text.num_hidden_layers - 2}"
    method = "encode_text" if port.config.text_projection else "hidden_text"
    apply = jax.jit(port.apply, static_argnames=("method", "taps"))
    out, taps = apply(port.params, ids, method=method, taps=(site,))
    return taps[site], out
