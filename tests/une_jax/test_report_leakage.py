"""The leakage control tells what x_T kept of the image from what inversion wrote."""

import jax
import numpy as np
import pytest

from une_jax.report import leakage
from une_jax.schedule import alphas_cumprod_of

N, D, SIGNAL = 1200, 12, 0.076


@pytest.fixture(scope="module")
def rows():
    train = np.arange(N) % 4 > 0
    y = np.random.default_rng(0).random((N, 2)) < [0.5, 0.3]
    return leakage.Rows(index=np.arange(N), y=y, train=train)


@pytest.fixture(scope="module")
def x0(rows):
    """Clean latents of unit variance in which both attributes are linear."""
    x = np.random.default_rng(1).standard_normal((N, D))
    x[:, :2] = 0.8 * np.where(rows.y, 1, -1) + 0.6 * x[:, :2]
    return x.astype(np.float32)


def read(rows, x0, x_T, forward=None, signal=SIGNAL):
    found = leakage.at_level("v", 981, signal, x0, x_T, forward, rows, None)
    return {r.kind: r for r in found}


def own_noise(seed=2):
    return np.random.default_rng(seed).standard_normal((N, D)).astype(np.float32)


def test_what_is_left_of_the_image_is_no_more_than_fresh_noise_keeps(rows, x0):
    """An inversion that adds noise and does nothing else."""
    x_T = np.float32(0.6) * x0 + np.float32(0.8) * own_noise()
    found = read(rows, x0, x_T, signal=0.6)
    assert abs(found["x_T"].auc - found["forward"].auc) < 0.08
    assert 0.65 < found["forward"].auc < 0.85
    assert abs(found["x_T less x0"].auc - 0.5) < 0.08
    assert found["x_T less x0"].linear_in_x0 == pytest.approx(0.36, abs=0.05)
    low, high = gap(found, "x_T")
    assert low < 0 < high


def test_what_inversion_writes_linearly_is_above_fresh_noise_and_regressed_out(
    rows, x0
):
    found = read(rows, x0, 0.9 * x0[:, ::-1] + 0.4 * own_noise())
    assert found["x_T"].auc > 0.9 and found["forward"].auc < 0.65
    assert abs(found["x_T less x0"].auc - 0.5) < 0.08
    assert gap(found, "x_T")[0] > 0.2
    assert found["x_T less x0"].linear_in_x0 > 0.7


def test_what_is_not_linear_in_x0_survives_the_regression(rows, x0):
    """The sign of a clean coordinate, beside the coordinate itself."""
    x_T = np.concatenate([np.sign(x0[:, :2]), own_noise()[:, 2:]], axis=1)
    found = read(rows, x0, x_T)
    assert found["x_T"].auc > 0.85
    assert found["x_T less x0"].auc > 0.55
    assert gap(found, "x_T less x0")[0] > 0


def gap(found, kind):
    row = next(r for r in leakage.table([*found.values()]) if r["latents"] == kind)
    assert row["above forward"] == pytest.approx(found[kind].auc - found["forward"].auc)
    assert row["above low"] <= row["above forward"] <= row["above high"]
    return row["above low"], row["above high"]


def test_fresh_noise_has_the_level_asked_for_and_is_fresh_at_each_t(rows, x0):
    noise = leakage.fresh_noise(jax.random.key(0), 50, 3)
    assert noise.shape == (50, 3)
    again = leakage.fresh_noise(jax.random.key(0), 20, 3)
    np.testing.assert_array_equal(again, noise[:20])  # a row's own, whatever n
    aucs = [
        [r.auc for r in leakage.at_level("v", t, 0.5, x0, x0, None, rows, None)][-1]
        for t in (500, 501)
    ]
    assert aucs[0] != aucs[1]
    given = leakage.at_level("v", 500, 0.5, x0, x0, x0, rows, None)
    own, _, forward = given
    assert forward.auc == own.auc  # what is given is read, and not drawn


def test_the_ends_are_the_clean_latents_and_chance(rows, x0):
    clean, noise = leakage.fixed("v", x0, rows, None)
    assert (clean.kind, clean.signal, clean.t) == ("x0", 1.0, None)
    assert (noise.kind, noise.signal, noise.t) == ("noise", 0.0, None)
    assert clean.auc > 0.95 and abs(noise.auc - 0.5) < 0.1
    assert clean.base_rate == pytest.approx(
        np.maximum(rows.y[~rows.train].mean(0), 1 - rows.y[~rows.train].mean(0)).mean()
    )
    low, high = np.quantile(clean.resampled, (0.025, 0.975))
    assert low < clean.auc < high


def test_levels_follow_the_views_schedule():
    from une_jax.zoo import View

    scheduler = {"beta_schedule": "scaled_linear", "beta_end": 0.012}
    view = View(
        name="v",
        kind="generator",
        model_id="m",
        weights_sha256="0" * 64,
        config={},
        settings={"scheduler": scheduler, "terminal_t": 981},
        shape=(1, 2, 2),
        dtype="float32",
    )
    alphas = alphas_cumprod_of(scheduler)
    assert leakage.level(view) == (981, pytest.approx(alphas[981] ** 0.5))
    assert leakage.level(view, 999) == (999, pytest.approx(alphas[999] ** 0.5))
