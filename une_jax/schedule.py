"""One table of noise levels that DDIM sampling and DDIM inversion share.

Every DDIM step is a row (t_eval, alpha_from, alpha_to) with alpha = alphas_cumprod:
the model sees ``t_eval``, the sample moves from one noise level to the other. Which t
belongs to which two alphas is the whole difficulty of DDIM inversion, so the answer is
written down once, in float64 on the host, and both directions read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from une_jax.errors import UneError

# DDIMScheduler's defaults: what an absent (or null) key of the config means.
DEFAULTS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("leading", "trailing", "linspace")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
EVAL_AT = ("target", "source")


class Steps(NamedTuple):
    """The rows of one direction, in the order in which they are walked.

    A step is linear in the sample and in the model's raw output, whatever the
    prediction type: ``x_to = c_x * x + c_out * out``, and the noise it implies at the
    sample's own level is ``eps = e_x * x + e_out * out``.
    """

    t: Int32[Array, " n"]  # the timestep that the model sees
    alpha_from: Float32[Array, " n"]  # alphas_cumprod of the sample before the step
    alpha_to: Float32[Array, " n"]  # and after it
    c_x: Float32[Array, " n"]
    c_out: Float32[Array, " n"]
    e_x: Float32[Array, " n"]
    e_out: Float32[Array, " n"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Timesteps and noise levels of an N-step DDIM run; a pytree.

    The tables are array leaves, so N is a shape and everything else is data: another
    schedule of equal N and prediction type does not recompile. Make one with
    :meth:`from_config`; read it through ``sampling``, ``inversion``, ``terminal_t``.

    ``x0_is_first`` says that the image stands for the sample at the earliest timestep:
    by ``eval_at="source"``, or since sampling ends at that level anyway.
    """

    down: Steps  # N rows from the terminal timestep to the image
    up: Steps  # the inversion: N rows ("target") or N - 1 ("source")
    prediction_type: str = field(metadata={"static": True})
    eval_at: str = field(metadata={"static": True})
    x0_is_first: bool = field(default=False, metadata={"static": True})
    cannot_sample: str = field(default="", metadata={"static": True})
    cannot_invert: str = field(default="", metadata={"static": True})

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, steps: int, eval_at: str = "target"
    ) -> "Schedule":
        """Builds the table from the dict of a diffusers ``scheduler_config.json``.

        Any scheduler class's config will do: the keys in ``DEFAULTS`` are read, absent
        ones mean what they mean to diffusers' DDIMScheduler, and the tables equal that
        scheduler's. ``clip_sample`` and ``thresholding`` are not read: clipping belongs
        to pixel models and has no inverse.

        Args:
            config: the parsed json.
            steps: N, the number of DDIM steps, 1..num_train_timesteps.
            eval_at: where inversion evaluates the model on its way from one timestep to
                the next. ``"target"``: at the later one, so that inversion is sampling
                read backwards, as in diffusers' DDIMInverseScheduler. ``"source"``: at
                the sample's own, the UNE authors' convention: x0 stands for the sample
                at the earliest timestep, and N - 1 evaluations lead to the last.

        Raises:
            UneError: for a value that is not supported, by the name of its key.

        Source: DDIM, arXiv 2010.02502, Eq. 12 with sigma = 0.

        >>> sd15 = dict(beta_schedule="scaled_linear", beta_start=0.00085,
        ...             beta_end=0.012, steps_offset=1, set_alpha_to_one=False)
        >>> Schedule.from_config(sd15, steps=50).terminal_t
        981
        """
        c = _with_defaults(config)
        if "FlowMatch" in str(config.get("_class_name", "")):
            raise UneError(
                f"scheduler config: _class_name {config['_class_name']} is flow "
                "matching; une-jax needs a scheduler with betas (DDPM, DDIM, PNDM, ...)"
            )
        _one_of("prediction_type", c["prediction_type"], PREDICTION_TYPES)
        _one_of("eval_at", eval_at, EVAL_AT)
        alphas_cumprod = _alphas_cumprod(c)
        t = _timesteps(c, steps)
        if eval_at == "source" and steps < 2:
            raise UneError("steps is 1; eval_at='source' inverts with 2 or more")

        # Not t[i - 1]: diffusers steps back by T // N even where the listed timesteps
        # lie otherwise (trailing and linspace with N that does not divide T).
        prev = t - c["num_train_timesteps"] // steps
        final = 1.0 if c["set_alpha_to_one"] else alphas_cumprod[0]
        alpha_prev = np.where(prev >= 0, alphas_cumprod[prev], final)
        alpha = alphas_cumprod[t]

        down = (t[::-1], alpha[::-1], alpha_prev[::-1])
        up = (t, alpha_prev, alpha)
        if eval_at == "source":
            up = (t[:-1], alpha[:-1], alpha[1:])
        kind = c["prediction_type"]
        cannot_sample = cannot_invert = ""
        if kind == "epsilon" and down[1].min() == 0:
            cannot_sample = (
                "prediction_type is epsilon, but the schedule starts at alpha 0 "
                "(rescale_betas_zero_snr), where epsilon says nothing about x0"
            )
        if kind == "sample" and up[1].max() == 1:
            cannot_invert = (
                "prediction_type is sample, but inversion starts at alpha 1 "
                "(set_alpha_to_one), where eps is 0/0: set set_alpha_to_one to false "
                "or use eval_at='source'"
            )
        return cls(
            down=_steps(kind, *down),
            up=_steps(kind, *up),
            prediction_type=kind,
            eval_at=eval_at,
            x0_is_first=eval_at == "source" or bool(alpha_prev[0] == alpha[0]),
            cannot_sample=cannot_sample,
            cannot_invert=cannot_invert,
        )

    @property
    def sampling(self) -> Steps:
        """N rows from noise to image. Raises UneError where a row is undefined."""
        if self.cannot_sample:
            raise UneError(self.cannot_sample)
        return self.down

    @property
    def inversion(self) -> Steps:
        """The rows from image to noise. Raises UneError where a row is undefined."""
        if self.cannot_invert:
            raise UneError(self.cannot_invert)
        return self.up

    @property
    def reached(self) -> Int32[Array, " n"]:
        """The timestep whose level each row of ``inversion`` arrives at."""
        return self.down.t[::-1][len(self.down.t) - len(self.up.t) :]

    @property
    def terminal_t(self) -> int:
        """The timestep at which inversion ends and sampling starts (not under jit)."""
        return int(np.asarray(self.down.t)[0])


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UneError(f"{key} is {value!r}; use one of {', '.join(allowed)}")


