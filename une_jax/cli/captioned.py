"""What a caption says, as a direction among a CLIP view's image embeddings."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from ports import clip, stable_diffusion
from ports.checkpoint import CheckpointError
from une_jax.cli.names import Model, resolve
from une_jax.errors import UneError
from une_jax.zoo import Zoo


def source_of(opened: Zoo, asked: str | None) -> tuple[str, Model]:
    """The encoder view that ``VIEW`` or ``VIEW=PATH_OR_ID`` names, and its model.

    Without one, it is the zoo's only encoder whose name says CLIP.

    Raises:
        UneError: there is none, or several.
    """
    name, equals, source = (asked or "").partition("=")
    encoders = [v for v in opened.manifest.views if v.kind == "encoder"]
    if not name:
        texts = [v.name for v in encoders if "clip" in f"{v.name} {v.model_id}".lower()]
        if len(texts) != 1:
            listed = ", ".join(texts) or "none"
            raise UneError(f"--caption needs one CLIP view (the zoo has {listed}): choose with --encoder")  # fmt: skip
        name = texts[0]
    view = opened[name].view
    if view not in encoders:
        raise UneError(f"--encoder {name} is no encoder view but a {view.kind}")
    return name, resolve(source if equals else view.model_id)


def difference(model: Model, weights_sha256: str, text: str, base: str) -> Float32[np.ndarray, " e"]:  # fmt: skip
    """From what ``base`` says to what ``text`` says: the difference of their unit
    embeddings.

    Raises:
        UneError: the model has no text tower, is another than the view's, or cannot
            tell the two apart.
    """
    from ports import encoder

    try:
        loaded = encoder.load(model.source, revision=model.revision)
        if loaded.weights_sha256 != weights_sha256:
            raise UneError(f"{model.source} holds other weights than the view's model")
        config = loaded.port.config
        if not isinstance(config, clip.Config) or config.text is None:
            raise UneError(f"{model.source} has no text tower: choose a CLIP with --encoder")  # fmt: skip
        tokenizer = stable_diffusion.load_tokenizer(
            model.source, revision=model.revision
        )
    except CheckpointError as error:
        raise UneError(f"--caption: {error}") from error
    ids = jnp.asarray(stable_diffusion.token_ids(tokenizer, [text, base]))
    port = loaded.port
    said = np.asarray(port.apply(port.params, ids, method="encode_text"), np.float32)
    said = said / np.linalg.norm(said, axis=1, keepdims=True)
    if np.abs(said[0] - said[1]).max() < 1e-6:
        raise UneError(f"--caption {text!r} and --base {base!r} are the same to {model.name}")  # fmt: skip
    return said[0] - said[1]
