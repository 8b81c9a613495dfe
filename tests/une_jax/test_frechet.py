"""Distances of distributions equal their formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from une_jax import frechet
from une_jax.errors import UneError

moments, distance = jax.jit(frechet.moments), jax.jit(frechet.frechet)


def features(n=300, d=24, seed=0, shift=0.0):
    """Correlated, their spread falling a hundredfold, off the origin."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    x = rng.standard_normal((n, d)) * np.logspace(0, -2, d) @ turn + 3 + shift
    return jnp.asarray(x, jnp.float32)


def by_sqrtm(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a, b = np.cov(x.T), np.cov(y.T)
    root = sqrtm(a @ b).real
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_frechet_is_its_formula(shift):
    x, y = features(), features(200, seed=1, shift=shift)
    got = distance(moments(x), moments(y))
    np.testing.assert_allclose(got, by_sqrtm(x, y), rtol=1e-4)


def test_frechet_of_fewer_rows_than_dimensions():
    """The covariances are singular: where the root of the product often fails."""
    x, y = features(10), features(13, seed=1)
    np.testing.assert_allclose(distance(moments(x), moments(y)), by_sqrtm(x, y), rtol=2e-3)  # fmt: skip


def test_frechet_is_symmetric_and_zero_for_the_same():
    x, y = moments(features()), moments(features(seed=1, shift=0.1))
    np.testing.assert_allclose(distance(x, y), distance(y, x), rtol=1e-4)
    assert 0 <= distance(x, x) < 1e-5 * jnp.trace(x.cov)


def test_kept_statistics_serve_as_well_as_the_rows():
    x, y = features(), features(seed=1)
    m = moments(x)
    np.testing.assert_allclose(m.cov, np.cov(np.asarray(x, np.float64).T), rtol=1e-4, atol=1e-6)  # fmt: skip
    kept = frechet.of_covariance(m.mean, m.cov, 300)
    np.testing.assert_allclose(distance(kept, moments(y)), by_sqrtm(x, y), rtol=1e-3)


def kid_by_loops(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    d = x.shape[1]
    aa, bb, ab = ((p @ q.T / d + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    off = ~np.eye(len(x), dtype=bool)
    return aa[off].mean() + bb[off].mean() - 2 * ab.mean()


def test_kid_of_all_rows_is_its_formula(key):
    x, y = features(60), features(60, seed=1, shift=0.1)
    got = frechet.kid(key, x, y, subsets=2, size=60)
    np.testing.assert_allclose(got.mean, kid_by_loops(x, y), rtol=1e-3)
    assert got.std < 1e-3 * got.mean  # any order of all rows is the same set


def test_kid_is_unbiased(key):
    """Equal distributions: subsets scatter around 0, where FID stays above."""
    x, y = features(2000), features(2000, seed=1)
    got = jax.jit(frechet.kid, static_argnames=("subsets", "size"))(key, x, y, subsets=100, size=50)  # fmt: skip
    assert abs(got.mean) < 3 * got.std / 10
    far = frechet.kid(key, x, y + 0.2, subsets=20, size=50)
    assert far.mean > 3 * got.std


def test_under_vmap_each_set_is_by_itself(key):
    x = jnp.stack([features(), features(seed=1, shift=0.1)])
    m = jax.vmap(frechet.moments)(x)
    base = frechet.moments(features(seed=2))
    many = jax.vmap(frechet.frechet, in_axes=(0, None))(m, base)
    kids = jax.vmap(lambda a: frechet.kid(key, a, x[0], subsets=2, size=20).mean)(x)
    for i in range(2):
        alone = frechet.frechet(frechet.moments(x[i]), base)
        np.testing.assert_allclose(many[i], alone, rtol=1e-4)
        alone = frechet.kid(key, x[i], x[0], subsets=2, size=20).mean
        np.testing.assert_allclose(kids[i], alone, rtol=1e-3, atol=1e-4)


def test_the_slope_of_kid_in_a_shift(key):
    x, y = features(40), features(40, seed=1)

    def along(t):
        return frechet.kid(key, x + t, y, subsets=1, size=40).mean

    slope = (along(0.22) - along(0.18)) / 0.04
    np.testing.assert_allclose(jax.grad(along)(0.2), slope, rtol=1e-2)


def test_says_what_it_needs(key):
    x = features(5)
    with pytest.raises(UneError, match="at least 2 rows of features; there are 1"):
        frechet.moments(x[:1])
    with pytest.raises(UneError, match="features have 24 and 3 dimensions"):
        frechet.frechet(frechet.moments(x), frechet.moments(x[:, :3]))
    for size in (1, 6):
        with pytest.raises(UneError, match=f"size is {size}; sets of 5 and 5 allow"):
            frechet.kid(key, x, x, size=size)
    with pytest.raises(UneError, match="subsets is 0"):
        frechet.kid(key, x, x, size=3, subsets=0)
