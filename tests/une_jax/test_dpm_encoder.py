import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import dpm_encoder
from une_jax.errors import UneError
from une_jax.schedule import Schedule, alphas_cumprod_of

ALPHAS = jnp.asarray(alphas_cumprod_of(SD), jnp.float32)


def keys(n, seed=3):
    return jax.random.split(jax.random.key(seed), n)


def gaussian(params, x, t, cond):
    """The optimal eps for data N(0, params^2)."""
    del cond
    a = ALPHAS[t][:, None, None, None]
    return jnp.sqrt(1 - a) * x / (a * params**2 + 1 - a)


def as_v(params, x, t, cond):
    """The same model in v-prediction: v = sqrt(a) eps - sqrt(1 - a) x0."""
    a = ALPHAS[t][:, None, None, None]
    eps = gaussian(params, x, t, cond)
    x0 = (x - jnp.sqrt(1 - a) * eps) / jnp.sqrt(a)
    return jnp.sqrt(a) * eps - jnp.sqrt(1 - a) * x0


def images(n, side=8):
    return jax.random.normal(jax.random.key(1), (n, side, side, 4))


@pytest.mark.parametrize("to_one", (False, True))
@pytest.mark.parametrize("eta", (0.1, 1.0))
def test_the_same_model_gives_the_image_back(eta, to_one):
    schedule = Schedule.from_config({**SD, "set_alpha_to_one": to_one}, steps=20)
    x0 = images(2)
    code = dpm_encoder.encode(gaussian, 1.0, x0, schedule, keys=keys(2), eta=eta)
    again = dpm_encoder.decode(gaussian, 1.0, code, schedule, eta=eta)
    assert np.abs(again - x0).max() < 1e-4
    other = dpm_encoder.decode(gaussian, 0.5, code, schedule, eta=eta)
    assert np.abs(other - x0).max() > 0.1


@pytest.mark.parametrize("eta", (0.1, 1.0))
def test_the_codes_variance_is_the_predicted_one(eta):
    """specs: Var(eps) = 1 + c^2 Var(e | x_t), Var(e | x_t) = a s^2 / (a s^2 + 1 - a)."""
    schedule = Schedule.from_config(SD, steps=10)
    x0 = images(4, side=64)
    code = dpm_encoder.encode(gaussian, 1.0, x0, schedule, keys=keys(4), eta=eta)
    a = np.asarray(schedule.sampling.alpha_from, np.float64)
    unknown = a / (a + 1 - a)
    wanted = 1 + np.asarray(dpm_encoder.excess(schedule, eta=eta)) ** 2 * unknown
    # The last step is no draw: its x_s is x0 itself.
    found = np.var(np.asarray(code.eps), axis=(0, 2, 3, 4))
    np.testing.assert_allclose(found[:-1], wanted[:-1], rtol=0.03)
    assert found[-2] > 1.5  # far from standard normal, as it must be
    np.testing.assert_allclose(np.var(np.asarray(code.x_T)), 1.0, rtol=0.03)


def test_a_v_prediction_twin_gives_the_same_code():
    x0 = images(2)
    codes = [
        dpm_encoder.encode(
            model,
            1.0,
            x0,
            Schedule.from_config({**SD, "prediction_type": kind}, steps=10),
            keys=keys(2),
        )
        for model, kind in ((gaussian, "epsilon"), (as_v, "v_prediction"))
    ]
    np.testing.assert_allclose(codes[0].eps, codes[1].eps, atol=5e-3)


def test_a_code_depends_on_its_own_key_alone():
    schedule = Schedule.from_config(SD, steps=4)
    x0 = images(3)

    def encode(x, k):
        return dpm_encoder.encode(gaussian, 1.0, x, schedule, keys=k)

    whole, alone = encode(x0, keys(3)), encode(x0[1:2], keys(3)[1:2])
    np.testing.assert_allclose(whole.eps[1:2], alone.eps, atol=1e-5)
    assert np.abs(encode(x0, keys(3, seed=4)).x_T - whole.x_T).max() > 0.1


@pytest.mark.parametrize("eta", (0.0, -0.1, 1.5))
def test_without_noise_there_is_no_code(eta):
    schedule = Schedule.from_config(SD, steps=4)
    with pytest.raises(UneError, match=f"eta is {eta}"):
        dpm_encoder.encode(gaussian, 1.0, images(1), schedule, keys=keys(1), eta=eta)
