"""``une-jax hspace``: directions in the UNet's bottleneck, and edits along them."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from une_jax.cli.hspace_curves import Curves
from une_jax.cli.hspace_edit import Edit
from une_jax.cli.hspace_fit import Fit
from une_jax.cli.hspace_local import Local


@dataclass(frozen=True, kw_only=True)
class Hspace:
    """Directions in the UNet's bottleneck (h-space), and edits along them."""

    parts: ClassVar = {"fit": Fit, "local": Local, "edit": Edit, "curves": Curves}

    do: Annotated[
        Annotated[Fit, tyro.conf.subcommand("fit")]
        | Annotated[Local, tyro.conf.subcommand("local")]
        | Annotated[Edit, tyro.conf.subcommand("edit")]
        | Annotated[Curves, tyro.conf.subcommand("curves")],
        tyro.conf.arg(name=""),
    ]

    @property
    def json(self) -> bool:
        return self.do.json

    def run(self) -> dict[str, Any]:
        return self.do.run()

    def text(self, result: dict[str, Any]) -> str:
        return self.do.text(result)
