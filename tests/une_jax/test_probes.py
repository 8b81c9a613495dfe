"""Probes equal sklearn's pipeline, and the Bayes direction where that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from une_jax import logistic, probes
from une_jax.errors import UneError

# Compiled once a shape.
fit = jax.jit(probes.fit, static_argnames=("components", "max_iter", "raw"))


def latents(n, d, decay=0.5, seed=0):
    """Rows with a decaying spectrum in a random basis, and a mean."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((d, d)))
    spread = np.arange(1, d + 1) ** -decay
    return ((rng.standard_normal((n, d)) * spread) @ basis.T + 3).astype(np.float32)


def attributes(x, a, seed=1):
    """Noisy linear attributes, from rare to common."""
    rng = np.random.default_rng(seed)
    z = (x - x.mean(0)) @ rng.standard_normal((x.shape[1], a))
    z = z / z.std(0) + 0.5 * rng.logistic(size=z.shape)
    return z + np.linspace(-2, 1, a) > 0


def sklearn_probe(x, y, components, l2):
    """(weight, bias, explained) of the pipeline, composed to latent space in float64."""
    pca, scaler = PCA(components, svd_solver="full"), StandardScaler()
    z = scaler.fit_transform(pca.fit_transform(x.astype(np.float64)))
    settings = {"C": 1 / l2, "solver": "newton-cholesky", "tol": 1e-10}
    fits = [LogisticRegression(**settings).fit(z, labels) for labels in y.T]
    weight = np.stack([f.coef_[0] for f in fits]) / scaler.scale_ @ pca.components_
    bias = np.stack([f.intercept_[0] for f in fits]) - weight @ pca.mean_
    return weight, bias, pca.explained_variance_ratio_.sum()


@pytest.mark.parametrize(
    "n, d, components, l2",
    [
        (400, 30, 10, 1.0),  # d x d
        (400, 30, None, 1.0),
        (400, 30, None, 1e-3),
        (60, 200, 20, 1.0),  # n x n
        (60, 200, None, 1.0),  # separable: l2 alone holds the weights
        (60, 200, None, 1e-2),
    ],
)
def test_equals_sklearns_pipeline(n, d, components, l2):
    x = latents(n, d)
    y = attributes(x, 5)
    probe = fit(jnp.asarray(x), jnp.asarray(y), components=components, l2=l2)
    k = min(components or n, n - 1, d)
    weight, bias, explained = sklearn_probe(x, y, k, l2)
    assert probe.converged.all()
    np.testing.assert_allclose(probe.explained_variance, explained, rtol=1e-5)
    np.testing.assert_allclose(
        probe.weight, weight, rtol=1e-3, atol=1e-4 * np.abs(weight).max()
    )
    # Rows that the fit has not seen.
    new = latents(100, d, seed=0)[::-1] + latents(100, d, seed=5) - 3
    want = new.astype(np.float64) @ weight.T + bias
    got = probes.scores(probe, jnp.asarray(new))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-4 * np.abs(want).max())


def objective(z, y, weight, bias, l2):
    """In float64: summed loss and penalty of each attribute."""
    logits = z.astype(np.float64) @ np.asarray(weight, np.float64).T + np.asarray(bias)
    loss = np.logaddexp(0, np.where(y, -logits, logits)).sum(0)
    return loss + l2 / 2 * (np.asarray(weight, np.float64) ** 2).sum(1)


@pytest.mark.parametrize("n, d, l2", [(400, 30, 1.0), (60, 200, 1.0), (400, 30, 0.01)])
def test_raw_probes_are_sklearns_on_the_latents_themselves(n, d, l2):
    x = latents(n, d)
    y = attributes(x, 4)
    probe = fit(jnp.asarray(x), jnp.asarray(y), l2=l2, raw=True)
    settings = {"C": 1 / l2, "solver": "newton-cholesky", "tol": 1e-10}
    fits = [LogisticRegression(**settings).fit(x.astype(float), v) for v in y.T]
    weight = np.stack([f.coef_[0] for f in fits])
    bias = np.concatenate([f.intercept_ for f in fits])
    best = objective(x, y, weight, bias, l2)
    got = objective(x, y, probe.weight, probe.bias, l2)
    np.testing.assert_allclose(got, best, rtol=1e-6)
    decided = x @ weight.T + bias > 0
    assert ((probes.scores(probe, jnp.asarray(x)) > 0) == decided).mean() > 0.999
    np.testing.assert_allclose(probe.objective, best, rtol=3e-6)  # and it says so
    assert probe.explained_variance == 1 and probe.pca_residual == 0


