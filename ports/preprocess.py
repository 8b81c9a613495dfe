"""What an encoder does to an image before it looks: transformers' image processors."""

import functools as ft
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from ports.checkpoint import CheckpointError, locate, read_json
from ports.load import only


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize the shorter side, crop the centre, scale to [0, 1], standardise."""

    resize: int
    crop: int
    resample: int = Image.Resampling.BICUBIC.value
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
        """One upright RGB image to the encoder's input."""
        short, (w, h) = min(image.size), image.size
        # transformers truncates the longer side; so does its reference, torchvision.
        w, h = int(self.resize * w / short), int(self.resize * h / short)
        image = image.resize((w, h), Image.Resampling(self.resample))
        left, top = (w - self.crop) // 2, (h - self.crop) // 2
        image = image.crop((left, top, left + self.crop, top + self.crop))
        x = np.asarray(image, np.float32) * np.float32(1 / 255)
        return (x - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )

    def as_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))


def load(
    path_or_id: str, *, subfolder: str = "", revision: str | None = None
) -> Preprocess:
    """Read ``preprocessor_config.json``; refuses steps that it does not do."""
    folder = locate(path_or_id, subfolder=subfolder, revision=revision)
    raw = read_json(folder / "preprocessor_config.json")
    check = ft.partial(only, file="preprocessor_config.json")
    for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        check(step, (raw.get(step, True),), (True,))
    check("rescale_factor", (raw.get("rescale_factor", 1 / 255),), (1 / 255,))
    crop, resize = raw.get("crop_size", 224), raw.get("size", 224)
    if isinstance(crop, dict):
        check("crop_size", (crop["width"],), (crop["height"],))
        crop = crop["height"]
    if isinstance(resize, dict):
        check("size", tuple(resize), ("shortest_edge",))
        resize = resize["shortest_edge"]
    return Preprocess(
        resize=resize,
        crop=crop,
        resample=raw.get("resample", Image.Resampling.BICUBIC.value),
        mean=_per_channel(raw, "image_mean"),
        std=_per_channel(raw, "image_std"),
    )


def _per_channel(raw: dict[str, Any], key: str) -> tuple[float, float, float]:
    try:
        r, g, b = map(float, raw[key])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"preprocessor_config.json: {key} must hold three numbers"
        ) from None
    return r, g, b
