"""``une-jax translate``: images that one model encodes and another one decodes."""

import dataclasses
import json as json_
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from une_jax import images
from une_jax.cli import names
from une_jax.cli.listing import Picture, list_pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.report import tables
from une_jax.zoo.atomic import make_folder, write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.cli.translator import Translator

MARK, GRID = "translate.json", "grid.png"
PART = 64  # images in memory at once
SHOWN = 12  # rows of the grid
LAST = 2**32 - 1  # seed
AGAIN = "reconstruction"


class Column(NamedTuple):
    """One way to translate all images."""

    label: str
    skip: int
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Encode images with one model and decode the same code with another.

    No pairs are needed: models that were trained apart share the noise that they start
    from. Models have latents of one shape, or walk in pixels of one size; or it is one
    model, with two prompts.
    """

    images: tuple[Path, ...]
    """image files, or a folder of them (or any collection that build reads)"""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """PATH_OR_ID or built-in name of the model that encodes, e.g. mini-sd15"""
    to: str
    """PATH_OR_ID or built-in name of the model that decodes, e.g. mini-sd21"""
    out: Path
    """folder for the images, grid.png and translate.json"""
    prompt_from: str = ""
    """what the images show, for the model that encodes"""
    prompt_to: str = ""
    """what they are to show, for the one that decodes"""
    guidance_from: float = 1.0
    """scale of classifier-free guidance in encoding; 1: none"""
    guidance_to: tuple[float, ...] = (1.0,)
    """and in decoding; several give a column each"""
    skip: tuple[int, ...] = (0,)
    """leave out so many of the first steps (the more, the more of the image stays); several
    give a column each"""
    code: Literal["dpm-encoder", "edit-friendly", "ddim"] = "dpm-encoder"
    """the code: all noise of a sampled path (CycleDiffusion); of independent samples
    (edit-friendly DDPM); or DDIM inversion's noise alone"""
    eta: Annotated[float | None, OWN_DEFAULT] = None
    """noise of the sampler that the code belongs to, above 0 up to 1 (default: the code's
    own, 0.1 of dpm-encoder and 1 of edit-friendly; not for ddim)"""
    steps: int = 100
    """steps of both models"""
    seed: int = 0
    """of the codes' noise"""
    size: Annotated[int | None, OWN_DEFAULT] = None
    """the images' edge in pixels (default: the models' own)"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the networks' arithmetic"""
    batch_size: Annotated[int | None, OWN_DEFAULT] = None
    """images a call (default: what keeps the devices busy)"""
    limit: Annotated[int | None, OWN_DEFAULT] = None
    """only the first so many images"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        self._require_sense()
        columns = self._columns()
        pictures = list_pictures(self.images, self.limit)
        translator = self._load(len(pictures))
        asked = self._asked(translator, pictures)
        self._begin(asked)
        rows, psnr, grid = np.arange(len(pictures)), [], np.zeros(0, np.uint8)
        with Progress(len(pictures), "translating") as progress:
            for start in range(0, len(pictures), PART):
                some = rows[start : start + PART]
                part = [pictures[row] for row in some]
                given = np.stack([translator.source.prepare(p.decode()) for p in part])
                made = self._made(translator, part, given, some, columns, progress)
                psnr.append(_psnr(made, given))
                if start == 0:
                    grid = np.concatenate([given[:, None], made], axis=1)[:SHOWN]
        self._write_grid(grid, columns, pictures)
        return self._finish(asked, columns, pictures, np.concatenate(psnr))

    def text(self, result: dict[str, Any]) -> str:
        how = result["settings"]
        rows = [
            {"column": label, "PSNR to the image, dB": value}
            for label, value in result["psnr"].items()
        ]
        source, target = how["from"]["model"], how["to"]["model"]
        note = (
            ""
            if how["shared_vae"]
            else f"; {target} has a VAE of its own, to which {source}'s latents are strange"
        )
        return (
            f"{len(how['images'])} images from {source} to {target} by {how['code']}: "
            f"{result['grid']}{note}\n\n{tables.text(rows, digits=2)}"
        )

    def _require_sense(self) -> None:
        """What can be said of the options before anything is read."""
        if self.code != "ddim" and self.eta is not None and not 0 < self.eta <= 1:
            raise UneError(
                f"--eta {self.eta:g}: use above 0, up to 1 (without noise there is no "
                "code; that is --code ddim)"
            )
        if self.code == "ddim" and self.eta is not None:
            raise UneError("--eta: --code ddim draws no noise; leave it out")
        if not self.skip or not self.guidance_to:
            raise UneError("--skip and --guidance-to: give one number or more")
        for skip in self.skip:
            if not 0 <= skip < self.steps:
                raise UneError(f"--skip {skip}: of {self.steps} steps, leave out 0 to {self.steps - 1}")  # fmt: skip
        if not np.isfinite([self.guidance_from, *self.guidance_to]).all():
            raise UneError("--guidance-from and --guidance-to: use numbers, 1 for none")
        if not 0 <= self.seed <= LAST:
            raise UneError(f"--seed {self.seed}: use 0 to {LAST}")
        if self.limit is not None and self.limit < 1:
            raise UneError(f"--limit {self.limit}: use 1 or more")

    def _columns(self) -> list[Column]:
        """Every skip with every guidance, by what of them varies."""
        skips, scales = dict.fromkeys(self.skip), dict.fromkeys(self.guidance_to)

        def label(skip: int, scale: float) -> str:
            said = [f"skip {skip}"] if len(skips) > 1 else []
            said += [f"guidance {scale:g}"] if len(scales) > 1 else []
            return ", ".join(said) or "translated"

        return [
            Column(label(skip, scale), skip, scale)
            for skip in skips
            for scale in scales
        ]

    def _load(self, rows: int) -> "Translator":
        models = [names.resolve(spec) for spec in (self.source, self.to)]

        from une_jax import codes
        from une_jax.cli.diffusion import load_diffusion
        from une_jax.cli.settings import Settings
        from une_jax.cli.translator import Translator

        settings = [
            Settings(
                steps=self.steps,
                prompt=prompt,
                guidance=scale,
                seed=self.seed,
                round_trip="none",
                size=self.size,
                dtype=self.dtype,
            )
            for prompt, scale in (
                (self.prompt_from, self.guidance_from),
                (self.prompt_to, self.guidance_to[0]),
            )
        ]
        how = {"batch_size": self.batch_size, "rows": rows}
        source = load_diffusion(models[0], settings[0], **how)
        target = (  # one model with two prompts has its weights once
            dataclasses.replace(source, settings=settings[1])
            if models[0] == models[1]
            else load_diffusion(models[1], settings[1], **how)
        )
        for option, generator, scales in (
            ("from", source, (self.guidance_from,)),
            ("to", target, self.guidance_to),
        ):
            embeds = generator.samples_in_few_steps
            if not (embeds or generator.settings.prompt or set(scales) <= {1.0}):
                raise UneError(
                    f"--guidance-{option} says nothing without --prompt-{option}"
                )
        eta = None
        if self.code != "ddim":
            eta = codes.ETA[self.code] if self.eta is None else self.eta
        return Translator(source=source, target=target, code=self.code, eta=eta)

    def _asked(
        self, translator: "Translator", pictures: Sequence[Picture]
    ) -> dict[str, Any]:
        """What the folder's contents depend on."""
        source, target = (
            {
                "model": generator.name,
                "model_id": generator.views[0].model_id,
                "weights_sha256": generator.views[0].weights_sha256,
                "prompt": prompt,
                "guidance": scale,
            }
            for generator, prompt, scale in (
                (translator.source, self.prompt_from, self.guidance_from),
                (translator.target, self.prompt_to, list(self.guidance_to)),
            )
        )
        return {
            "from": source,
            "to": target,
            "shared_vae": translator.shares_vae,
            "code": self.code,
            "eta": translator.eta,
            "steps": self.steps,
            "skip": list(self.skip),
            "seed": self.seed,
            "size": translator.source.size,
            "dtype": self.dtype,
            "images": [picture.name for picture in pictures],
            # Another file of the same name has another translation.
            "images_sha256": [picture.sha256() for picture in pictures],
        }

    def _begin(self, asked: dict[str, Any]) -> None:
        """Marks the folder; refuses one that holds anything but these translations."""
        mark = self.out / MARK
        if mark.is_file():
            try:
                there = json_.loads(mark.read_text()).get("settings")
            except (ValueError, AttributeError):
                there = None
            if there != asked:
                raise UneError(
                    f"{self.out} holds other translations (see {mark}); choose another "
                    "--out"
                )
            return
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UneError(f"{self.out} is not an empty folder; choose another --out")
        make_folder(self.out)
        write_bytes_atomically(mark, _said({"settings": asked}))

    def _made(
        self,
        translator: "Translator",
        part: Sequence[Picture],
        given: np.ndarray,
        rows: np.ndarray,
        columns: Sequence[Column],
        progress: Progress,
    ) -> np.ndarray:
        """(n, 1 + columns, size, size, 3): reconstructed and translated, and on disk.

        What is there from a run that was interrupted is read, not made again.
        """
        labels = [AGAIN, *(column.label for column in columns)]
        files = [[self._file(p, label) for label in labels] for p in part]
        todo = np.array([not all(f.is_file() for f in own) for own in files])
        made = np.zeros((len(part), len(labels), *given.shape[1:]), np.uint8)
        for i in np.flatnonzero(~todo):
            made[i] = [np.asarray(images.decode(file)) for file in files[i]]
        progress.add(int((~todo).sum()))
        if not todo.any():
            return made
        pixels, rows = given[todo], rows[todo]
        # By its longest way: that of the stochastic codes is exact, whatever the way.
        walks = [translator.reconstruct(pixels, rows, skip=min(self.skip))]
        for column in columns:
            how = {"skip": column.skip, "guidance_to": column.guidance}
            walks.append(translator.translate(pixels, rows, **how))
        made[todo] = np.stack(walks, axis=1)
        for i in np.flatnonzero(todo):
            for file, image in zip(files[i], made[i], strict=True):
                write_bytes_atomically(file, images.png(image))
            progress.add(1)
        return made

    def _file(self, picture: Picture, label: str) -> Path:
        return self.out / f"{picture.name}_{re.sub(r'[ ,]+', '_', label)}.png"

    def _write_grid(
        self,
        shown: np.ndarray,
        columns: Sequence[Column],
        pictures: Sequence[Picture],
    ) -> None:
        from une_jax.report import figures

        labels = [column.label for column in columns]
        wide = 192 if max(map(len, labels)) > 16 else 96  # for the label to fit
        png = figures.sheet(
            shown,
            rows=[picture.name[-24:] for picture in pictures[: len(shown)]],
            columns=["image", AGAIN, *labels],
            tile=max(wide, min(256, shown.shape[3])),
        )
        write_bytes_atomically(self.out / GRID, png)

    def _finish(
        self,
        asked: dict[str, Any],
        columns: Sequence[Column],
        pictures: Sequence[Picture],
        psnr: np.ndarray,
    ) -> dict[str, Any]:
        labels = [AGAIN, *(column.label for column in columns)]
        result = {
            "settings": asked,
            "psnr": dict(zip(labels, psnr.mean(axis=0).tolist(), strict=True)),
            "translations": [
                {
                    "image": picture.name,
                    "files": {x: self._file(picture, x).name for x in labels},
                    "psnr": dict(zip(labels, row, strict=True)),
                }
                for picture, row in zip(pictures, psnr.tolist(), strict=True)
            ],
            "grid": GRID,
        }
        write_bytes_atomically(self.out / MARK, _said(result))
        return {**result, "out": str(self.out), "grid": str(self.out / GRID)}


def _psnr(made: np.ndarray, given: np.ndarray) -> np.ndarray:
    """dB (n, columns) between images and what was made of them."""
    from une_jax import image_metrics

    unit = [x.astype(np.float32) / 255 for x in (made, given)]
    parts = [image_metrics.psnr(unit[0][:, i], unit[1]) for i in range(made.shape[1])]
    return np.stack([np.asarray(part) for part in parts], axis=1)


def _said(value: dict[str, Any]) -> bytes:
    return (json_.dumps(value, indent=2) + "\n").encode()
