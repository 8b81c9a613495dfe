"""A Stable Diffusion pipeline directory: its parts, loaded and left side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ports import clip, unet, vae
from ports.checkpoint import CheckpointError, locate, read_json, sha256
from ports.port import Port

CLASS_NAMES = ("StableDiffusionPipeline",)
PARTS = ("vae", "text_encoder", "unet")


class StableDiffusion(NamedTuple):
    """The parts of a pipeline. ``scheduler`` is the dict of its scheduler_config.json;
    ``weights_sha256`` covers the weights of VAE, text encoder and UNet."""

    vae: Port
    text_encoder: Port
    unet: Port
    tokenizer: Any
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

    The VAE stays float32, where half precision overflows, and so does the text encoder,
    which runs once.

    >>> sd = load("sd15")                                          # doctest: +SKIP
    >>> cond = encode_prompts(sd, [""])                            # doctest: +SKIP
    """
    root = locate(path_or_id, revision=revision)
    name = read_json(root / "model_index.json").get("_class_name", "")
    if name not in CLASS_NAMES:
        raise CheckpointError(
            f"{path_or_id} is a {name or 'pipeline of no named class'}; supported: "
            f"{', '.join(CLASS_NAMES)}"
        )
    source: dict[str, Any] = {"variant": variant, "revision": revision}
    scheduler = locate(path_or_id, subfolder="scheduler", revision=revision)
    folders = [locate(path_or_id, subfolder=part, **source) for part in PARTS]
    return StableDiffusion(
        vae=vae.load(path_or_id, subfolder="vae", **source),
        text_encoder=clip.load(path_or_id, subfolder="text_encoder", **source),
        unet=unet.load(path_or_id, subfolder="unet", dtype=dtype, **source),
        tokenizer=load_tokenizer(path_or_id, subfolder="tokenizer", revision=revision),
        scheduler=read_json(scheduler / "scheduler_config.json"),
        weights_sha256=sha256(folders, variant=variant),
    )


def load_tokenizer(
    path_or_id: str, *, subfolder: str = "", revision: str | None = None
) -> Any:
    """transformers' CLIP tokenizer of a checkpoint folder."""
    from transformers import CLIPTokenizer  # slow to import; only prompts need it

    folder = locate(path_or_id, subfolder=subfolder, revision=revision)
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
    sd: StableDiffusion, prompts: Sequence[str]
) -> Float[Array, "b t d"]:
    """The UNet's conditioning for each prompt (the text encoder's last hidden state).

    One row conditions a whole batch: the UNet takes (1, t, d) for any batch size.
    """
    ids = jnp.asarray(token_ids(sd.tokenizer, prompts))
    apply = jax.jit(sd.text_encoder.apply, static_argnames="method")
    return apply(sd.text_encoder.params, ids, method="hidden_text")
