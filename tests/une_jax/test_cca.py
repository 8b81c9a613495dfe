"""Canonical correlations and shape distances equal explicit formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from une_jax import cca, permutation, shape
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("quick_compiles")

canonical = jax.jit(cca.canonical)
svcca = jax.jit(cca.svcca, static_argnames=("components", "standardise"))
pwcca = jax.jit(cca.pwcca)
angular = jax.jit(shape.angular)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def related(n, d, e, noise=1.0):
    x = normal(n, d) * np.linspace(1, 3, d, dtype=np.float32)
    y = x @ normal(d, e, seed=1) / d**0.5 + noise * normal(n, e, seed=2)
    return x + 5, y - 3


def of(function, x, y, **settings):
    return np.asarray(function(jnp.asarray(x), jnp.asarray(y), **settings))


def exact(x):
    x = x.astype(np.float64)
    return x - x.mean(0)


def root(a, power):
    values, vectors = np.linalg.eigh(a)
    return (vectors * values**power) @ vectors.T


def canonical_by_roots(x, y, ridge):
    """(X'X + k I)^-1/2 X'Y (Y'Y + l I)^-1/2, as written."""
    x, y = exact(x), exact(y)
    parts = []
    for v in (x, y):
        gram = v.T @ v
        penalty = ridge * np.trace(gram) / len(gram)
        parts.append(root(gram + penalty * np.eye(len(gram)), -0.5))
    return np.linalg.svd(parts[0] @ x.T @ y @ parts[1], compute_uv=False)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 10.0])
def test_canonical_equals_the_formula_with_matrix_roots(ridge):
    x, y = related(100, 8, 5)
    want = canonical_by_roots(x, y, ridge)
    assert want.max() - want.min() > 0.1 * want.max()
    got = of(canonical, x, y, ridge=jnp.float32(ridge))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_with_more_dimensions_than_rows_only_a_ridge_means_something():
    """All are 1 without, whatever the views; with one, equal to the dual formula."""
    x, y = normal(30, 50), normal(30, 40, seed=1)
    np.testing.assert_allclose(of(canonical, x, y)[:29], 1, atol=1e-4)
    ridge = 1.0
    a, b = exact(x), exact(y)
    halves = []
    for v in (a, b):
        gram = v @ v.T
        penalty = ridge * np.trace(gram) / 29  # of its 29 components
        hat = gram @ np.linalg.inv(gram + penalty * np.eye(30))
        halves.append(scipy.linalg.sqrtm(hat).real)
    want = np.linalg.svd(halves[0] @ halves[1], compute_uv=False)[:29]
    got = of(canonical, x, y, ridge=jnp.float32(ridge))[:29]
    np.testing.assert_allclose(got, want, atol=2e-3)
    assert want.max() < 0.8


def test_a_planted_correlation_is_found():
    n, rho = 20_000, np.array([0.9, 0.5, 0.0])
    z, noise = normal(n, 3), normal(n, 3, seed=1)
    y = z * rho + noise * np.sqrt(1 - rho**2)
    got = of(
        canonical, z @ normal(3, 3, seed=2), (y @ normal(3, 3, seed=3)).astype("f4")
    )
    np.testing.assert_allclose(got, rho, atol=0.02)


def test_repeated_and_constant_columns_change_nothing():
    x, y = related(60, 5, 4)
    wide = np.concatenate([x, x[:, :2], np.full((60, 1), 7, np.float32)], axis=1)
    np.testing.assert_allclose(of(canonical, wide, y), of(canonical, x, y), atol=1e-4)


def test_principal_columns_are_those_of_the_svd():
    for n, d in ((50, 8), (8, 50)):
        x, _ = related(n, d, 2)
        got = cca.principal(jnp.asarray(x))
        left, values, _ = np.linalg.svd(exact(x), full_matrices=False)
        r = min(n - 1, d)
        np.testing.assert_allclose(got.scale, values[:r], rtol=1e-3)
        overlap = np.abs(np.asarray(got.columns).T @ left[:, :r])
        np.testing.assert_allclose(np.diag(overlap), 1, atol=1e-3)
        np.testing.assert_allclose(got.columns.sum(axis=0), 0, atol=1e-4)


# SVCCA, PWCCA


def svcca_by_svd(x, y, components, standardise):
    sides = []
    for v in (exact(x), exact(y)):
        v = v / v.std(0) if standardise else v
        sides.append(np.linalg.svd(v, full_matrices=False)[0][:, :components])
    return np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).mean()


