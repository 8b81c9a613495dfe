import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import ddim, exact
from une_jax.schedule import Schedule, alphas_cumprod_of

ENDS = (
    {"set_alpha_to_one": False},
    {"set_alpha_to_one": True},
    {"steps_offset": 0},  # sampling ends at the earliest timestep's own level
)
TERMINAL_ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SPREAD = 0.5  # of the analytic data


def wavy(params, x, t, cond):
    del t, cond
    return params * jnp.sin(2 * x) + 0.3 * x.mean((1, 2, 3), keepdims=True)


def gaussian(params, x, t, cond):
    """The optimal eps for data N(0, SPREAD^2); params are alphas_cumprod."""
    del cond
    a = params[t][:, None, None, None]
    return jnp.sqrt(1 - a) * x / (a * SPREAD**2 + 1 - a)


@pytest.fixture
def x0():
    return jax.random.normal(jax.random.key(0), (3, 4, 4, 4))


@pytest.mark.parametrize("steps", (3, 10, 50))
@pytest.mark.parametrize("eval_at", ("source", "target"))
@pytest.mark.parametrize(
    ("kind", "end"),
    (
        *itertools.product(("epsilon", "v_prediction"), ENDS),
        ("v_prediction", TERMINAL_ZERO),
    ),
    ids=str,
)
def test_the_round_trip_is_rounding(x0, kind, end, eval_at, steps):
    config = {**SD, "prediction_type": kind, **end}
    schedule = Schedule.from_config(config, steps=steps, eval_at=eval_at)
    pair = exact.invert(wavy, 0.8, x0, schedule)
    again = exact.sample(wavy, 0.8, pair, schedule)
    assert np.abs(again - x0).max() < 2e-5
    plain = ddim.sample(wavy, 0.8, ddim.invert(wavy, 0.8, x0, schedule), schedule)
    assert np.abs(plain - x0).max() > 20 * np.abs(again - x0).max()


def test_the_fewest_steps(x0):
    for steps, eval_at in ((1, "target"), (2, "target"), (2, "source")):
        schedule = Schedule.from_config(SD, steps=steps, eval_at=eval_at)
        pair = exact.invert(wavy, 0.8, x0, schedule)
        assert np.abs(pair.x_T - x0).max() > 1e-3
        again = exact.sample(wavy, 0.8, pair, schedule)
        np.testing.assert_allclose(again, x0, atol=1e-5)


def test_both_samples_of_the_pair_are_needed(x0):
    schedule = Schedule.from_config(SD, steps=10)
    pair = exact.invert(wavy, 0.8, x0, schedule)
    alone = exact.begin(wavy, 0.8, pair.x_T, schedule)
    np.testing.assert_array_equal(alone.x_T, pair.x_T)
    assert np.abs(exact.sample(wavy, 0.8, alone, schedule) - x0).max() > 1e-3


def true_noise(x0, schedule):
    """The ODE's own x_T: y = x / sqrt(alpha) grows as sqrt(SPREAD^2 + sigma^2)."""
    rows = schedule.sampling
    start, end = (np.float64(a) for a in (rows.alpha_to[-1], rows.alpha_from[0]))
    grown = [np.sqrt(SPREAD**2 + (1 - a) / a) * np.sqrt(a) for a in (start, end)]
    return x0 * (grown[1] / grown[0])


def error(invert, x0, alphas, steps):
    schedule = Schedule.from_config(SD, steps=steps, eval_at="target")
    x_T = invert(gaussian, alphas, x0, schedule)
    x_T = x_T if isinstance(x_T, jax.Array) else x_T.x_T
    return np.abs(x_T - true_noise(x0, schedule)).max()


def test_it_is_a_better_integrator_than_ddim(x0):
    """Of second order: twice the steps, a quarter of the error or less."""
    alphas = jnp.asarray(alphas_cumprod_of(SD), jnp.float32)
    rough, fine = (error(exact.invert, x0, alphas, n) for n in (100, 200))
    assert rough < error(ddim.invert, x0, alphas, 100) / 3
    assert fine < rough / 4


def test_jit_vmap_and_grad(x0):
    schedule = Schedule.from_config(SD, steps=4)

    def trip(w, x):
        return exact.sample(wavy, w, exact.invert(wavy, w, x, schedule), schedule)

    weights = jnp.array([0.2, 0.8])
    both = jax.jit(jax.vmap(trip, (0, None)))(weights, x0)
    np.testing.assert_allclose(both[1], trip(0.8, x0), atol=1e-5)
    slope = jax.grad(lambda w: exact.invert(wavy, w, x0, schedule).x_T.sum())(0.2)
    assert np.isfinite(slope) and slope != 0


def test_a_row_knows_nothing_of_its_neighbours(x0):
    schedule = Schedule.from_config(SD, steps=5)
    bad = x0.at[1].set(jnp.nan)
    a, b = (exact.invert(wavy, 0.5, x, schedule) for x in (x0, bad))
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left[::2], right[::2])
        assert np.all(np.isnan(right[1]))
