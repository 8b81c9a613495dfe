"""Rows about their mean and vectors at length 1, where float32 makes it hard."""

import jax
import jax.numpy as jnp
import numpy as np

from une_jax import normalise


def test_a_mean_far_above_the_spread_goes_to_rounding_of_the_spread(key):
    x = np.asarray(jax.random.normal(key, (5000, 3)) * 0.01 + 1000)
    rows, mean = normalise.centred(jnp.asarray(x))
    assert np.abs(np.asarray(rows, np.float64).mean(axis=0)).max() < 1e-8
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=0), rtol=1e-7)


def test_rows_of_any_length_come_to_1_and_zeros_stay():
    x = jnp.array([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    got = normalise.unit_rows(x)
    np.testing.assert_allclose(got, [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)
