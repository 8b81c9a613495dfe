"""The table equals torch's, and says so where it has no answer."""

import jax
import numpy as np
import pytest

from une_jax.errors import UneError
from une_jax.schedule import Schedule

SD15 = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
LCM = SD15 | {"steps_offset": 0, "set_alpha_to_one": True}


def numpy(steps):
    return {k: np.asarray(v) for k, v in steps._asdict().items()}


# Hard numbers, without torch.


@pytest.mark.parametrize(
    "config, steps, terminal_t, signal",
    [
        (SD15, 50, 981, 0.0760),
        (SD15, 150, 895, 0.1221),
        (LCM, 50, 980, None),
        (LCM, 150, 894, None),
        (SD15 | {"timestep_spacing": "trailing"}, 50, 999, 0.0683),
        (SD15 | {"timestep_spacing": "linspace"}, 50, 999, 0.0683),
    ],
)
@pytest.mark.parametrize("eval_at", ["target", "source"])
def test_inversion_ends_at_the_known_noise_level(
    config, steps, terminal_t, signal, eval_at
):
    schedule = Schedule.from_config(config, steps=steps, eval_at=eval_at)
    assert schedule.terminal_t == terminal_t
    if signal is not None:
        assert np.sqrt(schedule.inversion.alpha_to[-1]) == pytest.approx(
            signal, abs=5e-5
        )
    assert schedule.sampling.alpha_from[0] == schedule.inversion.alpha_to[-1]


def test_target_inversion_is_sampling_read_backwards():
    schedule = Schedule.from_config(SD15, steps=50)
    down, up = numpy(schedule.sampling), numpy(schedule.inversion)
    np.testing.assert_array_equal(up["t"], down["t"][::-1])
    np.testing.assert_array_equal(up["alpha_from"], down["alpha_to"][::-1])
    np.testing.assert_array_equal(up["alpha_to"], down["alpha_from"][::-1])


def test_source_inversion_is_the_authors_rule():
    schedule = Schedule.from_config(SD15, steps=50, eval_at="source")
    up = numpy(schedule.inversion)
    taus = np.arange(50) * 20 + 1
    np.testing.assert_array_equal(up["t"], taus[:-1])
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    np.testing.assert_allclose(up["alpha_from"], abar[taus[:-1]], rtol=1e-7)
    np.testing.assert_allclose(up["alpha_to"], abar[taus[1:]], rtol=1e-7)
    np.testing.assert_array_equal(schedule.sampling.t, taus[::-1])


def test_absent_keys_mean_what_ddim_scheduler_means():
    schedule = Schedule.from_config({}, steps=10)
    abar = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    np.testing.assert_array_equal(schedule.sampling.t, np.arange(10)[::-1] * 100)
    np.testing.assert_allclose(schedule.sampling.alpha_from[0], abar[900], rtol=1e-7)
    assert schedule.sampling.alpha_to[-1] == 1
    assert schedule.prediction_type == "epsilon"


def test_trained_betas_win():
    betas = np.linspace(1e-4, 0.03, 1000)
    given = Schedule.from_config(SD15 | {"trained_betas": list(betas)}, steps=7)
    named = Schedule.from_config(
        {"beta_end": 0.03, "steps_offset": 1, "set_alpha_to_one": False}, steps=7
    )
    jax.tree.map(np.testing.assert_array_equal, given, named)


def test_coefficients_are_rounded_once_from_float64():
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    up = numpy(Schedule.from_config(SD15, steps=50).inversion)
    a, a_to = abar[np.r_[0, up["t"][:-1]]], abar[up["t"]]
    c_x = np.sqrt(a_to / a)
    np.testing.assert_array_equal(up["c_x"], c_x.astype(np.float32))
    c_eps = np.sqrt(1 - a_to) - c_x * np.sqrt(1 - a)
    np.testing.assert_allclose(up["c_out"], c_eps, rtol=1e-7)


def test_equal_length_schedules_share_one_compilation():
    traces = []

    @jax.jit
    def first_alpha(schedule):
        traces.append(None)
        return schedule.sampling.alpha_from[0]

    for config in (SD15, LCM, SD15 | {"timestep_spacing": "trailing"}):
        first_alpha(Schedule.from_config(config, steps=20))
    assert len(traces) == 1
    first_alpha(Schedule.from_config(SD15, steps=21))
    assert len(traces) == 2


def test_schedule_is_a_pytree_of_its_tables():
    schedule = Schedule.from_config(SD15, steps=5, eval_at="source")
    again = jax.tree.map(lambda leaf: leaf, schedule)
    assert again.eval_at == "source" and again.terminal_t == schedule.terminal_t
    assert {leaf.shape for leaf in jax.tree.leaves(schedule)} == {(5,), (4,)}


# What it refuses.


@pytest.mark.parametrize(
    "change, steps, says",
    [
        ({"beta_schedule": "sigmoid"}, 50, "beta_schedule is 'sigmoid'.*scaled_linear"),
        ({"timestep_spacing": "karras"}, 50, "timestep_spacing is 'karras'.*trailing"),
        ({"prediction_type": "flow"}, 50, "prediction_type is 'flow'.*v_prediction"),
        ({}, 0, "steps is 0; use 1 to 1000"),
        ({}, 1001, "steps is 1001; use 1 to 1000"),
        ({}, 1000, "steps_offset is 1.*1 to 1000.*0..999"),
        ({"steps_offset": -1}, 50, "steps_offset is -1"),
        ({"trained_betas": [0.1, 0.2]}, 50, r"trained_betas has shape \(2,\).*1000"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, 50, "flow matching"),
    ],
)
def test_bad_config_is_named(change, steps, says):
    with pytest.raises(UneError, match=says):
        Schedule.from_config(SD15 | change, steps=steps)


