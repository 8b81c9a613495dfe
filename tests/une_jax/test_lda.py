"""LDA equals sklearn's, and a logistic probe where both are Bayes'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from une_jax import lda, probes
from une_jax.errors import UneError

fit = jax.jit(lda.fit, static_argnames="components")


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5
    x = (z @ rng.standard_normal((d, d)) + 2).astype(np.float32)
    y = z[:, :3] + 0.4 * rng.standard_normal((n, 3)) > [1.0, 0.2, 0.0]
    return x, y


@pytest.mark.parametrize("n, d, k", [(400, 20, 8), (400, 20, 20), (60, 200, 10)])
def test_equals_sklearns(n, d, k):
    x, y = data(n, d)
    probe = fit(jnp.asarray(x), jnp.asarray(y), components=k)
    pca = PCA(k, svd_solver="full")
    z = pca.fit_transform(x.astype(np.float64))
    scores = np.stack(
        [LinearDiscriminantAnalysis(solver="lsqr").fit(z, v).decision_function(z) for v in y.T],
        axis=1,
    )  # fmt: skip
    got = probes.scores(probe, jnp.asarray(x))
    np.testing.assert_allclose(got, scores, rtol=1e-3, atol=2e-4 * np.abs(scores).max())


def test_agrees_with_logistic_regression_on_two_gaussians():
    rng = np.random.default_rng(1)
    y = rng.random((4000, 1)) < 0.3
    x = (rng.standard_normal((4000, 6)) + y * [1.5, 0, 0, 0, 0, 0.5]).astype(np.float32)
    one, other = (of(jnp.asarray(x), jnp.asarray(y)) for of in (lda.fit, probes.fit))
    np.testing.assert_allclose(one.weight, other.weight, atol=0.12)
    assert jnp.isnan(one.objective).all() and jnp.isnan(one.gradient_norm).all()


def test_one_class_is_the_constant_of_a_logistic_probe():
    x, y = data(70, 5)
    y[:, 1], y[:, 2] = True, False
    probe = fit(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_array_equal(probe.weight[1:], 0)
    np.testing.assert_allclose(probe.bias[1:], [np.log(141), -np.log(141)], rtol=1e-6)
    assert jnp.any(probe.weight[0] != 0)


def test_works_under_vmap():
    (x0, y0), (x1, y1) = data(50, 4, 0), data(50, 4, 1)
    xs, ys = jnp.stack([x0, x1]), jnp.stack([y0, y1])
    got = jax.vmap(lda.fit)(xs, ys)
    for i in range(2):
        np.testing.assert_allclose(
            got.weight[i], fit(xs[i], ys[i]).weight, rtol=1e-3, atol=1e-4
        )


def test_bad_input_is_named():
    with pytest.raises(UneError, match="components is 0"):
        lda.fit(jnp.ones((4, 3)), jnp.ones((4, 1)), components=0)
