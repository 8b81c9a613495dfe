"""Any image encoder: the family that a checkpoint names, and its preprocessing."""

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ports import clip, dino, dinov2, dinov3, open_clip, preprocess
from ports.checkpoint import (
    STEMS,
    CheckpointError,
    class_name,
    locate,
    read_json,
    sha256,
)
from ports.port import Port
from ports.preprocess import Preprocess

FAMILIES: tuple[ModuleType, ...] = (clip, dinov3, dinov2, dino)
OUTPUTS = {
    clip: "projected image feature, not normalised",
    **dict.fromkeys((dinov3, dinov2, dino), "class token after the final norm"),
}


class Encoder(NamedTuple):
    """An image encoder: ``port.apply(params, pixels, method="encode_image")`` gives
    (b, dim) of what ``output`` says, for pixels that ``preprocess`` made."""

    port: Port
    preprocess: Preprocess
    dim: int
    output: str
    weights_sha256: str


def load(
    path_or_id: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    recipe: str | None = None,
    dtype: Any = jnp.float32,
) -> Encoder:
    """Load a CLIP, OpenCLIP or DINO directory or hub id.

    ``recipe``, a key of ``preprocess.RECIPES``, replaces the checkpoint's own
    preprocessing. CheckpointError where no family claims the checkpoint, or its
    preprocessing makes images of another size than its network takes.

    >>> encoder = load("facebook/dinov2-base")                     # doctest: +SKIP
    >>> encoder.dim                                                # doctest: +SKIP
    768
    """
    if recipe is not None and recipe not in preprocess.RECIPES:
        known = ", ".join(preprocess.RECIPES)
        raise CheckpointError(
            f"no preprocessing recipe {recipe!r}: choose from {known}"
        )
    place: dict[str, Any] = {"variant": variant, "revision": revision}
    family, stems = _family(path_or_id, **place)
    port = family.load(path_or_id, dtype=dtype, **place)
    if family is clip and not (port.config.vision and port.config.visual_projection):
        raise CheckpointError(f"{path_or_id} has no image tower with a projection")
    if recipe is None:
        steps = preprocess.load(path_or_id, revision=revision)
    else:
        steps = preprocess.RECIPES[recipe]
    return Encoder(
        port,
        steps,
        dim=_dim(port, steps.side, path_or_id),
        output=OUTPUTS[family],
        weights_sha256=sha256(
            [locate(path_or_id, stems=stems, **place)], variant=variant, stems=stems
        ),
    )


def _family(path_or_id: str, **place: Any) -> tuple[ModuleType, tuple[str, ...]]:
    """The module whose classes the config names, and what its weights are called."""
    if open_clip.layout_of(path_or_id, _class_names(), **place) == "open_clip":
        return clip, open_clip.STEMS
    folder = locate(path_or_id, stems=(), **place)
    name = class_name(read_json(folder / "config.json"))
    for family in FAMILIES:
        if name in family.CLASS_NAMES:
            return family, STEMS
    raise CheckpointError(
        f"{folder} holds a {name or 'model of no named class'}, which is no image "
        f"encoder (supported: {', '.join(_class_names())})"
    )


def _class_names() -> tuple[str, ...]:
    return tuple(name for family in FAMILIES for name in family.CLASS_NAMES)


def _dim(port: Port, side: int, path_or_id: str) -> int:
    pixels = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    try:
        out = jax.eval_shape(
            lambda params, x: port.apply(params, x, method="encode_image"),
            port.params,
            pixels,
        )
    except ValueError as e:
        raise CheckpointError(
            f"{path_or_id}: its preprocessing makes images of {side} pixels; {e}"
        ) from None
    return out.shape[1]