def test_bad_convention_is_named():
    with pytest.raises(UneError, match="eval_at is 'both'.*target, source"):
        Schedule.from_config(SD15, steps=50, eval_at="both")
    with pytest.raises(UneError, match="steps is 1.*source"):
        Schedule.from_config(SD15, steps=1, eval_at="source")


def test_sample_prediction_cannot_invert_from_alpha_one_but_can_sample():
    schedule = Schedule.from_config(LCM | {"prediction_type": "sample"}, steps=10)
    with pytest.raises(UneError, match="set_alpha_to_one"):
        _ = schedule.inversion
    assert np.isfinite(schedule.sampling.c_out).all()
    source = Schedule.from_config(
        LCM | {"prediction_type": "sample"}, steps=10, eval_at="source"
    )
    assert np.isfinite(source.inversion.c_out).all()


def test_zero_snr_needs_v_prediction_to_sample():
    zero = SD15 | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    epsilon = Schedule.from_config(zero, steps=10)
    assert epsilon.inversion.alpha_to[-1] == 0
    with pytest.raises(UneError, match="rescale_betas_zero_snr"):
        _ = epsilon.sampling
    v = Schedule.from_config(zero | {"prediction_type": "v_prediction"}, steps=10)
    assert all(np.isfinite(column).all() for column in v.sampling)


# Against torch.

CONFIGS = [
    (spacing, offset, one)
    for spacing in ("leading", "trailing", "linspace")
    for offset in ((0, 1) if spacing == "leading" else (0,))
    for one in (False, True)
]


def torch_tables(config, steps):
    """Rows of (t, alpha_from, alpha_to) as DDIMScheduler itself would step them."""
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    rows = []
    for t in scheduler.timesteps.tolist():
        prev = t - scheduler.config.num_train_timesteps // steps
        to = scheduler.alphas_cumprod[prev] if prev >= 0 else None
        to = scheduler.final_alpha_cumprod if to is None else to
        rows.append((t, float(scheduler.alphas_cumprod[t]), float(to)))
    return np.array(rows).T


@pytest.mark.torch
@pytest.mark.parametrize("spacing, offset, one", CONFIGS)
@pytest.mark.parametrize("steps", [7, 10, 33, 50, 150, 999])
def test_tables_equal_torch(steps, spacing, offset, one):
    config = SD15 | {
        "timestep_spacing": spacing,
        "steps_offset": offset,
        "set_alpha_to_one": one,
    }
    schedule = Schedule.from_config(config, steps=steps)
    t, alpha_from, alpha_to = torch_tables(config, steps)
    np.testing.assert_array_equal(schedule.sampling.t, t)
    # torch accumulates alphas_cumprod in float32; ours is the better one.
    close = {"rtol": 2e-5}
    np.testing.assert_allclose(schedule.sampling.alpha_from, alpha_from, **close)
    np.testing.assert_allclose(schedule.sampling.alpha_to, alpha_to, **close)
    np.testing.assert_array_equal(schedule.inversion.t, t[::-1])

    if spacing != "linspace":  # DDIMInverseScheduler has none
        from diffusers import (
            DDIMInverseScheduler,  # pyright: ignore[reportPrivateImportUsage]
        )

        inverse = DDIMInverseScheduler.from_config(config)
        inverse.set_timesteps(steps)
        np.testing.assert_array_equal(schedule.inversion.t, inverse.timesteps)
        assert float(schedule.inversion.alpha_from[0]) == pytest.approx(
            alpha_to[-1], rel=2e-5
        )


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 33])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDIMInverseScheduler"])
def test_every_step_equals_torchs_step(name, kind, spacing, steps):
    import diffusers
    import torch

    config = SD15 | {"timestep_spacing": spacing, "prediction_type": kind}
    schedule = Schedule.from_config(config, steps=steps)
    rows = schedule.sampling if name == "DDIMScheduler" else schedule.inversion
    theirs = getattr(diffusers, name).from_config(config)
    theirs.set_timesteps(steps)
    rng = np.random.default_rng(0)
    for row in zip(*rows, strict=True):
        x, out = rng.standard_normal((2, 16)).astype(np.float32)
        t, _, _, c_x, c_out = row[:5]
        want = theirs.step(torch.tensor(out), int(t), torch.tensor(x)).prev_sample
        ours = np.asarray(c_x) * x + np.asarray(c_out) * out
        # torch rounds 1 - alpha to float32: 7e-5 of it at the first timesteps.
        np.testing.assert_allclose(ours, want, rtol=5e-5, atol=5e-5)


@pytest.mark.torch
@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True},
    ],
)
def test_other_beta_schedules_equal_torch(change):
    config = SD15 | change | {"prediction_type": "v_prediction"}
    rows = Schedule.from_config(config, steps=50).sampling
    t, alpha_from, alpha_to = torch_tables(config, 50)
    np.testing.assert_array_equal(rows.t, t)
    np.testing.assert_allclose(rows.alpha_from, alpha_from, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(rows.alpha_to, alpha_to, rtol=1e-4, atol=1e-7)
