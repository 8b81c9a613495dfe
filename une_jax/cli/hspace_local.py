"""``une-jax hspace local``: what changes one image most, by its UNet's own Jacobian."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float32

from une_jax import directions as files
from une_jax import zoo
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.report import tables

if TYPE_CHECKING:
    from une_jax.cli.diffusion import Diffusion
    from une_jax.jacobian import Singular

SPREAD = 64  # images whose h says what a standard deviation along a direction is
LEAST = 1e-3  # of the largest change: below it a direction is rounding


@dataclass(frozen=True, kw_only=True)
class Local:
    """Find the moves of one image's h that change what the UNet predicts most.

    The right singular vectors of the Jacobian from h to the prediction, at one step
    (Haas et al.); needs no labels and no training. Edit that image along them, or others.
    """

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """the file to write, e.g. local.safetensors, for `une-jax hspace edit`"""
    row: int = 0
    """which of the zoo's images"""
    t: int = 500
    """at the sampling step whose timestep is nearest; the moves are used at all steps"""
    components: int = 3
    """how many directions, j1, j2, ..."""
    region: Annotated[tuple[float, float, float, float] | None, OWN_DEFAULT] = None
    """only what changes inside LEFT TOP RIGHT BOTTOM counts, from 0 to 1 across the image
    (default: all of it)"""
    tolerance: float = 1e-5
    """the iteration ends when no squared value changes by more, of the largest"""
    iterations: int = 50
    """at most"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which view of the zoo, a latent generator's or a pixel diffusion model's (default:
    its only one, or --generator's)"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        for name, least in (("components", 1), ("iterations", 1)):
            if (value := getattr(self, name)) < least:
                raise UneError(f"--{name} is {value}; use {least} or more")
        if self.out.is_dir():
            raise UneError(f"{self.out} is a folder; choose a file for --out")
        opened = zoo.open(self.zoo)
        view = pictures.diffusion_view(opened, self.view, self.generator)
        count = opened.rows.num_rows
        if count < 2:
            raise UneError(
                f"{opened.path} has {count} images: strengths count in standard deviations "
                "over a zoo's images, which takes 2 or more"
            )
        if not 0 <= self.row < count:
            raise UneError(f"--row {self.row}: {opened.path} has rows 0 to {count - 1}")
        mask = None if self.region is None else box(self.region, view.shape[1:])

        from une_jax.cli import inside
        from une_jax.cli.diffusion import diffusion_of_view

        generator = diffusion_of_view(view, self.generator)
        inside.require_plain(generator)
        platform = generator.mesh.devices.flat[0].platform
        if platform == "gpu" and generator.settings.dtype != "float32":
            raise UneError(
                f"view {view.name!r} is of --dtype {generator.settings.dtype}, whose attention "
                "has no forward derivative on a GPU: build a zoo of --dtype float32"
            )
        sampled = inside.Sampled(generator, opened)
        at = np.array([self.row])
        noise = np.asarray(opened[view.name][at], np.float32)
        said = pictures.prompts_of(generator, opened, at)
        times = np.asarray(generator.walk_params["steps"].sampling.t)
        step = int(np.argmin(np.abs(times - self.t)))
        seen = generator.walk(generator.walks.watched, noise, prompts=said)
        found = self._peaks(generator, np.asarray(seen.x)[:, step], times[step], said, mask)  # fmt: skip
        vectors, values = np.asarray(found.directions), np.asarray(found.values)
        there = int((values > LEAST * values[0]).sum())
        if there < self.components:
            raise UneError(
                f"--components {self.components}: h changes the output in {there} directions "
                f"only{', inside --region' if self.region else ''}; ask for fewer"
            )
        # As long at each step as one that changes the prediction by 1 at its own.
        moves = np.repeat((vectors / values.reshape(-1, 1, 1, 1))[:, None], len(times), 1)  # fmt: skip
        some = np.arange(min(count, SPREAD))
        flat = moves.reshape(len(moves), -1)
        along = np.concatenate(
            [np.asarray(h).reshape(len(h), -1) @ flat.T for h in sampled.chunks(some)]
        )
        names = [f"j{i + 1}" for i in range(len(moves))]
        about = {"name": "h jacobian", "row": self.row, "t": int(times[step]), "region": self.region}  # fmt: skip
        spread = along.std(0) / np.linalg.norm(flat, axis=1)
        files.save(self.out, sampled.packed(names, moves, spread, about, len(some)))
        table: list[tables.Row] = [
            {"direction": n, "change of the output": float(v), "residual": float(r), "spread": float(s)}
            for n, v, r, s in zip(names, values, np.asarray(found.residual), spread, strict=True)
        ]  # fmt: skip
        return {
            "view": view.name,
            "file": str(self.out),
            "row": self.row,
            "key": opened.rows.column("key")[self.row].as_py(),
            "t": int(times[step]),
            "iterations": int(found.iterations),
            "table": table,
        }

    def _peaks(
        self,
        generator: "Diffusion",
        x: Float32[np.ndarray, "1 h w c"],
        t: np.integer,
        prompts: list[str] | None,
        mask: Float32[np.ndarray, "h w"] | None,
    ) -> "Singular":
        import jax
        import jax.numpy as jnp

        from une_jax import hspace, jacobian
        from une_jax.cli import programs

        apply, own = generator.unet.apply, dict(generator.walk_params)
        if prompts is not None:
            own["cond"] = generator.condition(prompts[0])
        halves = programs.halves(apply)

        @jax.jit
        def peaks(own, x, t, mask):
            unet, cond, _ = programs.told(apply, own, {})
            h, rest = halves.down(unet, x, t, cond)

            def seen(move):  # in both branches, where there is guidance
                out = halves.up(unet, h + move[None].astype(h.dtype), rest)
                return hspace.raw(out, x)[0]

            return jacobian.singular(
                seen,
                jnp.zeros(h.shape[1:]),
                self.components,
                mask=mask,
                tol=self.tolerance,
                max_iter=self.iterations,
                at_once=1,
            )

        weight = jnp.ones((1, 1, 1)) if mask is None else jnp.asarray(mask)[..., None]
        return peaks(own, jnp.asarray(x), jnp.full(1, int(t)), weight)

    def text(self, result: dict[str, Any]) -> str:
        return (
            f"{tables.text(result['table'])}\n\nof {result['key']} at timestep {result['t']}, "
            f"after {result['iterations']} iterations\n{result['file']}"
        )


def box(
    region: tuple[float, float, float, float], shape: tuple[int, ...]
) -> Float32[np.ndarray, "h w"]:
    """1 inside (left, top, right, bottom), fractions of the edges; 0 outside.

    Raises:
        UneError: it is no box, or too small to hold a latent's place.

    >>> box((0.5, 0.0, 1.0, 0.5), (2, 4)).tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    left, top, right, bottom = region
    told = " ".join(f"{x:g}" for x in region)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UneError(f"--region {told}: give LEFT TOP RIGHT BOTTOM, from 0 to 1")
    h, w = shape
    rows, columns = (np.arange(n) + 0.5 for n in (h, w))
    inside = np.outer(
        (rows >= top * h) & (rows < bottom * h),
        (columns >= left * w) & (columns < right * w),
    )
    if not inside.any():
        raise UneError(f"--region {told}: none of {h}x{w} places is inside")
    return inside.astype(np.float32)
