"""``une-jax hspace edit``: one image, sampled again with its h moved."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from une_jax import images
from une_jax.cli import pictures
from une_jax.cli.edit import weighted
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """Invert an image, and sample it again with its h moved along directions."""

    directions: tuple[Path, ...]
    """a file from `une-jax hspace fit`; or one of scripts/train_asyrp.py, several of which
    go together"""
    image: Path
    """the image file to edit"""
    out: Path
    """folder for the edited images and grid.png"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """which direction, e.g. Smiling or pc3 (trained functions are named after their
    files); several go together, and Young=-0.5 goes half as far the other way (default:
    the only one)"""
    strength: Annotated[tuple[float, ...], OWN_DEFAULT] = ()
    """how far, in --unit (default: -3 to 3; of trained functions -1 to 1.5)"""
    unit: Annotated[Literal["sd", "raw"] | None, OWN_DEFAULT] = None
    """standard deviations of the sampled images along the direction; or times the move as
    it was found: of means the whole difference, of functions what they learnt (default:
    sd; of trained functions raw, their only one)"""
    process: Annotated[Literal["symmetric", "asymmetric"] | None, OWN_DEFAULT] = None
    """who sees the moved h: the whole step (Haas et al.), or only the image that it
    predicts (Asyrp), for half as much work again (default: symmetric; of trained functions
    asymmetric, as they learnt)"""
    t_edit: Annotated[int | None, OWN_DEFAULT] = None
    """h is moved at timesteps from here up (default: 0; of trained functions where they
    learnt)"""
    t_boost: int = 0
    """below this, each step draws noise (Asyrp's quality boosting)"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the generator (default: found by its name)"""
    prompt: str = ""
    """the image's prompt, where the zoo's images have each their own"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if not np.isfinite(self.strength).all():
            raise UneError("--strength: give numbers, none infinite or NaN")
        if self.out.exists() and not self.out.is_dir():
            raise UneError(f"{self.out} is a file; choose another --out")
        weights = dict(weighted(a) for a in self.attribute)
        picture = images.decode(self.image)

        from une_jax import hspace
        from une_jax.cli import hspace_moves, inside
        from une_jax.cli.diffusion import diffusion_of_view

        held = hspace_moves.load(self.directions).of(list(weights))
        weights = dict.fromkeys(held.names, 1.0) | weights
        strength = self.strength or held.usual
        amounts = held.amounts(list(weights.values()), strength, self.unit)
        symmetric = held.symmetric if self.process is None else self.process == "symmetric"  # fmt: skip
        generator = diffusion_of_view(held.view, self.generator, rows=len(strength))
        inside.require_plain(generator)
        held.require(generator)
        schedule = generator.walk_params["steps"]
        times = np.asarray(schedule.sampling.t)
        t_edit = held.t_edit if self.t_edit is None else self.t_edit
        phases = hspace.phases(schedule, t_edit=t_edit, t_boost=self.t_boost)
        if not np.asarray(phases.edit).any():
            raise UneError(
                f"--t-edit {t_edit}: no step is left to edit; the timesteps are "
                f"{times[0]} to {times[-1]}"
            )
        prompts = pictures.prompts_for(generator, self.prompt, 1)
        pixels = generator.prepare(picture)[None]
        noise = generator.compute(pixels, np.zeros(1, int), prompts).arrays[generator.name]  # fmt: skip
        edited = inside.edit(
            generator,
            np.asarray(noise, np.float32),
            held.moves,
            amounts[None],
            phases,
            symmetric=symmetric,
            rule=held.rule,
            prompts=prompts,
        )[0]
        labels = [f"{s:+g}" if s else "0" for s in strength]
        stem = "_".join([self.image.stem, "h", *weights])
        return {
            "attributes": weights,
            "unit": self.unit or held.unit,
            "process": "symmetric" if symmetric else "asymmetric",
            "strength": list(strength),
            "t_edit": t_edit,
            "steps edited": int(np.asarray(phases.edit).sum()),
            **pictures.write_strip(self.out, stem, labels, edited, pixels),
        }

    def text(self, result: dict[str, Any]) -> str:
        names = " and ".join(n if w == 1 else f"{w:g} x {n}" for n, w in result["attributes"].items())  # fmt: skip
        return (
            f"{names}, {result['process']}, h moved at {result['steps edited']} steps: "
            f"{len(result['images'])} images and {result['grid']}"
        )
