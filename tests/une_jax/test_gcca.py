"""GCCA is the paper's Eq. 5 and 6, whatever the shapes, weights and missing views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import gcca
from une_jax.errors import UneError

transform = jax.jit(gcca.transform)
hybrid = jax.jit(gcca.hybrid)
_fit = jax.jit(gcca.fit, static_argnames="k")

K = 4
# Narrow views; one that is wider than the rows are many; all of them.
NARROW, MIXED, WIDE = (100, (10, 20)), (60, (100, 20)), (50, (80, 70))
SHAPES = [NARROW, MIXED, WIDE]
# About 1e-2 of the mean eigenvalue where a view is wide: float32 needs some.
RIDGE = {NARROW: 2.0, MIXED: 40.0, WIDE: 40.0}


pytestmark = pytest.mark.usefixtures("compiling_fast")


def fit(views, ridge, weights=1.0, mask=None):
    """Values as arrays: few programs to compile."""
    ridge = gcca.per_view(ridge, len(views), "ridge")
    weights = gcca.per_view(weights, len(views), "weights")
    mask = None if mask is None else jnp.asarray(mask)
    return _fit(views, K, ridge, weights=weights, mask=mask)


def une(n, widths, noise=0.5, k=4, seed=0):
    """Noisy linear views of one Gaussian z, off the origin."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, k)) * (1 + np.arange(k))
    views = [
        z @ rng.standard_normal((k, d)) + noise * rng.standard_normal((n, d)) + 5
        for d in widths
    ]
    return z, [jnp.asarray(v, jnp.float32) for v in views]


def some_missing(n, count, seed=0):
    mask = np.random.default_rng(seed).random((n, count)) < 0.7
    mask[:, 0] |= ~mask.any(axis=1)
    return mask


def eigen_form(views, ridges, weights, mask):
    """In float64: (values, X) of M = sum w_i (I - P_i), with Carroll's K_i where views
    are missing, smallest first and all of them, without the constant direction."""
    mask = mask.astype(float)
    m = 0
    for x, r, w, there in zip(views, ridges, weights, mask.T, strict=True):
        x = np.where(there[:, None] > 0, np.asarray(x, np.float64), 0)
        z = (x - x.sum(0) / there.sum()) * there[:, None]
        p = z @ np.linalg.solve(z.T @ z + r * np.eye(z.shape[1]), z.T)
        m = m + w * (np.diag(there) - p - np.outer(there, there) / there.sum())
    seen = mask @ weights
    half = np.diag(seen**-0.5)
    unit = np.sqrt(seen / seen.sum())
    # The constant direction, whose value is 0, is sent to the end.
    values, y = np.linalg.eigh(half @ m @ half + 2 * np.outer(unit, unit))
    return values * np.sum(weights), half @ y * np.sqrt(np.sum(weights))


def loss(x, maps, views, ridge):
    """Eq. 6, float64."""
    total = 0.0
    for view, a in zip(views, maps, strict=True):
        z = np.asarray(view, np.float64)
        a = np.asarray(a, np.float64)
        total += np.sum((x - (z - z.mean(0)) @ a) ** 2) + ridge * np.sum(a**2)
    return total


@pytest.mark.parametrize("weighted, missing", [(False, False), (True, True)])
@pytest.mark.parametrize("n, widths", SHAPES)
def test_equals_the_n_by_n_eigen_form(n, widths, weighted, missing):
    _, views = une(n, widths)
    ridges = RIDGE[n, widths] * np.arange(1, len(widths) + 1)
    weights = np.linspace(0.5, 2, len(widths)) if weighted else np.ones(len(widths))
    mask = some_missing(n, len(widths)) if missing else np.ones((n, len(widths)), bool)
    got = fit(views, ridges, weights, mask if missing else None)
    values, x = eigen_form(views, ridges, weights, mask)
    np.testing.assert_allclose(got.eigenvalues, values[:4], atol=1e-5)
    # Each vector where its value stands apart; and the span.
    shared = np.asarray(got.shared, np.float64)
    gaps = np.abs(values[:4, None] - values[None, :6]) + 9 * np.eye(4, 6)
    for j in np.flatnonzero(gaps.min(axis=1) > 0.05):
        sign = np.sign(shared[:, j] @ x[:, j])
        np.testing.assert_allclose(shared[:, j] * sign, x[:, j], atol=1e-5)
    np.testing.assert_allclose(shared @ shared.T, x[:, :4] @ x[:, :4].T, atol=1e-5)
    assert got.residual.max() < 1e-5


