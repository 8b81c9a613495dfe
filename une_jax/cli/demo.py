"""``une-jax demo``: the whole main job on the miniature, with no network."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from une_jax import miniature
from une_jax.cli.build import Build
from une_jax.cli.faces import ATTRIBUTES, IMAGES, Faces
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.report import Report

ATTRIBUTES_SHOWN = ("Smiling", "Eyeglasses", "Male", "Wearing_Hat")
PROMPTS = (
    "a photo of a young woman with blond hair, smiling",
    "a photo of an old man with gray hair and a beard, wearing glasses",
    "a photo of a young man with black hair, wearing a hat",
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Paint faces, invert and embed them, probe and edit their noise, write a page."""

    out: Path = Path("demo")
    """folder for faces/, zoo/ and report/; an unfinished demo there goes on"""
    quick: bool = False
    """a quarter of the faces, a quarter of the steps: a first look"""
    n: Annotated[int | None, OWN_DEFAULT] = None
    """how many faces (default: 800; --quick: 200)"""
    steps: Annotated[int | None, OWN_DEFAULT] = None
    """DDIM steps (default: 50; --quick: 12)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        from une_jax.miniature import truth

        start = time.monotonic()
        faces, zoo = self.out / "faces", self.out / "zoo"
        n = self.n or (200 if self.quick else 800)
        steps = self.steps or (12 if self.quick else 50)
        self._say(f"1/3 painting {n} faces")
        Faces(out=faces, n=n).run()
        self._say(f"2/3 inverting and embedding them ({zoo})")
        Build(
            images=faces / IMAGES,
            attributes=faces / ATTRIBUTES,
            generator=miniature.GENERATORS,
            encoder=miniature.ENCODERS,
            steps=steps,
            round_trip="none",  # the page measures its own
            controls=True,
            out=zoo,
        ).run()
        self._say("3/3 probing, mapping, sampling, editing")
        result = Report(
            zoo=zoo,
            out=self.out / "report",
            images=faces / IMAGES,
            truth=faces / truth.FILE,
            attribute=ATTRIBUTES_SHOWN,
            prompt=PROMPTS,
        ).run()
        return {**result, "seconds": round(time.monotonic() - start, 1)}

    def _say(self, what: str) -> None:
        print(f"demo: {what}", file=sys.stderr, flush=True)

    def text(self, result: dict[str, Any]) -> str:
        return (
            f"done in {result['seconds']:.0f} s\n"
            f"open {Path(result['report']).resolve()} in a browser"
        )
