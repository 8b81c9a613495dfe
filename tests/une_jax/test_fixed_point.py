import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD, row

from une_jax import ddim, fixed_point, parallel
from une_jax.schedule import Schedule


def wavy(params, x, t, cond):
    """A nonlinear model whose strength is a row's own: its first value."""
    del cond
    at = 1 + t.astype(jnp.float32)[:, None, None, None] / 1000
    return params * jnp.sin(2 * x * at) + 0.2 * x.mean((1, 2, 3), keepdims=True)


@pytest.fixture
def x0():
    return jax.random.normal(jax.random.key(0), (4, 4, 4, 4))


def rms(x):
    return np.sqrt(np.mean(np.square(x), axis=(1, 2, 3)))


@pytest.mark.parametrize("kind", ("epsilon", "v_prediction"))
def test_sampling_undoes_what_was_refined(x0, kind):
    schedule = Schedule.from_config({**SD, "prediction_type": kind}, steps=10)
    plain = ddim.invert(wavy, 0.2, x0, schedule)
    out = fixed_point.invert(wavy, 0.2, x0, schedule, tolerance=1e-6, max_calls=40)
    refined, rough = (
        rms(ddim.sample(wavy, 0.2, x, schedule) - x0) for x in (out.x_T, plain)
    )
    assert np.all(refined < 1e-4)
    assert np.all(refined < rough / 20)
    assert np.all(out.residual < 1e-6)


def test_source_starts_at_the_earliest_timestep(x0):
    """N - 1 rows: all of sampling's but its last."""
    schedule = Schedule.from_config(SD, steps=10, eval_at="source")
    out = fixed_point.invert(wavy, 0.2, x0, schedule, tolerance=1e-6, max_calls=40)
    x = out.x_T
    for i in range(9):
        x, _ = ddim.ddim_step(wavy, 0.2, x, row(schedule, i), None)
    assert np.all(rms(x - x0) < 1e-4)


def test_one_call_is_ddim_inversion_at_the_target(x0):
    schedule = Schedule.from_config(SD, steps=10, eval_at="target")
    out = fixed_point.invert(wavy, 0.2, x0, schedule, max_calls=1)
    plain = ddim.invert(wavy, 0.2, x0, schedule)
    np.testing.assert_allclose(out.x_T, plain, atol=2e-5)
    assert np.all(np.isnan(out.residual))
    np.testing.assert_array_equal(out.calls, 10)


def test_a_sample_is_frozen_when_it_has_converged(x0):
    """What a hard neighbour still needs changes nothing: bits, residual or calls."""
    schedule = Schedule.from_config(SD, steps=10)
    easy = x0.at[0].set(0.0)
    hard = easy.at[1:].multiply(3.0)
    a, b = (fixed_point.invert(wavy, 0.3, x, schedule) for x in (easy, hard))
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
    assert np.all(b.calls[1:] > b.calls[0])


def test_where_nothing_contracts_the_best_is_kept_and_told(x0):
    schedule = Schedule.from_config(SD, steps=10)
    out = fixed_point.invert(wavy, 40.0, x0, schedule, max_calls=6)
    assert np.all(np.isfinite(out.x_T))
    assert np.all(out.residual > 1e-4)
    np.testing.assert_array_equal(out.calls, 60)
    last = row(schedule, -1)
    first = fixed_point._undo(wavy, 40.0, x0, last, None, 1e-4, 6)
    x_to, _ = ddim.ddim_step(wavy, 40.0, first.x_T, last, None)
    np.testing.assert_allclose(first.residual, rms(x_to - x0), rtol=1e-3)


def test_nan_stays_in_its_row(x0):
    schedule = Schedule.from_config(SD, steps=5)
    bad = x0.at[2].set(jnp.nan)
    a, b = (fixed_point.invert(wavy, 0.2, x, schedule) for x in (x0, bad))
    kept = np.array([0, 1, 3])
    np.testing.assert_array_equal(a.x_T[kept], b.x_T[kept])
    assert np.all(np.isnan(b.x_T[2])) and np.isnan(b.residual[2])


def test_devices_do_not_wait_for_each_other_nor_differ(x0):
    schedule = Schedule.from_config(SD, steps=5)
    mesh = parallel.data_mesh()

    def run(params, x):
        return fixed_point.invert(wavy, params["w"], x, params["schedule"])

    params = {"w": jnp.float32(0.2), "schedule": schedule}
    many = parallel.data_parallel(run, mesh)(params, parallel.shard_batch(x0, mesh))
    one = jax.jit(run)(params, x0)
    np.testing.assert_allclose(many.x_T, one.x_T, atol=1e-5)
    np.testing.assert_array_equal(many.calls, one.calls)
