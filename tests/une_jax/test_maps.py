"""Maps equal sklearn's, in both forms; errors left out are those of refitting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from une_jax import cross_validation, maps
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("quick_compiles")
# Compiled once a shape.
ridge, ridge_path = jax.jit(maps.ridge), jax.jit(maps.ridge_path)
predict = jax.jit(maps.predict)
procrustes = jax.jit(maps.procrustes, static_argnames="scale")
PRIMAL, SQUARE, DUAL = (90, 12), (31, 30), (40, 70)
shapes = pytest.mark.parametrize("shape", [PRIMAL, SQUARE, DUAL])
ALPHAS = jnp.asarray(np.logspace(-1, 4, 6), jnp.float32)


def pairs(shape, e=3, noise=0.3, seed=0):
    """Rows off the origin, their spread falling, and noisy linear targets."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.5 + 5
    y = x @ rng.standard_normal((shape[1], e))
    y = y + noise * rng.standard_normal(y.shape) - 7
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def float64(*arrays):
    return [np.asarray(array, np.float64) for array in arrays]


def assert_same_map(m, peer, x, tol=1e-4):
    """As weights, and as what they say of rows never seen."""
    weight = np.atleast_2d(peer.coef_).T
    near = {"rtol": tol, "atol": tol * np.abs(weight).max()}
    np.testing.assert_allclose(m.weight, weight, **near)
    new = x[::-1] * 1.5 + 1
    wanted = peer.predict(np.asarray(new, np.float64)).reshape(len(x), -1)
    near = {"rtol": tol, "atol": tol * np.abs(wanted).max()}
    np.testing.assert_allclose(maps.apply(m, new), wanted, **near)


def refitted(peer, x, y, held):
    """Squared errors on the held-out rows of the peer fitted on the others."""
    x, y = float64(x, y)
    return (peer.fit(x[~held], y[~held]).predict(x[held]) - y[held]) ** 2


def left_out(peer, x, y):
    rows = np.arange(len(x))
    return np.mean([refitted(peer, x, y, rows == i)[0] for i in rows], axis=0)