@pytest.mark.parametrize("n, widths", SHAPES)
def test_the_constraints_hold(n, widths):
    _, views = une(n, widths)
    x = np.asarray(fit(views, RIDGE[n, widths]).shared)
    np.testing.assert_allclose(x.T @ x, np.eye(4), atol=2e-6)
    np.testing.assert_allclose(x.sum(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("n, widths", SHAPES)
def test_the_constraints_hold_over_the_views_that_are_there(n, widths):
    _, views = une(n, widths)
    mask = some_missing(n, len(widths))
    x = np.asarray(fit(views, RIDGE[n, widths], mask=mask).shared)
    seen = mask.sum(axis=1)
    gram = (x * seen[:, None]).T @ x
    np.testing.assert_allclose(gram, len(widths) * np.eye(4), atol=1e-5)
    np.testing.assert_allclose(seen @ x, 0, atol=1e-4)


def test_the_eigenvalues_sum_to_the_loss():
    _, views = une(*NARROW)
    got = fit(views, 3.0)
    want = loss(np.asarray(got.shared), got.maps, views, 3.0)
    np.testing.assert_allclose(got.eigenvalues.sum(), want, rtol=1e-4)
    assert (np.diff(got.eigenvalues) > 0).all()


@pytest.mark.parametrize("n, widths", SHAPES)
def test_the_maps_are_the_ridge_solutions(n, widths):
    _, views = une(n, widths)
    ridge = RIDGE[n, widths]
    got = fit(views, ridge)
    for x, a, mean in zip(views, got.maps, got.means, strict=True):
        z = np.asarray(x, np.float64)
        np.testing.assert_allclose(mean, z.mean(0), rtol=1e-5)
        z = z - z.mean(0)
        gram = z.T @ z + ridge * np.eye(z.shape[1])
        want = np.linalg.solve(gram, z.T @ np.asarray(got.shared, np.float64))
        np.testing.assert_allclose(a, want, atol=3e-5 * np.abs(want).max() + 1e-6)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("n, widths", SHAPES)
def test_codes_of_the_fits_own_rows_are_the_shared_ones(n, widths, missing):
    _, views = une(n, widths)
    mask = jnp.asarray(some_missing(n, len(widths))) if missing else None
    got = fit(views, RIDGE[n, widths], mask=mask)
    codes = transform(got, views, mask=mask)
    np.testing.assert_allclose(codes, got.shared, atol=1e-5)


def test_codes_of_new_rows_are_close_to_what_all_views_come_from():
    z, views = une(200, (10, 20))
    got = fit([v[:100] for v in views], 1.0)
    codes = np.asarray(transform(got, [v[100:] for v in views]))
    assert 0.8 < codes.std(axis=0).mean() * np.sqrt(100) < 1.2
    target = z[100:] - z[100:].mean(0)
    found = codes - codes.mean(0)
    back = found @ np.linalg.lstsq(found, target, rcond=None)[0]
    r2 = 1 - np.sum((target - back) ** 2, axis=0) / np.sum(target**2, axis=0)
    assert r2.min() > 0.9


def test_views_without_noise_are_completed_exactly():
    """One of two views is missing in half of the rows, and not at random."""
    z, views = une(*NARROW, noise=0.0)
    mask = np.ones((100, 2), bool)
    mask[z[:, 0] > 0, 1] = False
    blind = [jnp.where(mask[:, i, None], v, jnp.nan) for i, v in enumerate(views)]
    got = fit(blind, 0.0, mask=mask)
    np.testing.assert_allclose(got.eigenvalues, 0, atol=2e-5)
    x = np.asarray(got.shared, np.float64)
    q, _ = np.linalg.qr(np.concatenate([np.ones((100, 1)), z], axis=1))
    assert np.abs(x - q @ (q.T @ x)).max() < 1e-4


def test_a_row_of_no_view_has_no_code_and_no_influence():
    _, views = une(*NARROW)
    mask = np.ones((100, 2), bool)
    mask[7] = False
    got = fit(views, 1.0, mask=mask)
    kept = np.delete(np.arange(100), 7)
    values, x = eigen_form([v[kept] for v in views], [1, 1], [1, 1], mask[kept])
    assert np.isnan(got.shared[7]).all()
    np.testing.assert_allclose(got.eigenvalues, values[:K], atol=1e-5)
    shared = np.asarray(got.shared[kept])
    np.testing.assert_allclose(shared @ shared.T, x[:, :K] @ x[:, :K].T, atol=1e-5)
    codes = transform(got, views, mask=jnp.asarray(mask))
    assert np.isnan(codes[7]).all() and np.isfinite(codes[kept]).all()


def test_a_weight_of_zero_leaves_a_view_out():
    _, views = une(*NARROW)
    got = fit(views, 1.0, weights=[0.0, 1.0])
    values, _ = eigen_form(views[1:], [1], [1], np.ones((100, 1)))
    np.testing.assert_allclose(got.eigenvalues, values[:K], atol=1e-5)


@pytest.mark.parametrize("missing", [False, True])
def test_hybrid_is_least_squares_on_the_same_space(missing):
    _, views = une(*NARROW)
    mask = some_missing(100, 2) if missing else None
    first = fit(views, 50.0, mask=mask)
    second = hybrid(first, views, mask=mask)
    np.testing.assert_array_equal(second.shared, first.shared)
    np.testing.assert_array_equal(second.eigenvalues, first.eigenvalues)
    assert (second.r2 > first.r2).all()
    rows = np.arange(100) if mask is None else np.flatnonzero(mask[:, 1])
    z, x = np.asarray(views[1], np.float64)[rows], np.asarray(first.shared)[rows]
    z = z - z.mean(0)
    want = np.linalg.lstsq(z, x - x.mean(0), rcond=None)[0]
    np.testing.assert_allclose(second.maps[1], want, atol=1e-5)
    codes = np.asarray(transform(second, views, mask=mask))
    weight = np.ones(100) if mask is None else mask.sum(1) / 2
    np.testing.assert_allclose(weight @ codes**2, 1, rtol=1e-4)


def test_correlations_are_the_mean_over_pairs_of_views():
    x = np.random.default_rng(0).standard_normal((3, 80, 2)).astype(np.float32)
    x[1] += x[0]
    pairs = [(0, 1), (0, 2), (1, 2)]
    want = [
        np.mean([np.corrcoef(x[i, :, j], x[m, :, j])[0, 1] for i, m in pairs])
        for j in range(2)
    ]
    got = gcca.correlations([jnp.asarray(v) for v in x])
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_hybrid_with_the_same_ridge_changes_nothing():
    _, views = une(*MIXED)
    first = fit(views, 7.0)
    second = hybrid(first, views, 7.0)
    for a, b in zip(first.maps, second.maps, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(first.agreement, second.agreement, rtol=1e-4)


def test_explained_variance_is_r2_of_the_view_given_the_space():
    _, views = une(*NARROW)
    got = fit(views, 1.0)
    x = np.asarray(got.shared, np.float64)
    for i, view in enumerate(views):
        v = np.asarray(view, np.float64)
        v = v - v.mean(0)
        want = 1 - np.sum((v - x @ (x.T @ v)) ** 2) / np.sum(v**2)
        np.testing.assert_allclose(got.explained[i], want, rtol=1e-4)
        left = np.sum((x - v @ np.asarray(got.maps[i])) ** 2, axis=0)
        np.testing.assert_allclose(got.r2[i], 1 - left, atol=1e-5)


def test_constant_and_repeated_columns_change_nothing():
    _, (a, b) = une(*NARROW)
    a = a[:, :7]
    wide = jnp.concatenate([a, a[:, :2], jnp.full((100, 1), 1234.5)], axis=1)
    got = fit([wide, b], 0.0)
    values, x = eigen_form([a, b], [0, 0], [1, 1], np.ones((100, 2)))
    shared = np.asarray(got.shared)
    np.testing.assert_allclose(shared @ shared.T, x[:, :K] @ x[:, :K].T, atol=2e-5)
    np.testing.assert_allclose(got.eigenvalues, values[:K], atol=1e-5)
    assert np.abs(got.maps[0][-1]).max() == 0


def test_a_large_mean_is_not_lost_in_float32():
    _, views = une(*NARROW)
    far = [v + 1000 for v in views]
    want = fit([v - 1000 for v in far], 1.0)
    got = fit(far, 1.0)
    # The space; within it two dimensions agree nearly as well, and may turn.
    spans = (np.asarray(g.shared) @ np.asarray(g.shared).T for g in (got, want))
    np.testing.assert_allclose(*spans, atol=1e-6)
    np.testing.assert_allclose(got.eigenvalues, want.eigenvalues, atol=2e-6)


def test_badly_scaled_columns_need_no_ridge():
    """Without one the space is the same in any basis of a view."""
    _, views = une(*NARROW)
    scale = jnp.asarray(2.0 ** np.arange(-15, 15, 3), jnp.float32)
    got = fit([views[0] * scale[None], views[1]], 0.0)
    want = fit(views, 0.0)
    np.testing.assert_allclose(got.shared, want.shared, atol=3e-5)


def test_under_vmap():
    both = [une(*NARROW, seed=s)[1] for s in (0, 1)]
    stacked = [jnp.stack(v) for v in zip(*both, strict=True)]
    ridges = jnp.array([1.0, 5.0])
    got = jax.vmap(lambda views, r: _fit(views, K, r))(stacked, ridges)
    for s in (0, 1):
        want = fit([v[s] for v in stacked], ridges[s])
        np.testing.assert_allclose(got.shared[s], want.shared, atol=1e-5)


def test_grad_of_the_loss():
    """By the envelope theorem d loss / d ridge is the sum of |A_i|^2."""
    _, views = une(*NARROW)
    got = fit(views, 2.0)
    slope = jax.grad(lambda r: _fit(views, K, r).eigenvalues.sum())(2.0)
    want = sum(jnp.sum(a**2) for a in got.maps)
    np.testing.assert_allclose(slope, want, rtol=1e-3)


def test_nan_goes_through():
    _, views = une(*NARROW)
    views[0] = views[0].at[3, 2].set(jnp.nan)
    assert np.isnan(fit(views, 1.0).shared).all()


@pytest.mark.parametrize(
    "widths, k, ridge, says",
    [
        ((), 2, 1.0, "at least one view"),
        ((5, 6), 0, 1.0, "k is 0; 20 rows of 11 columns share 1 to 11"),
        ((15, 16), 20, 1.0, "share 1 to 19"),
        ((5, 6), 2, -1.0, "ridge is -1.0"),
        ((5, 20), 2, 0.0, "a positive ridge, or fewer columns"),
        ((5, 6), 2, [1.0, 2.0, 3.0], "ridge has 3 values for 2 views"),
    ],
)
def test_bad_input_is_named(widths, k, ridge, says):
    with pytest.raises(UneError, match=says):
        gcca.fit([jnp.ones((20, d)) for d in widths], k, ridge)


def test_another_number_of_views_is_named():
    _, views = une(*NARROW)
    with pytest.raises(UneError, match="the space has 2 views; 1 are given"):
        gcca.transform(fit(views, 1.0), views[:1])
