"""The layout of the UNE authors' release: a `noises_<model>.npy` a model.

Their files have no keys, no attributes and no settings, and spell the encoders in more
than one way (github.com/chentasker/UNE, MIT). Ours, of the same layout, come with
`keys.txt` (one a line) and, where there are attributes, `attributes.csv` (1 and -1, as
CelebA's CSV twin; empty where unknown).
"""

import contextlib
import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from une_jax import miniature, zoo
from une_jax.errors import UneError
from une_jax.interop import npy, stream
from une_jax.zoo import checks

PREFIX, SUFFIX = "noises_", ".npy"
KEYS, ATTRIBUTES = "keys.txt", "attributes.csv"

SIGN = {True: "1", False: "-1", None: ""}

# The authors' spellings -> ours; all others are kept.
SPELLINGS = {
    "lcmv7": "lcm7",
    "vitB16": "clip-b16",
    "vitL14": "clip-l14",
    "ocB16": "openclip-b16",
    "vitB16_oc": "openclip-b16",
    "ocL14": "openclip-l14",
    "vitL14_oc": "openclip-l14",
    "dinov3": "dinov3-l16",
    "dino": "dinov3-l16",
}
GENERATORS = ("sd15", "sd21", "sd21-768", "lcm7", "sdxl", *miniature.GENERATORS)


def view_name(path: Path) -> str:
    """The view that a file is, by its name.

    Raises:
        UneError: the name cannot be a view's.

    >>> view_name(Path("data/noises_vitB16_oc.npy")), view_name(Path("mine.npy"))
    ('openclip-b16', 'mine')
    """
    model = path.name.removesuffix(SUFFIX).removeprefix(PREFIX)
    name = SPELLINGS.get(model, model)
    if checks.NAME.fullmatch(name) is None:
        raise UneError(
            f"{path}: {name!r} cannot be a view's name (letters, digits, '.', '_', "
            "'-'); write NAME=FILE"
        )
    return name


def name_views(specs: Sequence[str]) -> dict[str, Path]:
    """`FILE` and `NAME=FILE` -> the file of each view, in their order.

    Raises:
        UneError: two files are one view, or a name cannot be a view's.
    """
    files: dict[str, Path] = {}
    for spec in specs:
        name, equals, file = spec.partition("=")
        named = equals and checks.NAME.fullmatch(name) and not Path(spec).exists()
        path = Path(file if named else spec)
        name = name if named else view_name(path)
        if name in files:
            raise UneError(
                f"{files[name]} and {path} are both view {name!r}; leave one out or "
                "write NAME=FILE"
            )
        files[name] = path
    return files


def shape_of(
    name: str, width: int, given: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """The shape of a view's rows of `width` numbers.

    That in `given`, else (4, h, h) for the diffusion models in `GENERATORS`, else
    (width,).

    Raises:
        UneError: such a shape does not have `width` numbers.

    >>> shape_of("sd15", 16384, {}), shape_of("clip-b16", 512, {})
    ((4, 64, 64), (512,))
    """
    if name in given:
        shape = given[name]
        if math.prod(shape) != width:
            raise UneError(
                f"--shape {name}={','.join(map(str, shape))}: that is "
                f"{math.prod(shape)} numbers, and the file has {width} a row"
            )
        return shape
    if name not in GENERATORS:
        return (width,)
    edge = math.isqrt(width // 4)
    if 4 * edge * edge != width:
        raise UneError(
            f"{name} is a diffusion model, but {width} numbers a row are no 4 x h x h; "
            f"say which with --shape {name}=C,H,W, or name the view otherwise with "
            "NAME=FILE"
        )
    return (4, edge, edge)


def parse_shape(spec: str) -> tuple[str, tuple[int, ...]]:
    """`VIEW=C,H,W` -> the view and its shape.

    Raises:
        UneError: it is not of this form.

    >>> parse_shape("mine=4,32,48")
    ('mine', (4, 32, 48))
    """
    match = re.fullmatch(r"([^=]+)=([1-9]\d{0,8}),([1-9]\d{0,8}),([1-9]\d{0,8})", spec)
    if match is None:
        raise UneError(f"--shape {spec}: write VIEW=C,H,W, as sd15=4,64,64")
    name, *lengths = match.groups()
    return name, tuple(map(int, lengths))


def write(
    opened: zoo.Zoo,
    folder: Path,
    views: Sequence[zoo.View],
    counts: Mapping[str, int],
    done: Callable[[int], None],
) -> list[str]:
    """Writes the ok rows of a finished zoo into the empty `folder`, in their order.

    Args:
        opened: a finished zoo; its ok rows are written.
        folder: an empty folder.
        views: the views to write.
        counts: of the splits to write, as from `stream.count`.
        done: is told how many rows were written, part by part.

    Returns:
        What people should know of it, a line each.

    Raises:
        UneError: the zoo is damaged.
    """
    names = opened.attribute_names
    with contextlib.ExitStack() as stack:

        def text(file: str) -> TextIO:
            path = folder / file
            return stack.enter_context(open(path, "x", encoding="utf-8", newline=""))

        files = {}
        for view in views:
            path = folder / f"{PREFIX}{view.name}{SUFFIX}"
            file = files[view.name] = stack.enter_context(open(path, "xb"))
            width, dtype = math.prod(view.shape), stream.plain_dtype(view)
            file.write(npy.header(sum(counts.values()), width, dtype))
        keys = text(KEYS)
        table = csv.writer(text(ATTRIBUTES), lineterminator="\n") if names else None
        if table is not None:
            table.writerow(["image_id", *names])
        for part in stream.parts(opened, views, counts):
            for name, latents in part.latents.items():
                files[name].write(np.ascontiguousarray(stream.plain(latents)).data)
            columns = [part.rows.column(n).to_pylist() for n in ("key", *names)]
            keys.writelines(f"{key}\n" for key in columns[0])
            if table is not None:
                table.writerows(
                    [key, *(SIGN[value] for value in values)]
                    for key, *values in zip(*columns, strict=True)
                )
            done(part.rows.num_rows)
    return stream.notes(views)
