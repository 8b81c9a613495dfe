"""Stochastic codes at their edges: own eta, levels that differ, alpha 0, any skip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD
from test_dpm_encoder import gaussian, images, keys

from une_jax import code_spread, codes, dpm_encoder, edit_friendly, hspace, translation
from une_jax.errors import UneError
from une_jax.schedule import Schedule, alphas_cumprod_of
from une_jax.translation import Side, translate

ENCODERS = {"dpm-encoder": dpm_encoder, "edit-friendly": edit_friendly}
TEN = Schedule.from_config(SD, steps=10)
COSINE = {"beta_schedule": "squaredcos_cap_v2", "steps_offset": 1}
ZERO_SNR = {
    **SD,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}
pytestmark = pytest.mark.usefixtures("compiling_fast")
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


@every_encoder
def test_every_default_of_eta_is_the_codes_own(kind):
    module, eta, x0 = ENCODERS[kind], codes.ETA[kind], images(1)
    code = module.encode(gaussian, 1.0, x0, TEN, keys=keys(1))
    wanted = module.encode(gaussian, 1.0, x0, TEN, keys=keys(1), eta=eta)
    np.testing.assert_array_equal(code.eps, wanted.eps)
    again = module.decode(gaussian, 1.0, code, TEN)
    np.testing.assert_allclose(again, x0, atol=1e-4)
    kept = codes.seed(x0, keys(1))
    recovered = codes.recover(module.encode, gaussian, 1.0, kept, TEN)
    np.testing.assert_array_equal(recovered.eps, code.eps)
    v = code_spread.unknown(TEN)
    np.testing.assert_array_equal(
        code_spread.variance(TEN, v, kind=kind),
        code_spread.variance(TEN, v, kind=kind, eta=eta),
    )
    one, other = (Side(jnp.float32(p), TEN) for p in (1.0, 0.5))
    found = translate(gaussian, gaussian, x0, one, other, keys=keys(1), code=kind)
    wanted = module.decode(gaussian, 0.5, code, TEN)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def optimal(config):
    """The best eps for data N(0, params^2) by a config's levels."""
    alphas = jnp.asarray(alphas_cumprod_of(config), jnp.float32)

    def model(params, x, t, cond):
        del cond
        a = alphas[t][:, None, None, None]
        return jnp.sqrt(1 - a) * x / (a * params**2 + 1 - a)

    return model


@pytest.mark.parametrize("code", translation.KINDS)
@pytest.mark.parametrize("way", ((SD, COSINE), (COSINE, SD)))
@pytest.mark.parametrize("skip", (0, 60))
def test_the_target_starts_at_its_own_level(code, way, skip):
    """Scaled linear to cosine and back: by its first sample, which its model sees."""
    source, target = (Schedule.from_config(config, steps=100) for config in way)
    a, a_to = (side.sampling.alpha_from[skip].item() for side in (source, target))
    assert skip == 0 or abs(a - a_to) > 0.1
    seen, best = {}, optimal(way[1])

    def seeing(params, x, t, cond):
        jax.debug.callback(lambda t, x: seen.update({int(t[0]): np.asarray(x)}), t, x)
        return best(params, x, t, cond)

    # Of the stochastic codes the level is the draw's; inversion's is its data's.
    x0 = 0.3 * images(1, side=64)
    x0 = x0 if code == "ddim" else jnp.full_like(x0, 1.5)
    sides = (Side(jnp.float32(0.3), schedule) for schedule in (source, target))
    how = {"code": code, "skip": skip, "keys": keys(1)}
    found = translate(optimal(way[0]), seeing, x0, *sides, **how)
    jax.effects_barrier()
    assert len(seen) == 100 - skip
    first = seen[max(seen)]
    if code == "ddim":
        variance = a_to * 0.3**2 + 1 - a_to
        # One flow, by two schedules: the image comes back.
        assert np.abs(found - x0).mean() < 0.1 * np.abs(x0).mean()
    else:
        variance = 1 - a_to
        assert first.mean() == pytest.approx(1.5 * a_to**0.5, abs=0.03)
    assert first.var() == pytest.approx(variance, rel=0.06)


def test_skip_is_any_integer_and_every_integer_is_looked_at():
    x0, side = images(1), Side(jnp.float32(1.0), TEN)
    code = dpm_encoder.encode(gaussian, 1.0, x0, TEN, keys=keys(1), skip=4)
    kinds = (np.int64, np.array, jnp.int32)
    for kind in kinds:
        for wrong in (-1, 10):
            skip = kind(wrong)
            for module in ENCODERS.values():
                with pytest.raises(UneError, match=f"skip is {wrong}; of 10 steps"):
                    module.encode(gaussian, 1.0, x0, TEN, keys=keys(1), skip=skip)
                with pytest.raises(UneError, match=f"skip is {wrong}; of 10 steps"):
                    module.decode(gaussian, 1.0, code, TEN, skip=skip)
            for name in translation.KINDS:
                how = {"code": name, "keys": keys(1), "skip": skip}
                with pytest.raises(UneError, match=f"skip is {wrong}; of 10 steps"):
                    translate(gaussian, gaussian, x0, side, side, **how)
        skip = kind(4)
        same = dpm_encoder.encode(gaussian, 1.0, x0, TEN, keys=keys(1), skip=skip)
        np.testing.assert_array_equal(same.eps, code.eps)
        for name in translation.KINDS:
            how = {"code": name, "keys": keys(1)}
            np.testing.assert_allclose(
                translate(gaussian, gaussian, x0, side, side, skip=skip, **how),
                translate(gaussian, gaussian, x0, side, side, skip=4, **how),
                atol=1e-6,
            )


def test_at_no_signal_all_is_finite():
    """Zero terminal SNR: the first step starts at alpha 0."""
    schedule = Schedule.from_config(ZERO_SNR, steps=10)
    assert schedule.sampling.alpha_from[0] == 0
    c = dpm_encoder.excess(schedule)
    v = code_spread.unknown(schedule)
    assert v[0] == 0 and np.isfinite(c).all()
    # Elsewhere as ever: what code_spread's variance says.
    wanted = code_spread.variance(schedule, v)
    np.testing.assert_allclose((1 + c**2 * v)[1:-1], wanted[1:-1], rtol=1e-3)
    symmetric, asymmetric = hspace.gains(schedule)
    assert symmetric[0] == asymmetric[0] == 0
    assert np.isfinite(symmetric).all() and (asymmetric[1:] < 0).all()
