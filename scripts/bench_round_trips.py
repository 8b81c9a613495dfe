"""Round trips on the miniature in float32: DDIM, fixed point, BDIA, O-BELM and EDICT.

    python scripts/bench_round_trips.py

Prints for each number of steps the latents' mean squared error after inversion and
sampling, over their variance, and how far the noise's standard deviation is from 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from ports import stable_diffusion, vae
from une_jax import ddim, exact, fixed_point, images
from une_jax.miniature import MODELS, factors, render
from une_jax.schedule import Schedule

MIXING = 0.93  # EDICT's p, as published


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare ways to invert by their round trips."""

    model: str = "mini-sd15"
    faces: int = 16
    steps: tuple[int, ...] = (20, 50, 100)


def belm(eps_fn: Callable, params: Any, x0: Array, schedule: Schedule, cond: Any):
    """O-BELM (arXiv 2410.07273, Eq. 18) there and back: (noise, again)."""
    rows = jax.tree.map(lambda leaf: leaf[::-1], schedule.sampling)
    signal = jnp.sqrt(jnp.append(rows.alpha_to[:1], rows.alpha_from))
    sigma = jnp.sqrt(1 - signal**2) / signal
    h = jnp.diff(sigma)
    r = h[:-1] / h[1:]
    a = r**2 * signal[:-2] / signal[2:]
    b = (1 - r**2) * signal[:-2] / signal[1:-1]
    c = -h[:-1] * (1 + r) * signal[:-2]
    table = (jax.tree.map(lambda leaf: leaf[:-1], rows), a, b, c)

    def eps(x, row):
        return ddim.ddim_step(eps_fn, params, x, row, cond)[1]

    def up(carry, step):
        under, x = carry
        row, a, b, c = step
        return (x, (under - b * x - c * eps(x, row)) / a), None

    def down(carry, step):
        over, x = carry
        row, a, b, c = step
        return (x, a * over + b * x + c * eps(x, row)), None

    first = jax.tree.map(lambda leaf: leaf[0], rows)
    x1 = signal[1] * (x0 / signal[0] + h[0] * eps(x0, first))
    (before, x_T), _ = jax.lax.scan(up, (x0, x1), table)
    (_, again), _ = jax.lax.scan(down, (x_T, before), table, reverse=True)
    return x_T, again


def edict(eps_fn: Callable, params: Any, x0: Array, schedule: Schedule, cond: Any):
    """EDICT (arXiv 2211.12446, Alg. 1) there and back: (noise, again)."""

    def move(x, y, row):
        """What the model at y takes x's step by."""
        x_to, _ = ddim.ddim_step(eps_fn, params, y, row, cond)
        return x_to - row.c_x * y

    def down(pair, row):
        x, y = pair
        x = row.c_x * x + move(x, y, row)
        y = row.c_x * y + move(y, x, row)
        x = MIXING * x + (1 - MIXING) * y
        return (x, MIXING * y + (1 - MIXING) * x), None

    def up(pair, row):
        x, y = pair
        y = (y - (1 - MIXING) * x) / MIXING
        x = (x - (1 - MIXING) * y) / MIXING
        y = (y - move(y, x, row)) / row.c_x
        return ((x - move(x, y, row)) / row.c_x, y), None

    pair, _ = jax.lax.scan(up, (x0, x0), schedule.sampling, reverse=True)
    again, _ = jax.lax.scan(down, pair, schedule.sampling)
    return pair[0], again[0]


def bdia(eps_fn: Callable, params: Any, x0: Array, schedule: Schedule, cond: Any):
    """Ours there and back: (noise, again)."""
    pair = exact.invert(eps_fn, params, x0, schedule, cond)
    return pair.x_T, exact.sample(eps_fn, params, pair, schedule, cond)


def plain(eps_fn: Callable, params: Any, x0: Array, schedule: Schedule, cond: Any):
    """DDIM there and back: (noise, again)."""
    x_T = ddim.invert(eps_fn, params, x0, schedule, cond)
    return x_T, ddim.sample(eps_fn, params, x_T, schedule, cond)


def refined(eps_fn: Callable, params: Any, x0: Array, schedule: Schedule, cond: Any):
    """Fixed-point inversion, and DDIM back: (noise, again)."""
    x_T = fixed_point.invert(eps_fn, params, x0, schedule, cond).x_T
    return x_T, ddim.sample(eps_fn, params, x_T, schedule, cond)


def main(bench: Bench) -> None:
    """Print the table."""
    sd = stable_diffusion.load(str(MODELS / bench.model))
    truth = factors.draw(jax.random.key(5), bench.faces)
    pixels = np.asarray(render.faces(truth.scores, truth.nuisance) * 255 + 0.5)
    signed = images.to_signed(pixels.astype(np.uint8))
    x0 = vae.scale(sd.vae.config, sd.vae.apply(sd.vae.params, signed, method="encode"))
    cond = stable_diffusion.encode_prompts(sd, [""], guidance_scale="unset", size=64)
    print(f"{bench.model}, {bench.faces} faces: error / variance, noise's deviation")
    for steps in bench.steps:
        schedule = Schedule.from_config(sd.scheduler, steps=steps, eval_at="target")
        for trip in (plain, refined, bdia, belm, edict):
            run = jax.jit(trip, static_argnums=0)
            x_T, again = run(sd.unet.apply, sd.unet.params, x0, schedule, cond)
            error = float(jnp.mean((again - x0) ** 2) / jnp.var(x0))
            print(f"{steps:4} steps  {trip.__name__:8} {error:9.1e} {x_T.std():7.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Bench))
