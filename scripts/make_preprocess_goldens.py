"""Write the goldens of image preprocessing: small images, and what the references do.

    python scripts/make_preprocess_goldens.py

``tests/ports/goldens/preprocess/golden.npz`` holds the images; each folder beside it
the reference's own file and what it makes of every image before standardisation:
whole levels of 255 (uint8), or fractions of one (float16) where it resizes floats.
The references are transformers' torchvision-backed processors and open_clip. Needs the
``test`` extra with torchvision 0.28, open_clip_torch 3.3 and Pillow 12 (from 13 on,
Pillow resizes tall images in another order than torchvision); the tests do not.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from open_clip.transform import (  # pyright: ignore[reportMissingImports]
    PreprocessCfg,
    image_transform_v2,
)
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    DINOv3ViTImageProcessor,
    ViTImageProcessor,
)

OUT = Path(__file__).resolve().parent.parent / "tests/ports/goldens/preprocess"
SIDE = 24
SIZES = {
    "wide": (90, 41),
    "tall": (37, 83),
    "odd": (53, 69),
    "tiny": (11, 9),
    "same": (SIDE, SIDE),
    "thin": (100, 17),
}
IMAGENET: dict[str, Any] = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
SQUARE = {"height": SIDE, "width": SIDE}

Reference = Callable[[Image.Image], np.ndarray]


def picture(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """A ramp, a bright disc and noise, one to a channel."""
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(x / width - 0.4, y / height - 0.6) < 0.3
    channels = [255 * x / width, 30 + 200 * disc, rng.integers(0, 256, (height, width))]
    return np.stack(channels, -1).astype(np.uint8)


def transformers_reference(processor: Any, folder: Path, *, floats: bool) -> Reference:
    """The processor up to standardisation; its file goes to the folder."""
    assert processor.backend == "torchvision"
    raw = processor.to_dict()
    (folder / "preprocessor_config.json").write_text(_text(raw), encoding="utf-8")

    def run(image: Image.Image) -> np.ndarray:
        out = processor(
            image, do_rescale=floats, do_normalize=False, return_tensors="pt"
        )
        return out["pixel_values"][0].permute(1, 2, 0).numpy()

    return run


def open_clip_reference(cfg: Any, folder: Path) -> Reference:
    """open_clip's transform up to standardisation; its file goes to the folder."""
    raw = {
        "model_cfg": {"vision_cfg": {"image_size": cfg.size}},
        "preprocess_cfg": asdict(cfg),
    }
    (folder / "open_clip_config.json").write_text(_text(raw), encoding="utf-8")
    plain = PreprocessCfg(**(asdict(cfg) | {"mean": (0.0,) * 3, "std": (1.0,) * 3}))
    transform = image_transform_v2(plain, is_train=False)

    def run(image: Image.Image) -> np.ndarray:
        fractions: Any = transform(image)
        return (255 * fractions).round().byte().permute(1, 2, 0).numpy()

    return run


def _text(raw: Any) -> str:
    return json.dumps(raw, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write every golden."""
    assert int(PIL.__version__.split(".")[0]) < 13
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images: dict[str, Any] = {n: picture(*size, rng) for n, size in SIZES.items()}
    np.savez_compressed(OUT / "golden.npz", **images)
    shortest: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    margin = shortest | {"size": {"shortest_edge": SIDE + 5}}
    processors = {
        "clip": CLIPImageProcessor(**shortest),
        "dinov2": BitImageProcessor(**margin, **IMAGENET),
        "vit": ViTImageProcessor(size=SQUARE),
        "dino": ViTImageProcessor(size=SQUARE, resample=3, **IMAGENET),
        "dinov3": DINOv3ViTImageProcessor(size=SQUARE),
        "dinov3_bicubic": DINOv3ViTImageProcessor(size=SQUARE, resample=3),
    }
    transforms = {
        "open_clip_shortest": PreprocessCfg(size=SIDE),
        "open_clip_longest": PreprocessCfg(size=SIDE, resize_mode="longest"),
        "open_clip_squash": PreprocessCfg(
            size=SIDE, resize_mode="squash", interpolation="bilinear"
        ),
    }
    for case in (*processors, *transforms):
        folder = OUT / case
        folder.mkdir(exist_ok=True)
        floats = case.startswith("dinov3")
        if case in processors:
            run = transformers_reference(processors[case], folder, floats=floats)
        else:
            run = open_clip_reference(transforms[case], folder)
        dtype = np.float16 if floats else np.uint8
        golden: dict[str, Any] = {
            name: run(Image.fromarray(x)).astype(dtype) for name, x in images.items()
        }
        np.savez_compressed(folder / "golden.npz", **golden)


if __name__ == "__main__":
    main()
