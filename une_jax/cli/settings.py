"""How images become noise: the choices, and the views of a zoo that record them."""

import math
from dataclasses import dataclass
from typing import Any

from ports.stable_diffusion import StableDiffusion
from une_jax.cli.batches import STORED
from une_jax.cli.names import Model
from une_jax.cli.programs import METHODS, REFINE
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.zoo import View

# Far from the small seeds that people choose: a row's key must be no face's own key,
# or the control's noise would be the face's true latent.
CONTROL_SEED = 0xF0_4A_4D
ROUND_TRIPS = ("none", "latent", "pixels")
# What a method keeps beside the noise is a view of its own, NAME and this.
CODES = {"exact": ".before", "dpm-encoder": ".eps"}


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

    Raises:
        UneError: a value is none of these.
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

    def __post_init__(self):
        for name, allowed in (
            ("method", METHODS),
            ("round_trip", ROUND_TRIPS),
            ("dtype", tuple(STORED)),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise UneError(f"{name} is {value!r}; use one of {', '.join(allowed)}")
        if not math.isfinite(self.guidance):
            raise UneError(f"guidance is {self.guidance}; use a number, 1 for none")
        if self.negative and self.guidance == 1:
            raise UneError(
                "negative is given, but guidance is 1, where it says nothing"
            )
        if self.method == "dpm-encoder" and not 0 < self.eta <= 1:
            raise UneError(f"eta is {self.eta}; use above 0, up to 1")

    @property
    def stored(self) -> str:
        """The dtype of the noise on disk, for bfloat16 float16; but an exact round trip
        would be lost to that rounding."""
        return "float32" if self.method == "exact" else STORED[self.dtype]

    @property
    def code(self) -> str:
        """The suffix of the view beside the noise; "" for methods that need none."""
        return CODES.get(self.method, "")


def settings_of(view: View) -> Settings:
    """Those by which a zoo's generator view was made, without its measurements.

    Raises UneError where the view does not say.
    """
    how = {**view.settings, **view.config}
    needed = ("steps", "eval_at", "prompt", "dtype", "size")
    if missing := [name for name in needed if name not in how]:
        raise UneError(
            f"view {view.name!r} does not say its {', '.join(missing)}: only views made "
            "by `une-jax build` can be decoded"
        )
    usual = Settings()
    return Settings(
        **{name: how[name] for name in needed},
        method=how.get("method", usual.method),
        guidance=how.get("guidance_scale", usual.guidance),
        negative=how.get("negative", usual.negative),
        eta=how.get("eta", usual.eta),
        seed=how.get("seed", usual.seed),
        round_trip="none",
    )


def views_of(
    model: Model,
    sd: StableDiffusion,
    settings: Settings,
    schedule: Schedule,
    *,
    size: int,
    edge: int,
) -> tuple[View, ...]:
    """A generator's views: its noise, what its method keeps beside it, and controls.

    ``size`` is the images' edge and ``edge`` that of the latents.
    """
    config = sd.unet.config
    channels = config.in_channels
    common = {
        "model_id": model.model_id,
        "weights_sha256": sd.weights_sha256,
        "config": {"in_channels": channels, "size": size},
    }
    shape = (channels, edge, edge)
    preprocessing = {
        "crop": "centre square",
        "resize": {"size": size, "filter": "bilinear"},
        "range": [-1, 1],
        "vae": {"posterior": "mode", "scaling_factor": sd.vae.config.scaling_factor},
    }
    how = _how(sd, settings, schedule) | {"preprocessing": preprocessing}
    views = [
        View(
            name=model.name,
            kind="generator",
            settings=how,
            shape=shape,
            dtype=settings.stored,
            **common,
        )
    ]
    if settings.code:
        steps = settings.steps if settings.method == "dpm-encoder" else 1
        what = {
            "exact": "the sample one step nearer to the image",
            "dpm-encoder": "each step's noise, in the order of sampling",
        }[settings.method]
        views.append(
            View(
                name=model.name + settings.code,
                kind="code",
                settings={"of": model.name, "what": what},
                shape=(steps * channels, edge, edge),
                dtype=settings.stored,
                **common,
            )
        )
    if settings.controls:
        said = {
            "x0": {"what": "clean latents"},
            "forward": {
                "what": "clean latents with fresh noise at the inversion's terminal t",
                "terminal_t": schedule.terminal_t,
                "seed": CONTROL_SEED,
            },
        }
        views += [
            View(
                name=f"{model.name}.{name}",
                kind="control",
                settings=what | {"preprocessing": preprocessing},
                shape=shape,
                dtype=STORED[settings.dtype],
                **common,
            )
            for name, what in said.items()
        ]
    return tuple(views)


def _how(sd: StableDiffusion, settings: Settings, schedule: Schedule) -> dict[str, Any]:
    how = {
        "scheduler": sd.scheduler,
        "steps": settings.steps,
        "terminal_t": schedule.terminal_t,
        "eval_at": settings.eval_at,
        "prompt": settings.prompt,
        "dtype": settings.dtype,
        "round_trip": settings.round_trip,
    }
    if settings.method != "ddim":
        how["method"] = settings.method
    if settings.method == "fixed-point":
        how |= REFINE
    if settings.method == "dpm-encoder":
        how |= {"eta": settings.eta, "seed": settings.seed}
    if sd.unet.config.time_cond_proj_dim or settings.guidance != 1:
        how["guidance_scale"] = settings.guidance
    if settings.negative:
        how["negative"] = settings.negative
    return how