@pytest.mark.parametrize("standardise", [True, False])
def test_svcca_equals_the_formula(standardise):
    x, y = related(80, 20, 15)
    want = svcca_by_svd(x, y, 6, standardise)
    got = of(svcca, x, y, components=6, standardise=standardise)
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_pwcca_equals_the_formula():
    """Morcos et al., Eqs. (4), (5): variates as vectors, one by one."""
    x, y = related(80, 12, 9)
    sides = []
    for v in (exact(x), exact(y)):
        left, values, _ = np.linalg.svd(v, full_matrices=False)
        part = np.cumsum(values**2) / np.sum(values**2)
        sides.append(left[:, : np.searchsorted(part, 0.9) + 1])
    assert sides[0].shape[1] < 12 and sides[1].shape[1] < 9
    left, rho, _ = np.linalg.svd(sides[0].T @ sides[1], full_matrices=False)
    alpha = [np.abs(h @ exact(x)).sum() for h in (sides[0] @ left).T]
    want = (alpha * rho).sum() / np.sum(alpha)
    assert abs(want - rho.mean()) > 1e-3
    got = of(pwcca, x, y, variance=jnp.float32(0.9))
    np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("measure", [svcca, pwcca])
def test_identical_up_to_rotation_and_scale_is_one(measure):
    x = normal(100, 15)
    turn = np.linalg.qr(normal(15, 15, seed=1))[0]
    settings = {"standardise": False, "components": 15} if measure is svcca else {}
    assert of(measure, x, 3 * x @ turn, **settings) == pytest.approx(1, abs=1e-4)


# Shape distance


def whitened(x, alpha):
    """netrep's partial whitening: X Z with Z = a I + (1 - a) (X'X)^-1/2."""
    x = exact(x)
    x = x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * root(x.T @ x, -0.5))
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_angular_distance_equals_netreps(alpha):
    """Rotated by scipy's orthogonal Procrustes, the smaller view padded with zeros."""
    x, y = related(60, 8, 8 if alpha < 1 else 5)
    a, b = whitened(x, alpha), whitened(y, alpha)
    b = np.pad(b, ((0, 0), (0, 8 - b.shape[1])))
    turn, _ = scipy.linalg.orthogonal_procrustes(a, b)
    want = np.arccos((a @ turn * b).sum())
    got = of(angular, x, y, alpha=jnp.float32(alpha))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    squared = of(jax.jit(shape.procrustes), x, y, alpha=jnp.float32(alpha))
    np.testing.assert_allclose(squared, np.square(a @ turn - b).sum(), rtol=1e-3)


def test_fully_whitened_similarity_is_the_mean_canonical_correlation():
    x, y = related(60, 6, 6)
    want = of(canonical, x, y).mean()
    np.testing.assert_allclose(
        np.cos(of(angular, x, y, alpha=jnp.float32(0))), want, rtol=1e-4
    )


def test_distance_is_a_metric():
    """Zero up to rotation, shift and scale; symmetric; no way round is shorter."""
    views = [normal(40, d, seed=d) for d in (3, 7, 7, 60)]
    turn = np.linalg.qr(normal(7, 7))[0]
    views[2] = views[1] + 0.5 * views[2]
    views.append(4 * views[1] @ turn + 2)
    side, similarity = jax.jit(shape.side), jax.jit(shape.similarity)
    sides = [side(jnp.asarray(view)) for view in views]
    d = np.arccos([[similarity(a, b) for b in sides] for a in sides])
    assert d[1, 4] < 2e-3 and np.diag(d).max() < 2e-3
    np.testing.assert_allclose(d, d.T, atol=1e-3)
    for through in range(5):
        round_about = d[:, [through]] + d[[through]]
        assert (d <= round_about + 2e-3).all()


@pytest.mark.parametrize(
    "d, e, decay", [(12, 12, 0), (12, 12, 2), (40, 9, 1), (9, 40, 1)]
)
def test_the_sum_of_singular_values_by_products_alone(d, e, decay):
    """Also where they fall by a factor of 20,000, as of a view with itself."""
    x = normal(60, d) * np.arange(1, d + 1, dtype=np.float32) ** -decay
    y = x if d == e else normal(60, e, seed=1)
    side = jax.jit(shape.side)
    a, b = side(jnp.asarray(x)), side(jnp.asarray(y))
    got, want = jax.jit(shape.fast_similarity)(a, b), shape.similarity(a, b)
    np.testing.assert_allclose(got, want, rtol=1e-3)


# Sides


def test_sides_reordered_are_sides_of_reordered_rows(key):
    order = permutation.orders(key, 30, 1)[0]
    x = jnp.asarray(normal(30, 4))
    for side in (lambda v: cca.regularised(cca.principal(v), 0.1), shape.side):
        side = jax.jit(side)
        got, want = np.asarray(side(x)[order]), np.asarray(side(x[order]))
        # Columns up to their sign.
        np.testing.assert_allclose(got @ got.T, want @ want.T, atol=1e-5)


@pytest.mark.parametrize(
    "measure", [cca.canonical, cca.svcca, cca.pwcca, shape.angular]
)
def test_work_under_vmap(measure):
    x = jnp.asarray(normal(2, 30, 4))
    y = x + jnp.asarray(normal(2, 30, 4, seed=1))
    together = jax.jit(jax.vmap(measure))(x, y)
    for i in range(2):
        want = jax.jit(measure)(x[i], y[i])
        np.testing.assert_allclose(together[i], want, rtol=1e-4, atol=1e-5)


def test_no_components_is_named():
    with pytest.raises(UneError, match="0 components of 1 rows in 3 dimensions"):
        cca.principal(jnp.ones((1, 3)))
