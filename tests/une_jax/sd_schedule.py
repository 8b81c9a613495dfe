"""The levels of Stable Diffusion, and one row of a schedule's."""

import jax

from une_jax.schedule import Schedule, Steps

SD = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def row(schedule: Schedule, i: int) -> Steps:
    return jax.tree.map(lambda leaf: leaf[i], schedule.sampling)