def test_the_certificate_bounds_what_is_left_to_gain():
    """Strong convexity: the excess is at most |gradient|^2 / (2 l2)."""
    x = latents(400, 30)
    y = attributes(x, 4)
    of = {"l2": 1.0, "raw": True}
    best = fit(jnp.asarray(x), jnp.asarray(y), **of)
    early = fit(jnp.asarray(x), jnp.asarray(y), max_iter=2, **of)
    assert not early.converged.any()
    excess = objective(x, y, early.weight, early.bias, 1.0) - objective(
        x, y, best.weight, best.bias, 1.0
    )
    assert (excess > 1e-4).all()
    assert (excess <= np.asarray(early.gradient_norm) ** 2 / 2).all()
    assert (best.gradient_norm < 1e-2).all()
    assert (best.gradient_norm < early.gradient_norm / 10).all()


def test_small_components_survive_float32():
    """Spreads over a factor of 450: in the Gram matrix that is 200,000."""
    x = latents(400, 30, decay=1.8)
    y = attributes(x / x.std(0), 5)
    probe = fit(jnp.asarray(x), jnp.asarray(y), l2=1.0)
    weight, bias, _ = sklearn_probe(x, y, 30, 1.0)
    want = x.astype(np.float64) @ weight.T + bias
    got = np.asarray(probes.scores(probe, jnp.asarray(x)))
    assert np.sqrt(np.mean((got - want) ** 2)) < 5e-3 * want.std()


def test_rare_attributes_among_more_dimensions_than_rows():
    """Where whole Newton steps overshoot, and do not come back."""
    x = latents(60, 200)
    y = np.arange(60)[:, None] < np.arange(1, 6)  # 1 to 5 positives
    probe = fit(jnp.asarray(x), jnp.asarray(y), l2=1.0)
    assert probe.converged.all()
    weight, _, _ = sklearn_probe(x, y, 59, 1.0)
    near = {"rtol": 1e-3, "atol": 1e-4 * np.abs(weight).max()}
    np.testing.assert_allclose(probe.weight, weight, **near)


def test_finds_the_bayes_direction_of_a_gaussian_une():
    """Zhat = C Z + noise, y linear in Z: the best score is Cov(Zhat)^-1 C w."""
    rng = np.random.default_rng(2)
    k, d, n = 6, 20, 20_000
    c, w = rng.standard_normal((d, k)), rng.standard_normal((k, 2))
    z = rng.standard_normal((n, k))
    x = (z @ c.T + 0.5 * rng.standard_normal((n, d))).astype(np.float32)
    y = z @ w + 0.5 * rng.standard_normal((n, 2)) > 0
    bayes = np.linalg.solve(c @ c.T + 0.25 * np.eye(d), c @ w)
    probe = fit(jnp.asarray(x), jnp.asarray(y))
    # Compared as scores: correlation over the data.
    scores = np.asarray(probes.scores(probe, jnp.asarray(x)))
    for j in range(2):
        assert np.corrcoef(scores[:, j], x @ bayes[:, j])[0, 1] > 0.999


@pytest.mark.parametrize("n, d", [(400, 30), (60, 200)])
def test_constant_and_repeated_columns_change_no_score(n, d):
    """Both leave the rank where it was, and copies only share their weight."""
    x = latents(n, d)
    y = jnp.asarray(attributes(x, 5))
    wide = np.concatenate([x, x[:, :5], np.full((n, 2), 7.0, np.float32)], axis=1)
    x, wide = jnp.asarray(x), jnp.asarray(wide)
    got = fit(wide, y)
    assert got.converged.all()
    np.testing.assert_allclose(got.weight[:, -2:], 0, atol=1e-4)
    np.testing.assert_allclose(got.weight[:, :5], got.weight[:, d : d + 5], atol=1e-3)
    want = probes.scores(fit(x, y, l2=1.0), x)
    np.testing.assert_allclose(probes.scores(got, wide), want, rtol=0.01, atol=5e-3)


