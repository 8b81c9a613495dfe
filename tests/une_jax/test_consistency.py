import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import consistency
from une_jax.errors import UneError

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SHAPE = (4, 4, 4)


def keys(n):
    return jax.random.split(jax.random.key(7), n)


def noise(n):
    return jax.random.normal(jax.random.key(3), (n, *SHAPE))


def knows(x0, steps):
    """The eps of a model that takes every x for a noisy ``x0``."""
    levels = jnp.zeros(1000).at[steps.t].set(steps.alpha)

    def eps_fn(params, x, t, cond):
        alpha = levels[t][:, None, None, None]
        return (x - jnp.sqrt(alpha) * x0) / jnp.sqrt(1 - alpha)

    return eps_fn


@pytest.mark.parametrize("n", (1, 4, 50))
def test_a_model_that_knows_the_image_samples_it(n):
    steps = consistency.steps_of(CONFIG, steps=n)
    eps_fn = knows(0.7, steps)
    x0 = consistency.sample(eps_fn, None, noise(2), steps, None, keys(2))
    np.testing.assert_allclose(x0, 0.7, atol=1e-4)


def test_timesteps_fall_and_the_last_level_is_the_image():
    steps = consistency.steps_of(CONFIG, steps=8)
    assert np.all(np.diff(steps.t) < 0) and steps.t[0] == 999
    assert np.all(np.diff(steps.alpha) > 0)
    np.testing.assert_array_equal(steps.alpha_to, np.append(steps.alpha[1:], 1))


def test_between_steps_noise_of_the_next_level_is_added():
    """After one step of two, a model that knows 0 leaves noise of that variance."""
    both = consistency.steps_of(CONFIG, steps=2)
    first = jax.tree.map(lambda column: column[:1], both)
    x = consistency.sample(knows(0.0, both), None, noise(64), first, None, keys(64))
    assert float(jnp.var(x)) == pytest.approx(float(1 - both.alpha[1]), rel=0.05)
    assert float(jnp.corrcoef(x[0].ravel(), x[1].ravel())[0, 1]) < 0.5


def test_a_row_depends_on_its_own_noise_and_key_alone():
    steps = consistency.steps_of(CONFIG, steps=3)

    def sample(x_T, keys):
        return consistency.sample(lambda p, x, t, c: 0.3 * x, None, x_T, steps, None, keys)  # fmt: skip

    x_T, own = noise(3), keys(3)
    whole = sample(x_T, own)
    np.testing.assert_allclose(sample(x_T[1:2], own[1:2]), whole[1:2], rtol=1e-6)
    each = jax.vmap(lambda x, key: sample(x[None], key[None])[0])(x_T, own)
    np.testing.assert_allclose(each, whole, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(sample)(x_T, own), whole, rtol=1e-5, atol=1e-6)
    assert not np.allclose(sample(x_T, keys(4)[1:]), whole)


def test_the_boundary_is_the_identity_at_time_zero_and_the_model_far_from_it():
    assert consistency.boundary(0.0) == (1.0, 0.0)
    c_skip, c_out = consistency.boundary(np.array([1.0, 999.0]))
    assert np.all(c_skip < 0.003) and np.all(c_out > 0.998)


@pytest.mark.parametrize(
    ("config", "steps", "said"),
    (
        (CONFIG, 0, "steps is 0; use 1 to 50"),
        (CONFIG, 51, "steps is 51; use 1 to 50"),
        ({**CONFIG, "original_inference_steps": 5}, 6, "use 1 to 5"),
        ({**CONFIG, "prediction_type": "v_prediction"}, 4, "'v_prediction'"),
    ),
)
def test_what_cannot_be_sampled_is_refused(config, steps, said):
    with pytest.raises(UneError, match=said):
        consistency.steps_of(config, steps=steps)