@shapes
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 300.0])
def test_ridge_is_sklearns(shape, alpha):
    x, y = pairs(shape)
    assert_same_map(ridge(x, y, alpha), Ridge(alpha).fit(*float64(x, y)), x, 2e-5)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_ridge_survives_what_a_float32_gram_matrix_does_not(shape):
    """Spreads from 1 to 1/1,000: in the Gram matrix a million, near float32's end."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(shape).astype(np.float32)
    x = jnp.asarray(z * np.logspace(0, -3, shape[1], dtype=np.float32))
    y = jnp.asarray(z.sum(axis=1, keepdims=True))
    peer = Ridge(1e-5, solver="svd").fit(*float64(x, y))
    wanted = peer.predict(*float64(x)).reshape(y.shape)
    got = maps.apply(ridge(x, y, 1e-5), x)
    np.testing.assert_allclose(got, wanted, atol=5e-3)


def test_ridge_does_not_feel_a_far_origin_or_constant_columns():
    x, y = pairs(PRIMAL)
    near = ridge(x, y, 1.0)
    wide = jnp.concatenate([x + 1000, jnp.full((len(x), 2), 7.0)], axis=1)
    far = ridge(wide, y, 1.0)
    np.testing.assert_allclose(far.weight[:-2], near.weight, atol=1e-3)
    np.testing.assert_allclose(far.weight[-2:], 0, atol=1e-6)


def test_ridge_at_zero_says_what_least_squares_says_where_columns_repeat():
    """The Gram matrix is singular: the weight is not unique, the fit is."""
    x, y = pairs(PRIMAL)
    wanted = LinearRegression().fit(*float64(x, y)).predict(*float64(x))
    twice = jnp.concatenate([x, x[:, :4]], axis=1)
    got = maps.apply(ridge(twice, y, 0.0), twice)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_ols_is_sklearns_also_where_columns_repeat(shape):
    x, y = pairs(shape)
    x = jnp.concatenate([x, x[:, :4]], axis=1)  # of minimal norm: copies share
    peer = LinearRegression().fit(*float64(x, y))
    assert_same_map(jax.jit(maps.ols)(x, y), peer, x, 1e-3)


@shapes
def test_a_path_is_ridge_at_each_penalty(shape):
    x, y = pairs(shape)
    found = ridge_path(x, y, ALPHAS)
    many = jax.vmap(maps.at, in_axes=(None, 0))(found, ALPHAS)
    assert many.weight.shape == (len(ALPHAS), shape[1], 3)
    for i, alpha in enumerate(ALPHAS):
        m = maps.LinearMap(many.weight[i], many.bias[i])
        assert_same_map(m, Ridge(alpha.item()).fit(*float64(x, y)), x)
        got = predict(found, alpha, x[:5] * 2)
        wanted = maps.apply(m, x[:5] * 2)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@shapes
def test_leave_one_out_errors_are_those_of_refitting_without_the_row(shape):
    x, y = pairs(shape)
    for alpha, loo in zip(ALPHAS, ridge_path(x, y, ALPHAS).loo, strict=True):
        wanted = left_out(Ridge(alpha.item()), x, y)
        np.testing.assert_allclose(loo, wanted, rtol=1e-3)


def test_interpolating_rows_have_errors_left_out_without_a_penalty():
    """d > n and alpha ~ 0: the residuals are 0, these are not."""
    x, y = pairs(DUAL)
    wanted = left_out(LinearRegression(), x, y)
    for loo in ridge_path(x, y, jnp.array([1e-6, 1e-5])).loo:
        np.testing.assert_allclose(loo, wanted, rtol=2e-3)


@shapes
def test_chooses_what_sklearns_ridgecv_chooses(shape):
    x, y = pairs(shape, noise=3)
    found, alphas = ridge_path(x, y, ALPHAS), float64(ALPHAS)[0]
    assert found.best == np.float32(RidgeCV(alphas).fit(*float64(x, y)).alpha_)
    each = RidgeCV(alphas, alpha_per_target=True).fit(*float64(x, y))
    own = ALPHAS[jnp.argmin(found.loo, axis=0)]
    np.testing.assert_array_equal(own, np.float32(each.alpha_))
    assert_same_map(maps.at(found, own), each, x)


@shapes
def test_gcv_is_its_formula(shape):
    x, y = pairs(shape)
    (a, b), n = (v - v.mean(0) for v in float64(x, y)), len(x)
    for alpha, gcv in zip(ALPHAS, ridge_path(x, y, ALPHAS).gcv, strict=True):
        inverse = np.linalg.inv(a.T @ a + alpha.item() * np.eye(shape[1]))
        hat = a @ inverse @ a.T + 1 / n
        wanted = np.mean((b - hat @ b) ** 2, 0) / (1 - np.trace(hat) / n) ** 2
        np.testing.assert_allclose(gcv, wanted, rtol=1e-3)


@pytest.mark.parametrize("shape, folds", [(PRIMAL, 5), (DUAL, 7)])
def test_errors_on_folds_are_those_of_refitting_without_the_fold(shape, folds, key):
    x, y = pairs(shape)
    errors = jax.jit(cross_validation.ridge_errors, static_argnames="folds")
    got = errors(key, x, y, ALPHAS, folds=folds)
    order = jax.random.permutation(key, len(x))
    parts = [np.isin(np.arange(len(x)), order[i::folds]) for i in range(folds)]
    for alpha, error in zip(ALPHAS, got, strict=True):
        peer = Ridge(alpha.item())
        wanted = sum(refitted(peer, x, y, held).sum(axis=0) for held in parts) / len(x)
        np.testing.assert_allclose(error, wanted, rtol=1e-3)


def test_a_path_under_vmap_over_targets_is_one_at_a_time():
    x, y = pairs(DUAL)
    factor = maps.factor(x)
    many = jnp.stack([y, y[::-1], -2 * y])
    found = jax.vmap(maps.path, in_axes=(None, 0, None))(factor, many, ALPHAS)
    for i, targets in enumerate(many):
        alone = maps.path(factor, targets, ALPHAS)
        np.testing.assert_allclose(found.loo[i], alone.loo, rtol=1e-4)
        assert found.best[i] == alone.best


@pytest.mark.parametrize("d, e", [(6, 6), (4, 6), (6, 4)])
@pytest.mark.parametrize("n", [40, 4])
def test_procrustes_recovers_a_planted_rotation(n, d, e):
    """On the rows themselves always; as a matrix where the rows span the space."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((max(d, e), min(d, e))))[0]
    turn = turn if d >= e else turn.T
    x = rng.standard_normal((n, d))
    if d > e:
        x = x @ turn @ turn.T  # what the smaller view can see
    y = jnp.asarray(2 * x @ turn - 1, jnp.float32)
    x = jnp.asarray(x + 3, jnp.float32)
    m = procrustes(x, y, scale=True)
    np.testing.assert_allclose(maps.apply(m, x), y, rtol=1e-4, atol=1e-4)
    if n > max(d, e) and d <= e:
        np.testing.assert_allclose(m.weight, 2 * turn, atol=1e-4)


