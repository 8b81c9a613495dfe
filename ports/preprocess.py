"""What an encoder does to an image before it looks, as each family publishes it.

Read from ``processor_config.json`` (transformers 5), ``preprocessor_config.json`` or
``open_clip_config.json``. Where a file is silent, its processor's own default holds.
"""

import functools as ft
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image

from ports.checkpoint import CheckpointError, class_name, locate, read_json
from ports.load import only

Filter = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop the centre, rescale, standardise: all that decides a pixel.

    ``resize``: the ``shortest`` or ``longest`` edge becomes ``size`` and the aspect
    ratio stays; ``exact`` makes both edges ``size``; ``square`` does so after cutting
    the largest centred square. ``crop`` is the side of the centred square cut from
    that, with black around where it is larger; ``centre`` says how half a pixel rounds:
    down (``floor``, transformers) or to ``even`` (torchvision). ``resample_dtype``:
    ``uint8`` rounds to whole levels after each axis, as Pillow does; ``float32`` does
    not, as torch on float tensors. Both filters are antialiased.

    >>> step = RECIPES["dinov3-paper"]
    >>> step(Image.new("RGB", (178, 218))).shape
    (224, 224, 3)
    """

    resize: Literal["shortest", "longest", "exact", "square"]
    size: int
    filter: Filter
    antialias: bool = True
    resample_dtype: Literal["uint8", "float32"] = "uint8"
    crop: int | None = None
    centre: Literal["floor", "even"] = "floor"
    rescale: float = 1 / 255
    mean: Triple
    std: Triple

    def __post_init__(self):
        if self.crop is None and self.resize in ("shortest", "longest"):
            raise ValueError(f"resize = {self.resize!r} needs a crop")
        if self.size < 1 or (self.crop is not None and self.crop < 1):
            raise ValueError(f"size = {self.size}, crop = {self.crop}: use 1 or more")
        if not self.antialias:
            raise ValueError("antialias = False is not supported")
        if not min(self.std) > 0:
            raise ValueError(f"std = {self.std}: use positive numbers")

    @property
    def side(self) -> int:
        """Height and width of what comes out."""
        return self.crop or self.size

    def __call__(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
        """One upright RGB image to the encoder's input; ValueError for other modes."""
        if image.mode != "RGB":
            raise ValueError(f"an image of mode {image.mode!r}: convert it to RGB")
        whole = self.resample_dtype == "uint8"
        bands = [image] if whole else [band.convert("F") for band in image.split()]
        bands = [self._resized(band) for band in bands]
        if self.crop is not None:
            bands = [self._centred(band, self.crop) for band in bands]
        x = np.dstack([np.asarray(band, np.float32) for band in bands])
        x = x * np.float32(self.rescale)
        return (x - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize == "square":
            image = self._centred(image, min(image.size))
        w, h = self._target(*image.size)
        filter = Image.Resampling[self.filter.upper()]
        # One axis a call: Pillow 13 begins with the height of tall images, where older
        # ones and torch begin with the width, and the order decides how uint8 rounds.
        return image.resize((w, image.height), filter).resize((w, h), filter)

    def _target(self, w: int, h: int) -> tuple[int, int]:
        if self.resize == "shortest":  # torchvision and transformers truncate
            return self.size * w // min(w, h), self.size * h // min(w, h)
        if self.resize == "longest":  # open_clip rounds
            ratio = max(w, h) / self.size
            return max(1, round(w / ratio)), max(1, round(h / ratio))
        return self.size, self.size

    def _centred(self, image: Image.Image, side: int) -> Image.Image:
        half = _even if self.centre == "even" else _floor
        left, top = (half(edge - side) for edge in image.size)
        return image.crop((left, top, left + side, top + side))

    def as_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        mean, std = ([float(x) for x in triple] for triple in (self.mean, self.std))
        return asdict(self) | {"rescale": float(self.rescale), "mean": mean, "std": std}

    @property
    def sha256(self) -> str:
        """Sixteen hex digits that change whenever a field does."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _floor(margin: int) -> int:
    return margin // 2


def _even(margin: int) -> int:
    """As torchvision: padding (a margin below zero) puts its smaller half first."""
    return round(margin / 2) if margin > 0 else -(-margin // 2)


OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)

_CLIP = Preprocess(
    resize="shortest",
    size=224,
    filter="bicubic",
    crop=224,
    mean=OPENAI_MEAN,
    std=OPENAI_STD,
)
_VIT = Preprocess(resize="exact", size=224, filter="bilinear", mean=_HALF, std=_HALF)
_DINOV3 = replace(
    _VIT,
    resample_dtype="float32",  # its processor rescales before it resizes
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# transformers' image processors, by name, and what each does where its file is silent.
PROCESSORS = {"CLIP": _CLIP, "Bit": _CLIP, "ViT": _VIT, "DINOv3ViT": _DINOV3}
# The same by how a model's class begins, for files that name no processor.
_OF_MODEL = {"CLIP": "CLIP", "Dinov2": "Bit", "DINOv3": "DINOv3ViT", "ViT": "ViT"}
_FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers

# What no checkpoint says. "dinov3-paper" is how the Universal Normal Embedding's
# released code feeds DINOv3: the centre square at 224 pixels, from -1 to 1.
RECIPES = {"dinov3-paper": replace(_VIT, resize="square")}


def load(
    path_or_id: str, *, subfolder: str = "", revision: str | None = None
) -> Preprocess:
    """What the checkpoint's own file says, of a directory or a hub id as for a port.

    CheckpointError names the key and the value that this does not do. No weights are
    downloaded. Where transformers' file and open_clip's both lie, transformers' counts.
    """
    folder = locate(path_or_id, subfolder=subfolder, revision=revision, stems=())
    file, open_clip = folder / "processor_config.json", folder / "open_clip_config.json"
    if file.is_file() and (raw := _part(read_json(file), "image_processor", file)):
        return _from_transformers(raw, file)
    file = folder / "preprocessor_config.json"
    if not file.is_file() and open_clip.is_file():
        return _from_open_clip(read_json(open_clip), open_clip)
    return _from_transformers(read_json(file), file)


def _from_transformers(raw: dict[str, Any], file: Path) -> Preprocess:
    raw = {k: v for k, v in raw.items() if v is not None}
    check = ft.partial(only, file=str(file))
    name = _processor(raw, file)
    default = PROCESSORS[name]
    choices = ("do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
    supported = {"do_resize": (True,)} | dict.fromkeys(choices, (True, False))
    for key, value in raw.items():
        if key.startswith("do_"):
            check(key, (value,), supported.get(key, (False,)))
    check("resample", (raw.get("resample", 2),), tuple(_FILTERS))

    resize, size, crop = default.resize, default.size, None
    if isinstance(length := raw.get("size"), dict):
        resize = "shortest" if length.get("shortest_edge") else "exact"
    elif length:  # one number: transformers' default_to_square
        resize = "exact" if raw.get("default_to_square", name != "CLIP") else "shortest"
    if length:
        edges = ("shortest_edge",) if resize == "shortest" else ("height", "width")
        size = _side(raw, "size", file, edges=edges)
    if raw.get("do_center_crop", default.crop is not None):
        crop = _side({"crop_size": 224} | raw, "crop_size", file)
    elif resize == "shortest":  # inputs would have no one shape
        check("do_center_crop", (False,), (True,))
    mean = _triple(raw, "image_mean", default.mean, file)
    std = _triple(raw, "image_std", default.std, file)
    standard = raw.get("do_normalize", True)
    return replace(
        default,
        resize=resize,
        size=size,
        crop=crop,
        filter=_FILTERS[raw["resample"]] if "resample" in raw else default.filter,
        rescale=_factor(raw, file) if raw.get("do_rescale", True) else 1.0,
        mean=mean if standard else (0.0, 0.0, 0.0),
        std=std if standard else (1.0, 1.0, 1.0),
    )


def _processor(raw: dict[str, Any], file: Path) -> str:
    """A key of PROCESSORS: the file's own, or that of the model beside it."""
    for key in ("image_processor_type", "feature_extractor_type"):
        if key in raw:
            suffix = "(ImageProcessor|FeatureExtractor)(Fast|Pil)?$"
            name = re.sub(suffix, "", str(raw[key]))
            known = tuple(f"{name}ImageProcessor" for name in PROCESSORS)
            if name not in PROCESSORS:
                only(key, (raw[key],), known, file=str(file))
            return name
    config = file.parent / "config.json"
    model = class_name(read_json(config)) if config.is_file() else ""
    for prefix, name in _OF_MODEL.items():
        if model.startswith(prefix):
            return name
    raise CheckpointError(
        f"{file}: image_processor_type is missing, and no config.json beside it names "
        "a CLIP, ViT or DINO model"
    )


def _from_open_clip(raw: dict[str, Any], file: Path) -> Preprocess:
    vision = _part(_part(raw, "model_cfg", file), "vision_cfg", file)
    cfg = _part(raw, "preprocess_cfg", file)
    check = ft.partial(only, file=str(file))
    mode, filter = cfg.get("resize_mode", "shortest"), cfg.get("interpolation")
    check("mode", (cfg.get("mode", "RGB"),), ("RGB",))
    check("fill_color", (cfg.get("fill_color", 0),), (0,))
    check("resize_mode", (mode,), ("shortest", "longest", "squash"))
    # "random" is for training; at inference it is bicubic.
    check("interpolation", (filter,), (None, "bicubic", "bilinear", "random"))
    # The network's own size comes before the size beside the statistics.
    key = "image_size" if "image_size" in vision else "size"
    size = _side({"size": 224} | cfg | vision, key, file)
    step = Preprocess(
        resize="exact",
        size=size,
        filter="bilinear" if filter == "bilinear" else "bicubic",
        mean=_triple(cfg, "mean", OPENAI_MEAN, file),
        std=_triple(cfg, "std", OPENAI_STD, file),
    )
    if mode == "squash":
        return step
    return replace(step, resize=mode, crop=size, centre="even")


def _part(raw: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    """The object at a key without its nulls; empty where there is none."""
    value = raw.get(key)
    if not isinstance(value, dict | None):
        raise CheckpointError(f"{file}: {key} = {value!r} is not an object")
    return {k: v for k, v in (value or {}).items() if v is not None}


def _side(
    raw: dict[str, Any],
    key: str,
    file: Path,
    *,
    edges: tuple[str, ...] = ("height", "width"),
) -> int:
    """One length: n, [n, n], or an object with n at all of ``edges`` and no other."""
    value = raw[key]
    sides = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        written = {k: v for k, v in value.items() if v is not None}
        sides = [written[k] for k in edges] if set(written) == set(edges) else []
    if not sides or any(type(n) is not int or n < 1 or n != sides[0] for n in sides):
        wanted = " = ".join(edges)
        raise CheckpointError(
            f"{file}: {key} = {value!r} is not supported (supported: a whole number, "
            f"or {wanted})"
        )
    return sides[0]


def _triple(raw: dict[str, Any], key: str, default: Triple, file: Path) -> Triple:
    value = raw.get(key, default)
    low = 0 if key.endswith("std") else -math.inf
    try:
        r, g, b = map(float, value)
        if not all(low < x < math.inf for x in (r, g, b)):
            raise ValueError
    except (TypeError, ValueError):
        kind = "positive numbers" if low == 0 else "numbers"
        raise CheckpointError(
            f"{file}: {key} = {value!r} must hold three {kind}"
        ) from None
    return r, g, b


def _factor(raw: dict[str, Any], file: Path) -> float:
    value = raw.get("rescale_factor", 1 / 255)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise CheckpointError(
            f"{file}: rescale_factor = {value!r} must be a positive number"
        )
    return float(value)
