"""Classifier-free guidance: the formula, one call for both branches, and no branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import ddim, parallel
from une_jax.guidance import Guided, guide, guided
from une_jax.schedule import Schedule, alphas_cumprod_of

B = 4
X = jax.random.normal(jax.random.key(0), (B, 2, 2, 3))
T = jnp.array([981, 501, 21, 1], jnp.int32)
WITH, WITHOUT = jnp.full(1, 1.5), jnp.full(1, -0.5)


def model(params, x, t, cond):
    """A model whose conditions are r rows for a batch that they divide."""
    cond = jnp.repeat(cond, len(x) // len(cond))[:, None, None, None]
    at = t.astype(jnp.float32)[:, None, None, None] / 1000
    return params * jnp.sin(x + cond) + at * cond


def both(cond=WITH, without=WITHOUT, x=X):
    """The two branches, each by a call of its own."""
    return model(0.7, x, T[: len(x)], without), model(0.7, x, T[: len(x)], cond)


def test_it_goes_on_beyond_the_prompt():
    u, c = both()
    for scale in (0.0, 0.5, 1.0, 7.5):
        cond = guide(WITH, WITHOUT, jnp.full(1, scale))
        out = guided(model)(0.7, X, T, cond)
        np.testing.assert_allclose(out, u + scale * (c - u), atol=1e-5)


def test_each_sample_has_its_own_scale_and_prompt():
    scale, prompts = jnp.array([1.0, 2.0, 3.0, 7.5]), jnp.arange(1.0, 5.0)
    u, c = both(prompts)
    out = guided(model)(0.7, X, T, guide(prompts, WITHOUT, scale))
    np.testing.assert_allclose(out, u + scale[:, None, None, None] * (c - u), atol=1e-5)


def test_both_branches_are_one_call_of_twice_the_batch():
    batches = []

    def seen(params, x, t, cond):
        batches.append((x.shape, t.shape, cond.shape))
        return model(params, x, t, cond)

    guided(seen)(0.7, X, T, guide(WITH, WITHOUT, jnp.full(1, 3.0)))
    # One prompt for all stays one row: keys and values are not made for each sample.
    assert batches == [((2 * B, 2, 2, 3), (2 * B,), (2,))]


def test_without_guidance_the_model_is_called_as_it_is():
    calls = []

    def seen(params, x, t, cond):
        calls.append((x, cond))
        return model(params, x, t, cond)

    out = guided(seen)(0.7, X, T, WITH)
    ((x, cond),) = calls
    assert x is X and cond is WITH
    np.testing.assert_array_equal(out, both()[1])


def test_half_precision_is_combined_in_float32():
    """In bfloat16 the difference of two near outputs, times 7.5, would be steps."""

    def half(params, x, t, cond):
        return model(params, x, t, cond).astype(jnp.bfloat16)

    out = guided(half)(0.7, X, T, guide(WITH, WITHOUT, jnp.full(1, 7.5)))
    u, c = (y.astype(jnp.bfloat16).astype(jnp.float32) for y in both())
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, u + 7.5 * (c - u), rtol=1e-6)


def test_conditions_of_many_leaves_are_joined_leaf_by_leaf():
    prompt = {"context": jnp.ones((B, 5, 2)), "scale": jnp.ones(1), "none": None}
    empty = {"context": jnp.zeros((1, 5, 2)), "scale": jnp.zeros(1), "none": None}
    joined = guide(prompt, empty, jnp.ones(1)).both
    assert joined["context"].shape == (2 * B, 5, 2) and joined["none"] is None
    assert not joined["context"][:B].any() and joined["context"][B:].all()
    assert joined["scale"].tolist() == [0, 1]
    with pytest.raises(ValueError):
        guide(prompt, {"context": jnp.ones((1, 5, 2))}, jnp.ones(1))


@pytest.mark.parametrize("method", (ddim.invert, ddim.sample))
def test_the_raw_outputs_of_v_models_are_guided_as_their_noise_is(method):
    """One model, written as eps and as v, takes one guided path."""
    alphas = jnp.asarray(alphas_cumprod_of(SD), jnp.float32)

    def v_model(params, x, t, cond):
        a = alphas[t][:, None, None, None]
        eps = model(params, x, t, cond)
        return (eps - jnp.sqrt(1 - a) * x) / jnp.sqrt(
            a
        )  # v = sqrt(a) eps - ..., solved

    cond = guide(WITH, WITHOUT, jnp.full(1, 3.0))
    paths = []
    for eps_fn, kind in ((model, "epsilon"), (v_model, "v_prediction")):
        config = {**SD, "prediction_type": kind}
        schedule = Schedule.from_config(config, steps=10, eval_at="source")
        paths.append(method(guided(eps_fn), 0.1, X, schedule, cond))
    np.testing.assert_allclose(*paths, rtol=1e-3, atol=1e-3)
    plain = method(model, 0.1, X, Schedule.from_config(SD, steps=10), WITH)
    assert np.abs(plain - paths[0]).max() > 0.05


def test_jit_vmap_grad_and_devices():
    def run(scale, x=X):
        return guided(model)(0.7, x, T[: len(x)], guide(WITH, WITHOUT, scale))

    u, c = both()
    out = jax.jit(jax.vmap(run))(jnp.array([[1.0], [3.0]]))
    np.testing.assert_allclose(out, [c, u + 3 * (c - u)], atol=1e-5)
    slope = jax.grad(lambda scale: run(scale).sum())(jnp.ones(1))
    np.testing.assert_allclose(slope, [(c - u).sum()], rtol=1e-4)

    def part(params, batch):
        told = guide(batch["cond"], params["without"], params["scale"])
        return guided(model)(0.7, batch["x"], batch["t"], told)

    mesh, prompts = parallel.data_mesh(), jnp.arange(1.0, 5.0)
    params = {"without": WITHOUT, "scale": jnp.full(1, 2.0)}
    batch = parallel.shard_batch({"x": X, "t": T, "cond": prompts}, mesh)
    many = parallel.data_parallel(part, mesh)(params, batch)
    u, c = both(prompts)
    np.testing.assert_allclose(many, u + 2 * (c - u), atol=1e-5)


def test_nan_stays_in_its_row():
    cond = guide(WITH, WITHOUT, jnp.full(1, 3.0))
    bad = guided(model)(0.7, X.at[1].set(jnp.nan), T, cond)
    good = guided(model)(0.7, X, T, cond)
    kept = np.array([0, 2, 3])
    np.testing.assert_array_equal(bad[kept], good[kept])
    assert np.isnan(bad[1]).all() and isinstance(cond, Guided)
