"""Adjusted p-values equal scipy's, and keep their promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from une_jax import multiple_testing

METHODS = {
    "bh": multiple_testing.benjamini_hochberg,
    "by": multiple_testing.benjamini_yekutieli,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [1, 2, 300])
def test_equals_scipys(method, m):
    p = np.random.default_rng(0).random(m).astype(np.float32) ** 3
    p[-1] = p[0]  # ties
    want = scipy.stats.false_discovery_control(p, method=method)
    got = jax.jit(METHODS[method])(jnp.asarray(p))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_false_discoveries_among_true_ones_stay_below_the_level():
    key = jax.random.key(0)
    null = jax.random.uniform(key, (400, 80))
    p = jnp.concatenate([null, jnp.full((400, 20), 1e-6)], axis=1)
    found = jax.jit(jax.vmap(METHODS["bh"]))(p) <= 0.1
    false = found[:, :80].sum(axis=1) / jnp.maximum(found.sum(axis=1), 1)
    assert found[:, 80:].all()
    # Its expectation is 0.08; the mean of 400 has a standard error of 0.003.
    assert 0.07 < false.mean() < 0.09


def test_nan_is_not_hidden():
    p = jnp.array([0.01, jnp.nan, 0.5])
    assert jnp.isnan(multiple_testing.benjamini_hochberg(p)).all()
    assert jnp.isnan(multiple_testing.benjamini_yekutieli(p)).all()
