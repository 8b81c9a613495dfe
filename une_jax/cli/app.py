"""``une-jax app``: edit and explore a NoiseZoo in the browser, on this machine."""

import dataclasses
import functools as ft
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from PIL import Image

from une_jax import sources, zoo
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.report import generator_views, sources_of
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax import shells
    from une_jax.app.studio import Judge
    from une_jax.cli.generator import Generator, Output

STRIP = 9  # pictures at once; while a slider moves it is one at a time


@dataclass(frozen=True, kw_only=True)
class App:
    """Serve a page to edit and explore a NoiseZoo, to this machine only."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """what the zoo was built from, to show originals (default: decoded from the noise)"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=PATH_OR_ID where a view's model is not found by its name"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """generator views to edit in (default: all; each is loaded when it is chosen)"""
    judge: Annotated[str | None, OWN_DEFAULT] = None
    """VIEW or VIEW=PATH_OR_ID: the encoder view whose probes read the edited picture
    itself, or "none" (default: the zoo's first encoder view)"""
    hspace: Annotated[tuple[Path, ...], OWN_DEFAULT] = ()
    """files of `une-jax hspace fit`, one a view, to edit in the UNet's bottleneck as well"""
    port: int = 7860
    """on 127.0.0.1; 0 for any that is free"""
    open: bool = False
    """also open a browser"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if importlib.util.find_spec("gradio") is None:
            raise UneError("the app needs gradio: pip install 'une-jax[app]'")
        if not 0 <= self.port < 65536:
            raise UneError(f"--port {self.port}: use 0 to 65535")
        opened = zoo.open(self.zoo)
        views = generator_views(opened, self.view)
        models = sources_of(self.generator, views)

        from une_jax.cli.hspace_given import given

        inside = given(self.hspace, views)

        from une_jax.app.pictures import Pictures
        from une_jax.app.studio import Studio
        from une_jax.report import originals

        found = None
        if self.images is not None:
            found = originals.Originals(opened, sources.open(self.images))
        coders = {v.name: ft.partial(_coder, v, models.get(v.name)) for v in views}
        pictures = Pictures(opened, coders, found)
        studio = Studio(pictures, _judges(opened, self.judge), inside)
        start = time.monotonic()
        edit = studio.warm(studio.views[0], _say)
        _say(
            f"ready after {time.monotonic() - start:.1f} s; an edit takes {edit:.2f} s"
        )

        from une_jax.app import page, serving

        built = page.build(studio)
        url = serving.serve(built, port=self.port, open_browser=self.open)
        told = json.dumps({"url": url}) if self.json else f"open {url} (Ctrl-C ends it)"
        print(told, flush=True)
        try:
            threading.Event().wait()
        finally:
            built.close(verbose=False)
        return {"url": url}

    def text(self, result: dict[str, Any]) -> str:
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coder:
    """A generator for one picture at a time and for many, each without padding."""

    one: "Generator"
    many: "Generator"

    @property
    def size(self) -> int:
        return self.one.size

    @property
    def decodes_from(self) -> tuple[str, ...]:
        return self.one.decodes_from

    def prepare(self, image: Image.Image) -> np.ndarray:
        return self.one.prepare(image)

    def compute(
        self, pixels: np.ndarray, rows: np.ndarray, prompts: Sequence[str] | None = None
    ) -> "Output":
        return self.one.compute(pixels, rows, prompts)

    def edit(
        self,
        origin: Mapping[str, np.ndarray],
        moves: np.ndarray,
        amounts: np.ndarray,
        *,
        control: "shells.Control" = "off",
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        generator = self._for(amounts)
        return generator.edit(origin, moves, amounts, control=control, prompts=prompts)

    def edit_inside(
        self,
        origin: Mapping[str, np.ndarray],
        moves: np.ndarray,
        amounts: np.ndarray,
        *,
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        from une_jax.cli import hspace_given

        generator, noise = self._for(amounts), origin[self.one.name]
        return hspace_given.edit(generator, noise, moves, amounts, prompts)

    def _for(self, amounts: np.ndarray) -> "Generator":
        n, places, _ = amounts.shape
        return self.one if n * places <= self.one.batch_size else self.many


def _coder(view: zoo.View, source: str | None) -> Coder:
    from une_jax.cli.generator import generator_of_view

    many = generator_of_view(view, source, rows=STRIP)
    # An upload is measured on the page, from the picture that it gives back.
    settings = dataclasses.replace(many.settings, round_trip="none")
    many = dataclasses.replace(many, settings=settings)
    return Coder(one=dataclasses.replace(many, batch_size=many.mesh.size), many=many)


def _judges(opened: zoo.Zoo, asked: str | None) -> tuple["Judge", ...]:
    """The encoder that reads edited pictures, if any."""
    from une_jax.cli.encoder import encoder_of_view, named_view

    found = None if asked == "none" else named_view(opened, asked)
    if found is None:
        if asked in (None, "none"):
            return ()
        encoders = [v.name for v in opened.manifest.views if v.kind == "encoder"]
        listed = ", ".join(encoders) or "none"
        raise UneError(f"--judge {asked}: {opened.path} has the encoder views {listed}")
    view, source = found
    try:
        encoder = encoder_of_view(view, source, rows=1)
    except UneError as error:
        if asked is not None:
            raise UneError(f"--judge {view.name}: {error}") from error
        _say(f"no judge beside the noise: {error}")
        return ()
    return (encoder,)


def _say(what: str) -> None:
    print(f"app: {what}", file=sys.stderr, flush=True)
