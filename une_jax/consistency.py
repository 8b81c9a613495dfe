"""Sampling from latent consistency models in a few steps.

A consistency model names the image's latents at the end of its noise's trajectory from
any point on it. A few steps of "name it, then add fresh noise of the next level" make
samples (multistep consistency sampling: arXiv 2303.01469, algorithm 1; in latents with
embedded guidance: arXiv 2310.04378). The noise in between is random, so there is no
way back: to invert such a model, walk ``une_jax.ddim`` with it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Key

from une_jax.ddim import EpsFn
from une_jax.errors import UneError
from une_jax.schedule import alphas_cumprod_of

SIGMA_DATA = 0.5
DEFAULTS = {
    "num_train_timesteps": 1000,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
}


class Steps(NamedTuple):
    """The rows of a run, from noise to image; make them with :func:`steps_of`.

    At timestep ``t`` the network's eps gives x0 = (x - sqrt(1 - alpha) eps) /
    sqrt(alpha), and the model says ``c_skip x + c_out x0``; ``alpha_to`` is the level
    that noise brings it to, 1 in the last row.
    """

    t: Int32[Array, " n"]
    alpha: Float32[Array, " n"]
    alpha_to: Float32[Array, " n"]
    c_skip: Float32[Array, " n"]
    c_out: Float32[Array, " n"]


def steps_of(config: Mapping[str, Any], *, steps: int) -> Steps:
    """The table of diffusers' LCMScheduler for the dict of a scheduler_config.json.

    Of the ``original_inference_steps`` timesteps that the model was distilled at,
    ``steps`` evenly spaced ones. Raises UneError where there are fewer than that, or
    the model does not predict the noise.

    >>> steps_of({"beta_schedule": "scaled_linear"}, steps=4).t.tolist()
    [999, 759, 499, 259]
    """
    c = DEFAULTS | {k: config[k] for k in DEFAULTS if config.get(k) is not None}
    kind = config.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise UneError(
            f"prediction_type is {kind!r}; consistency sampling needs 'epsilon'"
        )
    total, original = c["num_train_timesteps"], c["original_inference_steps"]
    if not 1 <= steps <= original <= total:
        raise UneError(
            f"steps is {steps}; use 1 to {original} (original_inference_steps, of "
            f"{total} training timesteps)"
        )
    distilled = np.arange(1, original + 1) * (total // original) - 1
    places = np.linspace(0, original, steps, endpoint=False).astype(int)
    t = distilled[::-1][places]
    alpha = alphas_cumprod_of(config)[t]
    c_skip, c_out = boundary(t.astype(np.float64), scaling=c["timestep_scaling"])
    columns = (alpha, np.append(alpha[1:], 1.0), c_skip, c_out)
    return Steps(jnp.asarray(t, jnp.int32), *(jnp.asarray(v, jnp.float32) for v in columns))  # fmt: skip


def boundary(t: Any, *, scaling: float = 10.0) -> tuple[Any, Any]:
    """(c_skip, c_out) at timesteps t: what makes the model the identity at t = 0.

    arXiv 2303.01469, appendix C, with latent consistency models' scaled timesteps.

    >>> boundary(0.0)
    (1.0, 0.0)
    """
    s = scaling * t
    root = (s**2 + SIGMA_DATA**2) ** 0.5
    return SIGMA_DATA**2 / root**2, s / root


def sample(
    eps_fn: EpsFn,
    params: Any,
    x_T: Float[Array, "b h w c"],
    steps: Steps,
    cond: Any,
    keys: Key[Array, " b"],
) -> Float32[Array, "b h w c"]:
    """Latents x0 from noise x_T, with each sample's own key for the noise in between.

    ``eps_fn`` is as for :func:`une_jax.ddim.sample`; a latent consistency model's
    ``cond`` carries its guidance scale. float32; works under jit, vmap and shard_map.

    >>> x_T, keys = jnp.ones((2, 2, 2, 4)), jax.random.split(jax.random.key(0), 2)
    >>> sample(lambda p, x, t, c: x, None, x_T, steps_of({}, steps=4), None, keys).shape
    (2, 2, 2, 4)
    """

    def body(x, row):
        step, i = row
        t = jnp.broadcast_to(step.t, x.shape[:1])
        eps = eps_fn(params, x, t, cond).astype(jnp.float32)
        x0 = (x - jnp.sqrt(1 - step.alpha) * eps) / jnp.sqrt(step.alpha)
        x0 = step.c_skip * x + step.c_out * x0
        noise = jax.vmap(
            lambda key: jax.random.normal(jax.random.fold_in(key, i), x.shape[1:])
        )(keys)
        return jnp.sqrt(step.alpha_to) * x0 + jnp.sqrt(1 - step.alpha_to) * noise, None

    rows = (steps, jnp.arange(len(steps.t)))
    return jax.lax.scan(body, x_T.astype(jnp.float32), rows)[0]
