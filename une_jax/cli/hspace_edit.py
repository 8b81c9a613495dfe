"""``une-jax hspace edit``: one image, sampled again with its h moved."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from une_jax import directions as files
from une_jax import images
from une_jax.cli import pictures
from une_jax.cli.edit import weighted
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """Invert an image, and sample it again with its h moved along directions."""

    directions: Path
    """a file from `une-jax hspace fit`"""
    image: Path
    """the image file to edit"""
    out: Path
    """folder for the edited images and grid.png"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """which direction, e.g. Smiling or pc3; several go together, and Young=-0.5 goes half
    as far the other way (default: the only one)"""
    strength: tuple[float, ...] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    """how far, in --unit"""
    unit: Literal["sd", "raw"] = "sd"
    """standard deviations of the sampled images along the direction; or times the
    direction as it was found: of means, the whole difference"""
    process: Literal["symmetric", "asymmetric"] = "symmetric"
    """who sees the moved h: the whole step (Haas et al.), or only the image that it
    predicts (Asyrp), for half as much work again"""
    t_edit: int = 0
    """h is moved at timesteps from here up"""
    t_boost: int = 0
    """below this, each step draws noise (Asyrp's quality boosting)"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the generator (default: found by its name)"""
    prompt: str = ""
    """the image's prompt, where the zoo's images have each their own"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if not self.strength or not np.isfinite(self.strength).all():
            raise UneError("--strength: give one number or more, none infinite or NaN")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        found = files.load(self.directions)
        weights = dict(weighted(a) for a in self.attribute)
        if not weights and len(found.names) == 1:
            weights = {found.names[0]: 1.0}
        if not weights:
            raise UneError(f"{self.directions} has {', '.join(found.names)}: choose --attribute")  # fmt: skip
        at = [found.index(name) for name in weights]
        amounts = found.amounts(weights, self.strength, self.unit)[..., at]
        amounts = amounts / found.length[at]  # of the moves as they were found
        picture = images.decode(self.image)

        if found.view.settings.get("space") != "h":
            raise UneError(
                f"{self.directions} holds directions of noise: use `une-jax edit`"
            )

        from une_jax import hspace, hspace_files
        from une_jax.cli import inside
        from une_jax.cli.generator import generator_of_view

        of = dataclasses.replace(found.view, name=found.view.name.removesuffix(".h"))
        generator = generator_of_view(of, self.generator, rows=len(self.strength))
        inside.require_plain(generator)
        schedule = generator.walk_params["steps"]
        times = np.asarray(schedule.sampling.t)
        hspace_files.require(found, generator.views[0], times)
        phases = hspace.phases(schedule, t_edit=self.t_edit, t_boost=self.t_boost)
        if not np.asarray(phases.edit).any():
            raise UneError(
                f"--t-edit {self.t_edit}: no step is left to edit; the timesteps are "
                f"{times[0]} to {times[-1]}"
            )
        prompts = pictures.prompts_for(generator, self.prompt, 1)
        pixels = generator.prepare(picture)[None]
        noise = generator.compute(pixels, np.zeros(1, int), prompts).arrays[generator.name]  # fmt: skip
        edited = inside.edit(
            generator,
            np.asarray(noise, np.float32),
            hspace_files.unpack(found, list(weights)),
            amounts,
            phases,
            symmetric=self.process == "symmetric",
            prompts=prompts,
        )[0]
        labels = [f"{s:+g}" if s else "0" for s in self.strength]
        stem = "_".join([self.image.stem, "h", *weights])
        return {
            "attributes": weights,
            "unit": self.unit,
            "process": self.process,
            "strength": list(self.strength),
            "steps edited": int(np.asarray(phases.edit).sum()),
            **pictures.write_strip(self.out, stem, labels, edited, pixels),
        }

    def text(self, result: dict[str, Any]) -> str:
        names = " and ".join(n if w == 1 else f"{w:g} x {n}" for n, w in result["attributes"].items())  # fmt: skip
        return (
            f"{names}, {result['process']}, h moved at {result['steps edited']} steps: "
            f"{len(result['images'])} images and {result['grid']}"
        )