@pytest.mark.parametrize("n", [60, 4])
def test_procrustes_comes_as_close_as_scipys(n):
    x, y = pairs((n, 5), e=5)
    a, b = (v - v.mean(0) for v in float64(x, y))
    turn, total = orthogonal_procrustes(a, b)
    m = procrustes(x, y)
    np.testing.assert_allclose(
        np.square(maps.apply(m, x) - y).sum(), np.square(a @ turn - b).sum(), rtol=1e-4
    )
    if n > 5:
        np.testing.assert_allclose(m.weight, turn, atol=1e-4)
    scaled = procrustes(x, y, scale=True)
    ratio = total / np.square(a @ turn).sum()
    np.testing.assert_allclose(scaled.weight, ratio * m.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape, e", [(PRIMAL, 5), (DUAL, 5), (DUAL, 60)])
@pytest.mark.parametrize("alpha", [0.5, 30.0])
def test_reduced_rank_is_the_best_fit_of_that_rank(shape, e, alpha):
    """Eckart and Young, on the rows and the penalty's own rows below them."""
    x, y = pairs(shape, e=e)
    a, b = (v - v.mean(0) for v in float64(x, y))
    below = np.concatenate([a, np.sqrt(alpha) * np.eye(shape[1])])
    full = np.linalg.solve(a.T @ a + alpha * np.eye(shape[1]), a.T @ b)
    _, _, vt = np.linalg.svd(below @ full, full_matrices=False)
    reduced = jax.jit(maps.reduced_rank, static_argnames="rank")
    for rank in (1, 3):
        wanted = full @ vt[:rank].T @ vt[:rank]
        m = reduced(x, y, rank=rank, alpha=alpha)
        atol = 2e-4 * np.abs(wanted).max()
        np.testing.assert_allclose(m.weight, wanted, atol=atol)
        fitted = maps.apply(m, x)
        np.testing.assert_allclose(fitted.mean(0), y.mean(0), rtol=1e-3)
    many = jax.vmap(lambda s: maps.reduced_rank(x, y * s, 3, alpha).weight)(
        jnp.array([1.0, 2.0])
    )
    np.testing.assert_allclose(many[1], 2 * many[0], atol=1e-3)
    np.testing.assert_allclose(many[0], m.weight, atol=1e-3)


def test_ranks_that_rows_and_targets_allow():
    x, y = pairs(PRIMAL)
    for rank in (0, 4):
        with pytest.raises(UneError, match=f"rank is {rank}; maps from these rows"):
            maps.reduced_rank(x, y, rank, 1.0)


def test_composed_maps_are_one_after_the_other():
    x, y = pairs(PRIMAL)
    first, second = ridge(x, y, 1.0), ridge(y, x, 1.0)
    got = maps.apply(maps.compose(first, second), x)
    wanted = maps.apply(second, maps.apply(first, x))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_ridge_under_vmap_is_one_penalty_at_a_time(shape):
    x, y = pairs(shape)
    many = jax.vmap(maps.ridge, in_axes=(None, None, 0))(x, y, ALPHAS)
    for weight, alpha in zip(many.weight, ALPHAS, strict=True):
        alone = ridge(x, y, alpha).weight
        np.testing.assert_allclose(weight, alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_the_slope_of_the_held_out_error_in_log_alpha(shape):
    x, y = pairs(shape, noise=1)

    def error(log_alpha):
        m = ridge(x[10:], y[10:], jnp.exp(log_alpha))
        return jnp.sum((maps.apply(m, x[:10]) - y[:10]) ** 2)

    held = np.arange(len(x)) < 10
    at = [refitted(Ridge(np.exp(s)), x, y, held).sum() for s in (0.999, 1.001)]
    slope = (at[1] - at[0]) / 0.002
    np.testing.assert_allclose(jax.grad(error)(1.0), slope, rtol=1e-2)


def test_says_what_rows_it_needs():
    x, y = pairs(PRIMAL)
    for fit in (lambda x, y: maps.ridge(x, y, 1.0), maps.ols, maps.procrustes):
        with pytest.raises(UneError, match="x has 90 rows, y has 89"):
            fit(x, y[1:])
        with pytest.raises(UneError, match="at least 2 rows"):
            fit(x[:1], y[:1])
    with pytest.raises(UneError, match="at least 2 rows"):
        maps.factor(x[:1])
    with pytest.raises(UneError, match="x has 90 rows, y has 89"):
        maps.ridge_path(x, y[1:], ALPHAS)
    for folds in (1, 91):
        with pytest.raises(UneError, match=f"{folds} folds of 90 rows"):
            cross_validation.ridge_errors(jax.random.key(0), x, y, ALPHAS, folds=folds)
