"""A diffusion pipeline as the commands use it: images to noise, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from ports import stable_diffusion
from ports.checkpoint import CheckpointError
from ports.conditioning import Condition
from une_jax import consistency, images, parallel
from une_jax.cli import programs
from une_jax.cli.batches import DTYPES, STORED, Output, batch_size_for, batched
from une_jax.cli.devices import device_mesh
from une_jax.cli.names import Model, resolve
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.zoo import View

# Far from the small seeds that people choose: a row's key must be no face's own key,
# or the control's noise would be the face's true latent.
CONTROL_SEED = 0xF0_4A_4D
# What consistency models embed, in both directions.
NO_GUIDANCE = 1.0
# Of a consistency model's own way of sampling.
FEW_STEPS = 4
Cond = jax.Array | Condition


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images become noise. Part of a zoo's identity.

    Attributes:
        method: "ddim", "fixed-point", "exact" or "dpm-encoder".
        prompt: of every image; None where each has its own, given to ``compute``.
        guidance: the scale of classifier-free guidance, 1 for none; consistency models
            embed it instead.
        negative: the prompt that guidance leads away from.
        eta, seed: of the DPM-Encoder's noise.
        round_trip: what is measured of the way back: "none", "latent" or "pixels".
    """

    steps: int = 50
    eval_at: str = "source"
    method: str = "ddim"
    prompt: str | None = ""
    guidance: float = 1.0
    negative: str = ""
    eta: float = 0.1
    seed: int = 0
    round_trip: str = "latent"
    size: int | None = None
    dtype: str = "float32"
    controls: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """A diffusion pipeline with an inversion schedule. Get one from ``load_generator``."""

    name: str
    views: tuple[View, ...]
    size: int
    sd: stable_diffusion.StableDiffusion = field(repr=False)
    vae_params: Any = field(repr=False)
    walk_params: dict[str, Any] = field(repr=False)
    few_steps: consistency.Steps | None = field(repr=False)
    method: str
    mesh: Mesh
    batch_size: int

    @property
    def _vae(self) -> programs.Pictures:
        return programs.pictures(self.sd.vae.apply, self.sd.vae.config, self.mesh)

    @property
    def _unet(self) -> programs.Walks:
        return programs.walks(self.sd.unet.apply, self.mesh)

    def prepare(self, image: Image.Image) -> np.ndarray:
        return images.centre_crop(image, self.size)

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """(b, size, size, 3) uint8 and the rows' numbers -> NCHW noise and controls.

        ``prompts``, one an image, where ``Settings.prompt`` is None, and only there.
        """
        x0 = self._run(self._vae.encode, self.vae_params, pixels)
        refined = self.method == "fixed-point"
        invert = self._unet.refine if refined else self._unet.invert
        out = self._run(invert, self.walk_params, x0)
        stored = self.views[0].dtype
        arrays = {self.name: _nchw(out["x_T"], stored)}
        if len(self.views) > 1:
            alpha = self.walk_params["steps"].inversion.alpha_to[-1]
            keys = programs.row_keys(CONTROL_SEED, jnp.asarray(rows, jnp.int32))
            forward = np.asarray(programs.forward_noised(x0, alpha, keys))
            arrays[f"{self.name}.x0"] = _nchw(x0, stored)
            arrays[f"{self.name}.forward"] = _nchw(forward, stored)
        return Output(arrays=arrays, columns={f"residual/{self.name}": out["residual"]})

    def decode(self, noise: np.ndarray, cond: Cond | None = None) -> np.ndarray:
        """NCHW noise (b, 4, h, w) -> uint8 images; ``cond`` for one prompt."""
        return self._pictures(self._denoise(noise, cond))

    @property
    def samples_in_few_steps(self) -> bool:
        """Whether this is a consistency model, with a ``decode_few``."""
        return self.few_steps is not None

    def decode_few(self, noise: np.ndarray, cond: Cond | None = None) -> np.ndarray:
        """``decode`` in ``FEW_STEPS`` consistency steps, which draw noise of their own."""
        if self.few_steps is None:
            raise UneError(f"{self.name} is no consistency model; use decode")
        batch = {"x_T": _nhwc(noise), "row": np.arange(len(noise), dtype=np.int32)}
        params = {**self._given(cond), "steps": self.few_steps}
        return self._pictures(self._run(self._unet.sample_few, params, batch))

    def denoise(self, noise: np.ndarray) -> np.ndarray:
        """NCHW noise -> NCHW latents x0: ``decode`` without the VAE."""
        return _nchw(self._denoise(noise, None), "float32")

    def autoencode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 images through the VAE and back: what no inversion can improve on."""
        return self._pictures(self._run(self._vae.encode, self.vae_params, pixels))

    def condition(self, prompt: str) -> Cond:
        return condition(self.sd, prompt, self.size)

    def _denoise(self, noise: np.ndarray, cond: Cond | None) -> np.ndarray:
        return self._run(self._unet.sample, self._given(cond), _nhwc(noise))

    def _pictures(self, x0: np.ndarray) -> np.ndarray:
        return self._run(self._vae.decode, self.vae_params, x0)

    def _run(self, program: programs.Program, params: Any, batch: Any) -> Any:
        return batched(program, params, batch, self.mesh, self.batch_size)

    def _given(self, cond: Cond | None) -> dict[str, Any]:
        if cond is None:
            return self.walk_params
        # Placed as the own prompt is, or the program would be compiled anew.
        return {**self.walk_params, "cond": parallel.replicate(cond, self.mesh)}


def condition(sd: stable_diffusion.StableDiffusion, prompt: str, size: int) -> Cond:
    """What the UNet is told for one prompt at this image size, without guidance."""
    embeds = sd.unet.config.time_cond_proj_dim is not None
    scale = NO_GUIDANCE if embeds else "unset"
    return stable_diffusion.encode_prompts(
        sd, [prompt], guidance_scale=scale, size=size
    )


def load_generator(
    model: Model,
    settings: Settings,
    *,
    batch_size: int | None = None,
    rows: int | None = None,
) -> Generator:
    """A pipeline with its weights and its schedule on the devices.

    ``rows`` is the most that a call will have, where the batch need not be larger.
    """
    sd = stable_diffusion.load(
        model.source, revision=model.revision, dtype=DTYPES[settings.dtype]
    )
    factor = 2 ** (len(sd.vae.config.block_out_channels) - 1)
    size = settings.size or (sd.unet.config.sample_size or 64) * factor
    if size % factor:
        raise UneError(f"--size {size} is not a multiple of {factor}, as {model.name}'s VAE needs")  # fmt: skip
    schedule = Schedule.from_config(
        sd.scheduler, steps=settings.steps, eval_at=settings.eval_at
    )
    few = None
    if sd.unet.config.time_cond_proj_dim is not None:
        few = consistency.steps_of(sd.scheduler, steps=FEW_STEPS)
    mesh = device_mesh()
    walk = {
        "unet": sd.unet.params,
        "cond": condition(sd, settings.prompt or "", size),
        "steps": schedule,
    }
    edge = size // factor
    return Generator(
        name=model.name,
        views=_generator_views(model, sd, settings, schedule, size, edge),
        size=size,
        sd=sd,
        vae_params=parallel.replicate(sd.vae.params, mesh),
        walk_params=parallel.replicate(walk, mesh),
        few_steps=parallel.replicate(few, mesh),
        method=settings.method,
        mesh=mesh,
        batch_size=batch_size_for(batch_size, rows, edge * edge, mesh),
    )


def _generator_views(model, sd, settings, schedule, size, edge) -> tuple[View, ...]:
    config = sd.unet.config
    common = {
        "model_id": model.model_id,
        "weights_sha256": sd.weights_sha256,
        "config": {"in_channels": config.in_channels, "size": size},
        "shape": (config.in_channels, edge, edge),
        "dtype": STORED[settings.dtype],
    }
    preprocessing = {
        "crop": "centre square",
        "resize": {"size": size, "filter": "bilinear"},
        "range": [-1, 1],
        "vae": {"posterior": "mode", "scaling_factor": sd.vae.config.scaling_factor},
    }
    how = {
        "scheduler": sd.scheduler,
        "steps": settings.steps,
        "terminal_t": schedule.terminal_t,
        "eval_at": settings.eval_at,
        "prompt": settings.prompt,
        "dtype": settings.dtype,
        "preprocessing": preprocessing,
    }
    if settings.method == "fixed-point":
        how |= {"method": settings.method, **programs.REFINE}
    if config.time_cond_proj_dim:
        how["guidance_scale"] = NO_GUIDANCE
    noise = View(name=model.name, kind="generator", settings=how, **common)
    if not settings.controls:
        return (noise,)
    clean = View(
        name=f"{model.name}.x0",
        kind="control",
        settings={"what": "clean latents", "preprocessing": preprocessing},
        **common,
    )
    forward = View(
        name=f"{model.name}.forward",
        kind="control",
        settings={
            "what": "clean latents with fresh noise at the inversion's terminal t",
            "terminal_t": schedule.terminal_t,
            "seed": CONTROL_SEED,
            "preprocessing": preprocessing,
        },
        **common,
    )
    return noise, clean, forward


def _nchw(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(dtype)


def _nhwc(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32).transpose(0, 2, 3, 1)


def generator_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Generator:
    """The model that made a zoo's generator view, under the view's own settings.

    ``source`` (a path, hub id or built-in name) is needed where ``view.model_id`` does
    not say where to find it; ``rows`` as for ``load_generator``. Raises UneError if its
    weights are not the view's, or the view does not say how it was made.
    """
    how = {"method": "ddim", **view.settings, **view.config}
    fields = ("steps", "eval_at", "method", "prompt", "dtype", "size")
    if missing := [name for name in fields if name not in how]:
        raise UneError(
            f"view {view.name!r} does not say its {', '.join(missing)}: only views made "
            "by `une-jax build` can be decoded"
        )
    try:
        model = resolve(source or view.model_id)
        generator = load_generator(
            model._replace(name=view.name, model_id=view.model_id),
            Settings(**{name: how[name] for name in fields}),
            rows=rows,
        )
    except (CheckpointError, UneError) as e:
        where = "" if source else " (say where the model is with --generator)"
        raise UneError(f"{e}{where}") from e
    if generator.views[0].weights_sha256 != view.weights_sha256:
        raise UneError(
            f"{model.source} holds other weights than the model that made view "
            f"{view.name!r}: name that one with --generator"
        )
    return generator