def test_one_class_gives_a_finite_constant():
    x = latents(70, 12)
    y = attributes(x, 3)
    y[:, 1], y[:, 2] = True, False
    probe = fit(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_array_equal(probe.weight[1:], 0)
    np.testing.assert_allclose(probe.bias[1:], [np.log(141), -np.log(141)], rtol=1e-6)
    assert probe.converged.all() and np.isfinite(probe.weight).all()


def test_identical_rows_give_the_base_rate():
    y = np.zeros((70, 3), bool)
    y[:14] = True
    probe = fit(jnp.ones((70, 12)), jnp.asarray(y))
    np.testing.assert_array_equal(probe.weight, 0)
    np.testing.assert_allclose(probe.bias, np.log(14 / 56), rtol=1e-5)


def test_an_attribute_does_not_see_the_others():
    x = latents(70, 12)
    y = attributes(x, 3)
    weight = fit(jnp.asarray(x), jnp.asarray(y)).weight
    y[:, :2] = np.random.default_rng(6).random((70, 2)) < 0.05
    again = fit(jnp.asarray(x), jnp.asarray(y)).weight
    np.testing.assert_allclose(weight[2], again[2], rtol=1e-6)


def test_easy_attributes_wait_for_hard_ones_unharmed():
    """A column that CG solves in a few turns, beside one that needs dozens."""
    easy, hard = jnp.linspace(1, 1.3, 300), jnp.logspace(0, 3, 300)
    diagonal, b = jnp.stack([easy, hard], axis=1), jnp.full((300, 2), 1e6)
    got = logistic.conjugate_gradient(lambda v: diagonal * v, b, jnp.zeros(2, bool))
    left = jnp.linalg.norm(diagonal * got - b, axis=0)
    assert (left < 0.101 * jnp.linalg.norm(b, axis=0)).all()


def test_components_are_clipped_to_the_rank_of_centred_rows():
    x = latents(70, 12)
    y = jnp.asarray(attributes(x, 3))
    x = jnp.asarray(x)
    np.testing.assert_array_equal(fit(x, y, components=99).weight, fit(x, y).weight)


def test_labels_may_be_bool_or_zero_one_or_signed():
    x = jnp.asarray(latents(70, 12))
    y = attributes(np.asarray(x), 3)
    want = fit(x, jnp.asarray(y)).weight
    for coded in (y.astype(np.float32), np.where(y, 1.0, -1.0).astype(np.float32)):
        np.testing.assert_array_equal(fit(x, jnp.asarray(coded)).weight, want)


def test_works_under_vmap_over_rows_and_penalties():
    xs = jnp.stack([jnp.asarray(latents(70, 12, seed=s)) for s in (0, 1, 1)])
    l2 = jnp.array([1.0, 1.0, 10.0])
    y = jnp.asarray(attributes(np.asarray(xs[0]), 3))
    got = jax.vmap(lambda x, l2: fit(x, y, l2=l2))(xs, l2)
    assert got.converged.all()
    for i in range(2):
        want = fit(xs[i], y)
        np.testing.assert_allclose(got.weight[i], want.weight, rtol=1e-3, atol=1e-4)
    shorter = jnp.linalg.norm(got.weight[2], axis=1)
    assert (shorter < jnp.linalg.norm(got.weight[1], axis=1)).all()


def test_too_few_iterations_are_reported():
    x = latents(70, 12)
    y = jnp.asarray(attributes(x, 3))
    assert not fit(jnp.asarray(x), y, max_iter=1).converged.any()


def test_half_precision_latents_are_fitted_in_float32():
    x = latents(70, 12).astype(np.float16)
    y = jnp.asarray(attributes(x.astype(np.float32), 3))
    probe = fit(jnp.asarray(x), y)
    want = fit(jnp.asarray(x, jnp.float32), y)
    np.testing.assert_array_equal(probe.weight, want.weight)


@pytest.mark.parametrize(
    "rows, components, says",
    [(10, 0, "components is 0; use 1 or more"), (1, None, "at least 2 rows")],
)
def test_bad_input_is_named(rows, components, says):
    with pytest.raises(UneError, match=says):
        fit(jnp.ones((rows, 3)), jnp.ones((rows, 1)), components=components)


def test_raw_and_components_exclude_each_other():
    with pytest.raises(UneError, match="leave components out"):
        fit(jnp.ones((4, 3)), jnp.ones((4, 1)), components=2, raw=True)
