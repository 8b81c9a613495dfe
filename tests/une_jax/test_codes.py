"""Stochastic codes: both encoders, skip, seeds, spread, and translation by them."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD
from test_dpm_encoder import as_v, gaussian, images, keys

from une_jax import (
    code_spread,
    codes,
    ddim,
    dpm_encoder,
    edit_friendly,
    parallel,
    translation,
)
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.translation import Side, translate

ENCODERS = {"dpm-encoder": dpm_encoder, "edit-friendly": edit_friendly}
TEN = Schedule.from_config(SD, steps=10)
pytestmark = pytest.mark.usefixtures("compiling_fast")
every_encoder = pytest.mark.parametrize("kind", ENCODERS)
every_code = pytest.mark.parametrize("code", translation.KINDS)


def coded(kind, x0, schedule=TEN, model=gaussian, **how):
    how = {"keys": keys(len(x0)), "eta": 0.5} | how
    return ENCODERS[kind].encode(model, 1.0, x0, schedule, **how)


def decoded(code, schedule=TEN, params=1.0, **how):
    return codes.decode(gaussian, params, code, schedule, **{"eta": 0.5, **how})


@every_encoder
@pytest.mark.parametrize("to_one", (False, True))
@pytest.mark.parametrize("skip", (0, 6, 19))
def test_reconstruction_is_exact_with_the_last_step_and_any_skip(kind, to_one, skip):
    schedule = Schedule.from_config({**SD, "set_alpha_to_one": to_one}, steps=20)
    x0 = images(2)
    code = coded(kind, x0, schedule, skip=skip)
    assert np.abs(decoded(code, schedule, skip=skip) - x0).max() < 1e-5
    assert not code.eps[:, :skip].any() and code.eps[:, skip:].any((0, 2, 3, 4)).all()
    # The last step is not skipped: without its noise, as in the authors' code, it misses.
    without = code._replace(eps=code.eps.at[:, -1].set(0))
    assert np.abs(decoded(without, schedule, skip=skip) - x0).max() > 1e-2


@every_encoder
def test_skip_is_data_and_a_trimmed_code_needs_none(kind):
    x0, traces = images(2), []

    def there(x0, skip):
        traces.append(1)
        return coded(kind, x0, skip=skip)

    for skip in (0, 4):
        code = jax.jit(there)(x0, skip)
        np.testing.assert_allclose(code.eps, coded(kind, x0, skip=skip).eps, atol=1e-4)
        short = codes.trim(code, skip)
        assert short.eps.shape == (2, 10 - skip, 8, 8, 4)
        np.testing.assert_array_equal(
            decoded(short, params=0.5), decoded(code, params=0.5, skip=skip)
        )
    many = jax.vmap(there, (None, 0))(x0, jnp.array([0, 4]))
    np.testing.assert_allclose(many.eps[1], code.eps, atol=1e-4)


@every_encoder
def test_the_more_is_skipped_the_more_stays(kind):
    x0 = images(2)
    gone = [
        float(np.abs(decoded(coded(kind, x0, skip=s), params=0.5, skip=s) - x0).mean())
        for s in (0, 5, 9)
    ]
    assert gone[0] > gone[1] > gone[2] > 0


@every_encoder
@pytest.mark.parametrize("skip", (0, 5))
def test_every_sample_on_the_way_has_the_forward_marginal(kind, skip):
    """Given x0: mean sqrt(a) x0, variance 1 - a."""
    x0 = jnp.full((1, 64, 64, 4), 1.5)
    seen = []
    path = ENCODERS[kind].path

    def seeing(*args):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), out := path(*args))
        return out

    args = (gaussian, 1.0, x0, TEN)
    how = {"keys": keys(1), "eta": 0.5, "skip": skip}
    code = codes.encode_along(seeing, *args, **how).code
    jax.effects_barrier()
    seen = [np.asarray(code.x_T), *seen[:-1]]  # the last one gives way to x0
    a = np.asarray(TEN.sampling.alpha_from)[skip:]
    assert len(seen) == len(a)
    means, variances = [x.mean() for x in seen], [x.var() for x in seen]
    np.testing.assert_allclose(means, 1.5 * np.sqrt(a), atol=0.03)
    np.testing.assert_allclose(variances, 1 - a, rtol=0.05)


@pytest.mark.parametrize("eta", (0.1, 1.0))
@pytest.mark.parametrize("power", (1.0, 0.25))
@pytest.mark.parametrize("to_one", (False, True))
@every_encoder
def test_the_spread_of_codes_is_the_predicted_one_and_whitening_undoes_it(
    kind, to_one, power, eta
):
    """Data N(0, power), whose optimal denoiser is known; the last step too."""
    schedule = Schedule.from_config({**SD, "set_alpha_to_one": to_one}, steps=10)
    x0 = images(4, side=48) * power**0.5
    encode = ENCODERS[kind].encode
    code = encode(gaussian, power**0.5, x0, schedule, keys=keys(4), eta=eta)
    v = code_spread.unknown(schedule, power)
    how = {"eta": eta, "kind": kind, "power": power}
    wanted = code_spread.variance(schedule, v, **how)
    found = np.var(np.asarray(code.eps), axis=(0, 2, 3, 4))
    np.testing.assert_allclose(found, wanted, rtol=0.05)
    white = code_spread.whiten(code, wanted)
    np.testing.assert_allclose(np.var(white.eps, axis=(0, 2, 3, 4)), 1, rtol=0.05)
    again = code_spread.unwhiten(codes.trim(white, 3), wanted)
    np.testing.assert_allclose(again.eps, code.eps[:, 3:], rtol=1e-5, atol=1e-6)
    c = dpm_encoder.excess(schedule, eta=eta)
    if kind == "dpm-encoder":
        np.testing.assert_allclose(wanted[:-1], (1 + c**2 * v)[:-1], rtol=1e-3)


def test_the_spread_at_no_signal_is_finite():
    """Zero terminal SNR: the first step starts where the sample says nothing of x0."""
    config = {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    schedule = Schedule.from_config(config | {"timestep_spacing": "trailing"}, steps=10)
    x0 = images(4, side=48)
    alphas = np.r_[schedule.sampling.alpha_from]
    t, levels = np.asarray(schedule.sampling.t), jnp.asarray(alphas)

    def model(params, x, at, cond):
        a = levels[jnp.argmax(at[:, None] == t[None], axis=1)][:, None, None, None]
        eps = jnp.sqrt(1 - a) * x  # a s^2 + 1 - a = 1; and x0 = sqrt(a) x, so v = 0
        return jnp.sqrt(a) * eps - jnp.sqrt(1 - a) * jnp.sqrt(a) * x

    for kind, module in ENCODERS.items():
        code = module.encode(model, None, x0, schedule, keys=keys(4), eta=0.5)
        v = code_spread.unknown(schedule)
        wanted = code_spread.variance(schedule, v, eta=0.5, kind=kind)
        found = np.var(np.asarray(code.eps), axis=(0, 2, 3, 4))
        np.testing.assert_allclose(found, wanted, rtol=0.05)


def test_another_kind_has_no_spread():
    with pytest.raises(UneError, match="kind is 'ddim'"):
        code_spread.variance.__wrapped__(TEN, code_spread.unknown(TEN), kind="ddim")


@every_encoder
def test_a_seed_is_all_that_need_be_kept(kind):
    x0 = images(2)
    how = {"eta": 0.5, "skip": 2}
    code = coded(kind, x0, **how)
    kept = jax.tree.map(np.asarray, codes.seed(x0, keys(2)))  # as a file would hold it
    assert sum(leaf.nbytes for leaf in kept) == 2 * (8 * 8 * 4 + 2) * 4
    again = codes.recover(ENCODERS[kind].encode, gaussian, 1.0, kept, TEN, **how)
    for one, other in zip(code, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_edit_friendly_codes_of_a_v_prediction_twin_and_of_a_batch_are_the_same():
    x0 = images(3)
    velocity = Schedule.from_config({**SD, "prediction_type": "v_prediction"}, steps=10)
    one = coded("edit-friendly", x0)
    twin = coded("edit-friendly", x0, velocity, as_v)
    np.testing.assert_allclose(one.eps, twin.eps, atol=5e-3)
    alone = coded("edit-friendly", x0[1:2], keys=keys(3)[1:2])
    np.testing.assert_allclose(one.eps[1:2], alone.eps, atol=1e-5)


def test_edit_friendly_neighbours_are_anticorrelated():
    """One x_t's noise is in two of the z: with opposite signs. DPM-Encoder's is not."""
    x0 = images(4, side=32)
    said = {}
    for kind in ENCODERS:
        z = np.moveaxis(np.asarray(coded(kind, x0, eta=1.0).eps), 1, 0).reshape(10, -1)
        said[kind] = np.diag(np.corrcoef(z), 1)[:-1]
    assert said["edit-friendly"].max() < -0.2
    assert np.abs(said["dpm-encoder"]).max() < 0.2


def test_what_decoding_cannot_take():
    code = coded("dpm-encoder", images(1))
    with pytest.raises(UneError, match="the code has 10 steps' noise, the schedule 5"):
        decoded(code, Schedule.from_config(SD, steps=5))
    for skip in (-1, 10):
        with pytest.raises(UneError, match=f"skip is {skip}; of 10 steps"):
            coded("edit-friendly", images(1), skip=skip)


SOURCE = Side(jnp.float32(1.0), TEN)
TARGET = Side(jnp.float32(0.5), TEN)


def between(x0, k, source=SOURCE, target=TARGET, model=gaussian, **how):
    return translate(
        gaussian, model, x0, source, target, **{"keys": k, "eta": 0.5, **how}
    )


@every_encoder
@pytest.mark.parametrize("skip", (0, 4))
def test_translation_is_one_models_code_decoded_by_the_other(kind, skip):
    x0 = images(2)
    code = coded(kind, x0, skip=skip)
    wanted = decoded(code, params=0.5, skip=skip)
    found = between(x0, keys(2), code=kind, skip=skip)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found - x0).max() > 0.1
    back = between(x0, keys(2), target=SOURCE, code=kind, skip=skip)
    np.testing.assert_allclose(back, x0, atol=1e-5)


@pytest.mark.parametrize("eval_at", ("source", "target"))
def test_by_ddim_it_is_inversion_and_sampling(eval_at):
    schedule = Schedule.from_config(SD, steps=10, eval_at=eval_at)
    one, other = (Side(jnp.float32(p), schedule) for p in (1.0, 0.5))
    x0 = images(2)
    found = between(x0, None, one, other, code="ddim")
    x_T = ddim.invert(gaussian, 1.0, x0, schedule)
    wanted = ddim.sample(gaussian, 0.5, x_T, schedule)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # Part of the way: the sample is that of the trajectory, and both stop there.
    at = schedule.sampling.t[6:7]
    half = ddim.trajectory(gaussian, 1.0, x0, schedule, at=at)[:, 0]
    for row in range(6, 10):
        row = jax.tree.map(lambda leaf: leaf[row], schedule.sampling)  # noqa: B023
        half = ddim.ddim_step(gaussian, 0.5, half, row, None)[0]
    found = between(x0, None, one, other, code="ddim", skip=6)
    np.testing.assert_allclose(found, half, atol=1e-5)


@every_code
def test_the_target_may_be_of_another_prediction_type(code):
    velocity = Schedule.from_config({**SD, "prediction_type": "v_prediction"}, steps=10)
    x0, twin = images(2), Side(jnp.float32(0.5), velocity)
    np.testing.assert_allclose(
        between(x0, keys(2), target=twin, model=as_v, code=code),
        between(x0, keys(2), code=code),
        atol=5e-3,
    )


@every_code
def test_translation_compiles_once_for_any_skip_maps_and_shards(code):
    x0, k = images(4), keys(4)
    traces = []

    @ft.partial(jax.jit, static_argnames="code")
    def compiled(x0, k, source, target, skip, code):
        traces.append(1)
        return between(x0, k, source, target, skip=skip, code=code)

    for skip in (0, 7):
        wanted = between(x0, k, code=code, skip=skip)
        found = compiled(x0, k, SOURCE, TARGET, skip, code)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert len(traces) == 1
    each = jax.vmap(lambda x, k: between(x[None], k[None], code=code, skip=7)[0])
    np.testing.assert_allclose(each(x0, k), wanted, atol=1e-4)

    def run(sides, batch):
        return between(*batch, *sides[:2], code=code, skip=sides[2])

    mesh = parallel.data_mesh()
    split = parallel.data_parallel(run, mesh)
    found = split((SOURCE, TARGET, jnp.array(7)), parallel.shard_batch((x0, k), mesh))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_cannot_be_translated():
    x0, k = images(1), keys(1)
    with pytest.raises(UneError, match="eta is 0.0; use above 0"):
        between(x0, k, eta=0.0)
    with pytest.raises(UneError, match="the source has 10 steps and the target 5"):
        between(x0, k, target=Side(1.0, Schedule.from_config(SD, steps=5)))
    with pytest.raises(UneError, match="draws noise: give keys"):
        between(x0, None)
    for code in translation.KINDS:
        with pytest.raises(UneError, match="skip is 10; of 10 steps"):
            between(x0, k, code=code, skip=10)