def alphas_cumprod_of(config: Mapping[str, Any]) -> np.ndarray:
    """alphas_cumprod (T,) of a scheduler config's training timesteps, float64.

    >>> alphas_cumprod_of({}).shape
    (1000,)
    """
    return _alphas_cumprod(_with_defaults(config))


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    return DEFAULTS | {k: config[k] for k in DEFAULTS if config.get(k) is not None}


def _alphas_cumprod(c: Mapping[str, Any]) -> np.ndarray:
    total = c["num_train_timesteps"]
    _one_of("beta_schedule", c["beta_schedule"], BETA_SCHEDULES)
    if c["trained_betas"] is not None:
        betas = np.asarray(c["trained_betas"], np.float64)
        if betas.shape != (total,):
            raise UneError(
                f"trained_betas has shape {betas.shape}; num_train_timesteps asks for "
                f"{total} numbers"
            )
    elif c["beta_schedule"] == "linear":
        betas = np.linspace(c["beta_start"], c["beta_end"], total)
    elif c["beta_schedule"] == "scaled_linear":
        betas = np.linspace(c["beta_start"] ** 0.5, c["beta_end"] ** 0.5, total) ** 2
    else:
        cosine = np.cos((np.arange(total + 1) / total + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - cosine[1:] / cosine[:-1], 0.999)
    alphas_cumprod = np.cumprod(1 - betas)
    if c["rescale_betas_zero_snr"]:  # arXiv 2305.08891, Algorithm 1
        root = np.sqrt(alphas_cumprod)
        alphas_cumprod = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return alphas_cumprod


def _timesteps(c: Mapping[str, Any], steps: int) -> np.ndarray:
    """The N timesteps of arXiv 2305.08891, Table 2, ascending."""
    total, offset = c["num_train_timesteps"], c["steps_offset"]
    _one_of("timestep_spacing", c["timestep_spacing"], SPACINGS)
    if not 1 <= steps <= total:
        raise UneError(f"steps is {steps}; use 1 to {total} (num_train_timesteps)")
    if c["timestep_spacing"] == "leading":
        t = np.arange(steps) * (total // steps) + offset
    elif c["timestep_spacing"] == "trailing":
        # N rows by count: diffusers' arange(T, 0, -T/N) can round to one row too many.
        t = np.round(total - np.arange(steps) * (total / steps))[::-1] - 1
    else:
        t = np.round(np.linspace(0, total - 1, steps))
    if t[0] < 0 or t[-1] >= total:
        raise UneError(
            f"steps_offset is {offset}: with {steps} steps the timesteps run from "
            f"{t[0]:.0f} to {t[-1]:.0f}; they must lie in 0..{total - 1}"
        )
    return t.astype(np.int32)


def _steps(kind: str, t: np.ndarray, a: np.ndarray, a_to: np.ndarray) -> Steps:
    """Adds the coefficient columns, in float64, and rounds everything once."""
    signal, noise = np.sqrt(a), np.sqrt(1 - a)
    # x0 = z_x * x + z_out * out and eps = e_x * x + e_out * out, at the sample's level.
    # A row divides by zero only where Schedule refuses its whole direction.
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "epsilon":
            z_x, z_out, e_x, e_out = 1 / signal, -noise / signal, 0 * a, 0 * a + 1
        elif kind == "v_prediction":
            z_x, z_out, e_x, e_out = signal, -noise, noise, signal
        else:
            z_x, z_out, e_x, e_out = 0 * a, 0 * a + 1, 1 / noise, -signal / noise
        c_x = np.sqrt(a_to) * z_x + np.sqrt(1 - a_to) * e_x
        c_out = np.sqrt(a_to) * z_out + np.sqrt(1 - a_to) * e_out
    columns = (jnp.asarray(v, jnp.float32) for v in (a, a_to, c_x, c_out, e_x, e_out))
    return Steps(jnp.asarray(t, jnp.int32), *columns)
