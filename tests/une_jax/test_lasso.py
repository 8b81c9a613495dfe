"""Lasso equals sklearn's, target by target, on the rows of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso

from une_jax import lasso, splits

fit = jax.jit(lasso.fit, static_argnames="max_iter")


def data(n=200, d=12, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, d)) * np.linspace(1, 2, d) + 3).astype(np.float32)
    y = x[:, :3] - 3 + rng.standard_normal((n, 3)) > [0.5, 0.0, -1.0]
    return x, y


def sklearns(x, y, alpha):
    """(weight, bias, objective) in float64."""
    f = Lasso(alpha, tol=1e-10, max_iter=100_000).fit(x.astype(float), y.astype(float))
    loss = np.mean((y - f.predict(x.astype(float))) ** 2) / 2
    return f.coef_, f.intercept_, loss + alpha * np.abs(f.coef_).sum()


@pytest.mark.parametrize("n, d, alpha", [(200, 12, 0.02), (200, 12, 0.1), (60, 150, 0.05)])  # fmt: skip
@pytest.mark.parametrize("balanced", [False, True])
def test_equals_sklearns(n, d, alpha, balanced):
    x, y = data(n, d)
    rows = np.asarray(splits.balanced(jnp.asarray(y))[0]) if balanced else np.ones_like(y)  # fmt: skip
    found = fit(jnp.asarray(x), jnp.asarray(y), alpha, rows=jnp.asarray(rows), tol=1e-6)
    for j in range(3):
        part = rows[:, j]
        weight, bias, best = sklearns(x[part], y[part, j], alpha)
        np.testing.assert_allclose(found.weight[j], weight, atol=2e-3)
        np.testing.assert_allclose(found.bias[j], bias, atol=5e-3)
        w, b = np.asarray(found.weight[j], float), float(found.bias[j])
        loss = np.mean((y[part, j] - x[part] @ w - b) ** 2) / 2
        excess = loss + alpha * np.abs(w).sum() - best
        assert excess <= float(found.gap[j]) + 1e-6
        assert found.gap[j] < 1e-5
        # Sparse in the same places.
        zeros = weight == 0
        assert zeros.any() or alpha < 0.05
        np.testing.assert_allclose(found.weight[j][zeros], 0, atol=1e-3)


def test_a_strong_penalty_leaves_the_mean():
    x, y = data()
    found = fit(jnp.asarray(x), jnp.asarray(y), 10.0)
    np.testing.assert_array_equal(found.weight, 0)
    np.testing.assert_allclose(found.bias, y.mean(0), rtol=1e-5)


def test_too_few_steps_are_seen_in_the_gap():
    x, y = data(60, 150)
    few = fit(jnp.asarray(x), jnp.asarray(y), 0.02, max_iter=3)
    assert few.iterations == 3 and (few.gap > 1e-3).all()


def test_a_target_without_rows_is_zero():
    x, y = data()
    rows = jnp.ones(y.shape, bool).at[:, 1].set(False)
    found = fit(jnp.asarray(x), jnp.asarray(y), 0.02, rows=rows)
    np.testing.assert_array_equal(found.weight[1], 0)
    assert found.bias[1] == 0 and jnp.isfinite(found.weight).all()


def test_works_under_vmap_over_penalties():
    x, y = (jnp.asarray(v) for v in data())
    alphas = jnp.array([0.01, 0.1])
    got = jax.vmap(lambda alpha: lasso.fit(x, y, alpha))(alphas)
    for i in range(2):
        want = fit(x, y, alphas[i])
        np.testing.assert_allclose(got.weight[i], want.weight, atol=2e-3)
    assert (got.weight[1] == 0).sum() > (got.weight[0] == 0).sum()
