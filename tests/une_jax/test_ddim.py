"""Inversion and sampling against exact answers: a fixed eps, and a Gaussian's score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import ddim
from une_jax.schedule import Schedule

SD15 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SHAPE = (3, 4, 4, 2)
# Data N(MEAN, STD^2) in every coordinate: eps and the ODE's solution are known.
MEAN, STD = 0.7, 0.4


def alphas_cumprod():
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def gaussian_eps(x, alpha):
    variance = alpha * STD**2 + 1 - alpha
    return jnp.sqrt(1 - alpha) * (x - jnp.sqrt(alpha) * MEAN) / variance


def gaussian_model(params, x, t, cond):
    """The exact eps of the Gaussian; params is the table alphas_cumprod[t]."""
    return gaussian_eps(x, params[t][:, None, None, None])


def gaussian_ode(x, alpha_from, alpha_to):
    """Where the probability flow carries x."""
    deviation = (x - np.sqrt(alpha_from) * MEAN) * np.sqrt(
        (alpha_to * STD**2 + 1 - alpha_to) / (alpha_from * STD**2 + 1 - alpha_from)
    )
    return np.sqrt(alpha_to) * MEAN + deviation


@pytest.fixture
def x0(key):
    return MEAN + STD * jax.random.normal(key, SHAPE)


@pytest.fixture
def table():
    return jnp.asarray(alphas_cumprod(), jnp.float32)


def size(x):
    return float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2)))


# One table, both directions.


@pytest.mark.parametrize("spacing, one", [("leading", False), ("trailing", True)])
@pytest.mark.parametrize("steps", [10, 50, 150, 999])
def test_sampling_undoes_inversion_for_an_eps_constant_in_x(steps, spacing, one, key):
    config = SD15 | {"timestep_spacing": spacing, "set_alpha_to_one": one}
    config["steps_offset"] = 0
    schedule = Schedule.from_config(config, steps=steps)
    noise, x = jax.random.normal(key, (2, 1000, *SHAPE[1:])).at[1].add(MEAN)
    x = x[:3]

    def eps_fn(noise, x, t, cond):
        return noise[t]

    x_T = ddim.invert(eps_fn, noise, x, schedule)
    back = ddim.sample(eps_fn, noise, x_T, schedule)
    # What is left is the rounding of the float32 state, which a step back from noise
    # multiplies by up to 1 / 0.068.
    assert size(back - x) < (1e-6 if steps <= 150 else 3e-6) * size(x)


def test_t_is_one_int32_a_row_and_cond_is_passed_through(x0):
    seen = []

    def eps_fn(params, x, t, cond):
        seen.append((x.dtype, t.shape, t.dtype, cond["text"].shape, params))
        return x

    schedule = Schedule.from_config(SD15, steps=4)
    ddim.invert(eps_fn, {}, x0, schedule, {"text": jnp.ones((3, 7))})
    assert seen == [(jnp.float32, (3,), jnp.int32, (3, 7), {})]


def test_rows_are_walked_in_order(x0):
    def eps_fn(visited, x, t, cond):
        return jnp.zeros_like(x) + visited[t][:, None, None, None]

    schedule = Schedule.from_config(SD15, steps=3)
    t = np.asarray(schedule.inversion.t)
    alpha = alphas_cumprod()[t]
    x, a = np.asarray(x0, np.float64), alphas_cumprod()[0]
    for eps, a_to in zip((1.0, 2.0, 3.0), alpha, strict=True):
        clean = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)
        x, a = np.sqrt(a_to) * clean + np.sqrt(1 - a_to) * eps, a_to
    visited = jnp.zeros(1000).at[t].set(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(
        ddim.invert(eps_fn, visited, x0, schedule), x, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_state_is_float32_whatever_comes_in_or_out(dtype, x0, table):
    schedule = Schedule.from_config(SD15, steps=10)

    def half(params, x, t, cond):
        assert x.dtype == jnp.float32
        return gaussian_model(params, x, t, cond).astype(dtype)

    x0 = x0.astype(dtype)
    x_T = ddim.invert(half, table, x0, schedule)
    assert x_T.dtype == jnp.float32
    full = ddim.invert(gaussian_model, table, x0.astype(jnp.float32), schedule)
    np.testing.assert_allclose(x_T, full, atol=0.03)


# The exact solution.


@pytest.mark.parametrize("eval_at", ["target", "source"])
@pytest.mark.parametrize("direction", ["invert", "sample"])
def test_first_order_convergence_to_the_exact_flow(direction, eval_at, x0, table):
    # The spacing that covers one and the same interval whatever N: with trailing, target
    # goes from alpha 1 to t = 999; with linspace, source goes from t = 0 to t = 999.
    spacing = {"target": "trailing", "source": "linspace"}[eval_at]
    if direction == "sample":
        spacing = "trailing"
    config = SD15 | {"timestep_spacing": spacing, "set_alpha_to_one": True}

    def error(steps):
        schedule = Schedule.from_config(config, steps=steps, eval_at=eval_at)
        run = getattr(ddim, direction)
        rows = schedule.inversion if direction == "invert" else schedule.sampling
        got = run(gaussian_model, table, x0, schedule)
        a, a_to = (np.float64(v) for v in (rows.alpha_from[0], rows.alpha_to[-1]))
        return size(got - gaussian_ode(np.asarray(x0, np.float64), a, a_to))

    errors = np.array([error(n) for n in (50, 100, 200)])
    orders = np.log(errors[:-1] / errors[1:]) / np.log(2)
    assert (np.abs(orders - 1) < 0.25).all(), (errors, orders)
    assert errors[-1] < 0.02


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize(
    "direction, eval_at",
    [("inversion", "target"), ("inversion", "source"), ("sampling", "target")],
)
def test_prediction_types_are_one_model_written_differently(
    kind, direction, eval_at, x0, table
):
    epsilon, other = (
        Schedule.from_config(SD15 | {"prediction_type": k}, steps=20, eval_at=eval_at)
        for k in ("epsilon", kind)
    )
    rows = getattr(epsilon, direction)
    # The conversion belongs to the sample's own level, alpha_from, not to alpha[t].
    own_level = jnp.zeros(1000).at[rows.t].set(rows.alpha_from)

    def rewritten(params, x, t, cond):
        table, own_level = params
        eps = gaussian_model(table, x, t, cond)
        a = own_level[t][:, None, None, None]
        x_clean = (x - jnp.sqrt(1 - a) * eps) / jnp.sqrt(a)
        v = jnp.sqrt(a) * eps - jnp.sqrt(1 - a) * x_clean
        return {"v_prediction": v, "sample": x_clean}[kind]

    run = ddim.invert if direction == "inversion" else ddim.sample
    want = run(gaussian_model, table, x0, epsilon)
    got = run(rewritten, (table, own_level), x0, other)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    if direction == "inversion":
        residuals = [
            ddim.invert_with_residual(model, params, x0, schedule).residual
            for model, params, schedule in (
                (gaussian_model, table, epsilon),
                (rewritten, (table, own_level), other),
            )
        ]
        np.testing.assert_allclose(*residuals, rtol=0.02)


# The residual.


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_source_residual_is_the_drift_of_one_step_and_back(kind, x0, table):
    schedule = Schedule.from_config(
        SD15 | {"prediction_type": kind}, steps=8, eval_at="source"
    )
    up, down = schedule.inversion, schedule.sampling
    x, drifts = x0, []
    for i in range(len(up.t)):
        out = gaussian_model(table, x, jnp.full(3, up.t[i]), None)
        x_to = up.c_x[i] * x + up.c_out[i] * out
        # The sampling row that leaves where this inversion row arrived.
        j = len(down.t) - 2 - i
        out = gaussian_model(table, x_to, jnp.full(3, down.t[j]), None)
        back = down.c_x[j] * x_to + down.c_out[j] * out
        drifts.append(jnp.sqrt(jnp.mean((back - x) ** 2, axis=(1, 2, 3))))
        x = x_to
    inversion = ddim.invert_with_residual(gaussian_model, table, x0, schedule)
    want = np.max(drifts[:-1], axis=0)  # the last step's eps is not computed
    np.testing.assert_allclose(inversion.residual, want, rtol=1e-3)
    assert inversion.residual.shape == (3,) and (inversion.residual > 1e-3).all()


@pytest.mark.parametrize("eval_at", ["target", "source"])
def test_residual_is_free_and_changes_nothing(eval_at, x0, table):
    schedule = Schedule.from_config(SD15, steps=12, eval_at=eval_at)
    calls = []

    def counted(params, x, t, cond):
        jax.debug.callback(lambda: calls.append(None))
        return gaussian_model(params, x, t, cond)

    x_T, residual = ddim.invert_with_residual(counted, table, x0, schedule)
    jax.effects_barrier()
    assert len(calls) == len(schedule.inversion.t)
    np.testing.assert_array_equal(x_T, ddim.invert(gaussian_model, table, x0, schedule))
    zero = ddim.invert_with_residual(
        lambda params, x, t, cond: jnp.ones_like(x), table, x0, schedule
    )
    np.testing.assert_array_equal(zero.residual, 0)
    # Rows do not see each other.
    alone = ddim.invert_with_residual(gaussian_model, table, x0[1:2], schedule)
    np.testing.assert_allclose(alone.residual, residual[1:2], rtol=1e-6)


# Composition.


def test_works_under_jit_and_does_not_recompile_for_another_table(x0, table):
    # A function of its own: what other tests compiled of ddim.invert does not count.
    run = jax.jit(lambda *args: ddim.invert(*args), static_argnums=0)
    for config in (SD15, SD15 | {"timestep_spacing": "trailing"}):
        schedule = Schedule.from_config(config, steps=10)
        np.testing.assert_allclose(
            run(gaussian_model, table, x0, schedule, None),
            ddim.invert(gaussian_model, table, x0, schedule, None),
            rtol=1e-6,
        )
    assert run._cache_size() == 1


def test_works_under_vmap_over_latents_params_and_schedules(x0, table):
    schedules = [
        Schedule.from_config(SD15 | {"beta_end": end}, steps=10)
        for end in (0.012, 0.014)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules)
    tables = jnp.stack([table, table**1.1])
    pairs = jnp.stack([x0, 2 * x0])

    def run(params, x, schedule):
        return ddim.invert_with_residual(gaussian_model, params, x, schedule)

    got = jax.vmap(run)(tables, pairs, stacked)
    for i in range(2):
        want = run(tables[i], pairs[i], schedules[i])
        np.testing.assert_allclose(got.x_T[i], want.x_T, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.residual[i], want.residual, rtol=1e-4)


@pytest.mark.parametrize("direction", ["invert", "sample"])
def test_works_under_grad(direction, x0, table):
    schedule = Schedule.from_config(SD15, steps=5)

    def loss(x, scale):
        def eps_fn(params, x, t, cond):
            return params[1] * gaussian_model(params[0], x, t, cond)

        out = getattr(ddim, direction)(eps_fn, (table, scale), x, schedule)
        return jnp.mean(out**2)

    grad_x, grad_scale = jax.grad(loss, argnums=(0, 1))(x0, 1.0)
    h = 1e-2
    slope = (loss(x0, 1 + h) - loss(x0, 1 - h)) / (2 * h)
    np.testing.assert_allclose(grad_scale, slope, rtol=1e-2)
    towards = jnp.ones_like(x0)
    slope = (loss(x0 + h * towards, 1.0) - loss(x0 - h * towards, 1.0)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(grad_x), slope, rtol=1e-2)
