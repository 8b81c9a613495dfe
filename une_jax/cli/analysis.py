"""What the commands that analyse a zoo have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.report import tables
from une_jax.zoo import Zoo
from une_jax.zoo.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from une_jax.report.figures import Drawing  # matplotlib takes a second


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Base of the commands: a zoo, some of its views, and where to write."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """only these views (default: all that the analysis is about)"""
    csv: Annotated[Path | None, OWN_DEFAULT] = None
    """also write the table there"""
    figure: Annotated[Path | None, OWN_DEFAULT] = None
    """also draw it there, as PNG or SVG by the file's name"""
    json: Json = False

    def views(self, opened: Zoo, *kinds: str) -> tuple[str, ...]:
        """The views asked for, or all of these kinds.

        Raises:
            UneError: there is none, or a view asked for is not there; --figure is of
                another kind.
        """
        self.check_figure()
        for name in self.view:
            opened[name]  # the error lists those there are
        named = tuple(v.name for v in opened.manifest.views if v.kind in kinds)
        if not (self.view or named):
            raise UneError(f"{opened.path} has no {' or '.join(kinds)} view")
        return self.view or named

    def check_figure(self) -> None:
        """Before the work, not after it.

        Raises:
            UneError: --figure names neither a PNG nor an SVG file.
        """
        if self.figure and self.figure.suffix.lower() not in (".png", ".svg"):
            raise UneError(f"--figure {self.figure}: end its name in .png or .svg")

    def write(
        self, rows: Sequence[tables.Row], drawing: "Drawing | None" = None
    ) -> None:
        """``--csv`` and ``--figure``, where given."""
        if self.csv:
            tables.write_csv(self.csv, rows)
        if self.figure and drawing is not None:
            self.figure.parent.mkdir(parents=True, exist_ok=True)
            vector = self.figure.suffix.lower() == ".svg"
            write_bytes_atomically(self.figure, drawing.svg if vector else drawing.png)
