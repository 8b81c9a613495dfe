"""The walk from image to noise, stopped over at some timesteps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import ddim, parallel
from une_jax.schedule import Schedule, alphas_cumprod_of

SD15 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
EVAL_AT = pytest.mark.parametrize("eval_at", ["target", "source"])
trajectory = jax.jit(ddim.trajectory, static_argnums=0)


def eps_fn(params, x, t, cond):
    """Anything that depends on all of it."""
    return jnp.tanh(params * x + t[:, None, None, None] / 1000) + cond


def schedule_of(steps, eval_at, spacing="linspace"):
    config = SD15 | {"timestep_spacing": spacing}
    return Schedule.from_config(config, steps=steps, eval_at=eval_at)


@pytest.fixture
def x0(key):
    return jax.random.normal(key, (4, 2, 3, 2))


@EVAL_AT
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_rows_arrive_at_the_levels_of_their_timesteps(spacing, eval_at):
    schedule = schedule_of(7, eval_at, spacing)
    assert schedule.reached.shape == schedule.inversion.t.shape
    assert int(schedule.reached[-1]) == schedule.terminal_t
    want = alphas_cumprod_of(SD15)[np.asarray(schedule.reached)]
    np.testing.assert_allclose(schedule.inversion.alpha_to, want, rtol=1e-6)


@EVAL_AT
def test_a_stop_is_where_a_shorter_walk_ends(eval_at, x0):
    schedule = schedule_of(6, eval_at)
    got = trajectory(eps_fn, 0.4, x0, schedule, 0.1, at=schedule.reached)
    assert got.shape == (4, len(schedule.reached), 2, 3, 2)
    x = x0
    for i in range(len(schedule.reached)):
        row = jax.tree.map(lambda leaf, i=i: leaf[i], schedule.inversion)
        x, _ = ddim.ddim_step(eps_fn, 0.4, x, row, 0.1)
        np.testing.assert_allclose(got[:, i], x, rtol=1e-5, atol=1e-6)
    end = ddim.invert(eps_fn, 0.4, x0, schedule, 0.1)
    np.testing.assert_allclose(got[:, -1], end, rtol=1e-6)


def test_stops_are_data_in_any_order_and_unknown_ones_give_nan(x0):
    schedule = schedule_of(6, "source")
    before = trajectory._cache_size()
    first, last = int(schedule.reached[0]), schedule.terminal_t
    assert (first, last) == (200, 999)
    got = trajectory(eps_fn, 0.4, x0, schedule, 0.1, at=jnp.array([last, first, 201]))
    again = trajectory(eps_fn, 0.4, x0, schedule, 0.1, at=jnp.array([first, last, 0]))
    assert trajectory._cache_size() == before + 1
    np.testing.assert_array_equal(got[:, :2], again[:, 1::-1])
    assert jnp.isnan(got[:, 2]).all() and jnp.isnan(again[:, 2]).all()
    assert jnp.isfinite(got[:, :2]).all()


def test_takes_no_more_model_calls_than_inversion(x0):
    calls = []

    def counted(params, x, t, cond):
        jax.debug.callback(lambda: calls.append(None))
        return params * x

    schedule = schedule_of(5, "source")
    ddim.trajectory(counted, 0.4, x0, schedule, at=schedule.reached)
    jax.effects_barrier()
    assert len(calls) == 4


def test_half_precision_images_are_walked_in_float32(x0):
    schedule, at = schedule_of(5, "source"), jnp.array([999])
    half = x0.astype(jnp.bfloat16)
    got = trajectory(eps_fn, 0.4, half, schedule, 0.1, at=at)
    want = trajectory(eps_fn, 0.4, half.astype(jnp.float32), schedule, 0.1, at=at)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, want)


def test_works_under_vmap_grad_and_over_devices(x0):
    schedule = schedule_of(5, "source")
    at = schedule.reached[1:3]

    def walk(params, x0):
        return ddim.trajectory(eps_fn, params, x0, schedule, 0.1, at=at)

    want = walk(0.4, x0)
    mapped = jax.vmap(walk)(jnp.array([0.1, 0.4]), jnp.stack([x0, x0]))
    np.testing.assert_allclose(mapped[1], want, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda params: walk(params, x0).mean())(0.4)
    step = 1e-2
    near = (walk(0.4 + step, x0).mean() - walk(0.4 - step, x0).mean()) / (2 * step)
    np.testing.assert_allclose(slope, near, rtol=1e-2)
    split = parallel.data_parallel(walk, parallel.data_mesh())
    batch = parallel.shard_batch(x0, parallel.data_mesh())
    np.testing.assert_allclose(split(0.4, batch), want, rtol=1e-5, atol=1e-6)
