"""What is left of y when x is regressed out: no row is judged by a fit that saw it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from une_jax.errors import UneError
from une_jax.residual import regress_out

ALPHAS = jnp.logspace(-4, 2, 7)
regress = jax.jit(regress_out)
BOTH_FORMS = pytest.mark.parametrize("d", [6, 90])  # below and above n = 40


def pairs(n, d, e=5, noise=0.3, seed=0):
    """x, and y of which a part is linear in x; with means."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    y = x[:, :6] @ rng.standard_normal((6, e)) + noise * rng.standard_normal((n, e))
    return (x + 3).astype(np.float32), (y - 1).astype(np.float32)


def both(x, y, n):
    return regress(*(jnp.asarray(a) for a in (x[:n], y[:n], x[n:], y[n:])), ALPHAS)


@BOTH_FORMS
def test_each_row_has_the_residual_of_a_fit_to_the_others(d):
    x, y = pairs(50, d)
    got = both(x, y, 40)
    alpha = float(got.alpha)
    want = np.empty((40, 5))
    for i in range(40):
        rest = np.arange(40) != i
        fit = Ridge(alpha).fit(x[:40][rest].astype(np.float64), y[:40][rest])
        want[i] = y[i] - fit.predict(x[i : i + 1])[0]
    np.testing.assert_allclose(got.rows, want, rtol=1e-3, atol=1e-3)
    spread = np.square(y[:40] - y[:40].mean(0)).sum()
    np.testing.assert_allclose(got.r2, 1 - np.square(want).sum() / spread, atol=1e-4)
    whole = Ridge(alpha).fit(x[:40].astype(np.float64), y[:40])
    left = y[40:] - whole.predict(x[40:])
    np.testing.assert_allclose(got.new, left, rtol=1e-3, atol=1e-3)


@BOTH_FORMS
def test_old_and_new_rows_are_alike(d):
    """In sample, d above n would leave nothing."""
    x, y = pairs(400, d, seed=1)
    got = both(x, y, 40)
    np.testing.assert_allclose(np.std(got.rows) / np.std(got.new), 1, atol=0.3)
    assert np.std(got.rows) > 0.2


def test_what_is_not_linear_stays_and_what_is_goes():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 4)).astype(np.float32)
    wave = np.cos(3 * x[:, :1])
    got = both(x, np.concatenate([5 * x, wave], axis=1).astype(np.float32), 500)
    assert np.abs(got.new[:, :4]).max() < 1e-2
    assert np.corrcoef(got.new[:, 4], wave[500:, 0])[0, 1] > 0.99


def test_a_useless_x_takes_nothing_and_the_penalty_grows():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 300, 5)).astype(np.float32)
    got = both(x, y, 250)
    assert got.r2 < 0.01 and got.alpha > 200
    np.testing.assert_allclose(got.new, y[250:] - y[:250].mean(0), atol=0.15)


@BOTH_FORMS
def test_works_under_vmap(d):
    x, y = pairs(60, d)
    x, y = (jnp.asarray(a) for a in (x, y))
    batch = (jnp.stack([a, a[::-1]]) for a in (x[:40], y[:40], x[20:], y[20:]))
    got = jax.jit(jax.vmap(regress_out, in_axes=(0, 0, 0, 0, None)))(*batch, ALPHAS)
    want = regress(x[:40], y[:40], x[20:], y[20:], ALPHAS)
    np.testing.assert_allclose(got.rows[0], want.rows, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got.new[1], want.new[::-1], rtol=1e-3, atol=1e-3)


def test_one_row_is_refused():
    one = jnp.ones((1, 3))
    with pytest.raises(UneError, match="at least 2 rows"):
        regress_out(one, one, one, one, ALPHAS)
