"""The rows of samplers that add noise at each step: DDIM with eta above 0.

DDIM, arXiv 2010.02502, Eq. 12 and 16: eta 0 is deterministic, eta 1 is DDPM.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Key

from une_jax.schedule import Schedule, Steps


class Noisy(NamedTuple):
    """Columns beside a schedule's rows, from noise to image.

    A step is ``x_to = DDIM's + turn * eps + sigma * noise``.
    """

    rows: Steps
    kept: Float32[Array, " n"]  # sqrt(1 - alpha_to - sigma^2): what eps keeps
    turn: Float32[Array, " n"]  # that, less DDIM's sqrt(1 - alpha_to)
    sigma: Float32[Array, " n"]


def noisy(schedule: Schedule, eta: float | Float[Array, " n"]) -> Noisy:
    """The sampling rows with noise ``eta``, one for all steps or one for each.

    Raises:
        UneError: the schedule's sampling is undefined.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> noisy(schedule, 0.0).turn.tolist() == [0.0] * 10
    True
    """
    rows = schedule.sampling
    a, a_to = rows.alpha_from, rows.alpha_to
    # At alpha_from 0 (zero terminal SNR) the square root is of 1.
    sigma = eta * jnp.sqrt((1 - a_to) / (1 - a)) * jnp.sqrt(1 - a / a_to)
    kept = jnp.sqrt(jnp.maximum(1 - a_to - sigma**2, 0))
    # Of eta 0 nothing, and not the rounding of one root less another.
    turn = jnp.where(sigma == 0, 0.0, kept - jnp.sqrt(1 - a_to))
    return Noisy(rows, kept, turn, sigma)


def draw(
    keys: Key[Array, " b"], step: int | Int[Array, ""], shape: tuple[int, ...]
) -> Float32[Array, "b ..."]:
    """N(0, I) of one step for each sample, from the sample's own key.

    >>> draw(jax.random.split(jax.random.key(0), 3), 1, (2, 2)).shape
    (3, 2, 2)
    """
    at_step = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(at_step)
