"""``une_jax.consistency`` beside diffusers' LCMScheduler, with the same noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import consistency

pytestmark = pytest.mark.torch
CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": True,
}


@pytest.mark.parametrize("n", (1, 2, 4, 8, 13))
def test_a_run_is_diffusers_run(n, monkeypatch):
    import torch
    from diffusers.schedulers import scheduling_lcm

    scheduler = scheduling_lcm.LCMScheduler.from_config(CONFIG)
    scheduler.set_timesteps(n)
    steps = consistency.steps_of(CONFIG, steps=n)
    assert steps.t.tolist() == scheduler.timesteps.tolist()

    key = jax.random.key(5)
    x_T = jax.random.normal(jax.random.key(6), (1, 4, 4, 4))
    drawn = [
        np.asarray(jax.random.normal(jax.random.fold_in(key, i), x_T.shape[1:]))[None]
        for i in range(n)
    ]
    given = iter(drawn)
    monkeypatch.setattr(
        scheduling_lcm, "randn_tensor", lambda *_, **__: torch.tensor(next(given))
    )

    def eps_of(x, t):
        return 0.6 * x + 0.2 * t / 1000

    theirs = torch.tensor(np.asarray(x_T))
    for t in scheduler.timesteps:
        theirs = scheduler.step(eps_of(theirs, t), t, theirs).prev_sample

    def eps_fn(params, x, t, cond):
        return eps_of(x, t[:, None, None, None].astype(jnp.float32))

    ours = consistency.sample(eps_fn, None, x_T, steps, None, key[None])
    error = np.abs(np.asarray(ours) - theirs.numpy()).max()
    assert error <= 2e-5 * float(theirs.abs().max())
