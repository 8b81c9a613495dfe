"""Angles between spans equal scipy's in float64, small ones too; spans, not columns, count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from une_jax import subspaces

# Compiled once a shape.
principal_angles = jax.jit(subspaces.principal_angles)
overlap = jax.jit(subspaces.overlap)
explained = jax.jit(subspaces.explained)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def at_angles(angles, d, seed=0):
    """Two bases in d dimensions, in other coordinates, with just these angles."""
    k = len(angles)
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, 2 * k)))
    a, b = q[:, :k], q[:, :k] * np.cos(angles) + q[:, k:] * np.sin(angles)
    rng = np.random.default_rng(seed + 1)
    return (jnp.asarray(x @ rng.standard_normal((k, k)), jnp.float32) for x in (a, b))


@pytest.mark.parametrize("p, q", [(3, 3), (2, 5), (5, 2), (1, 1)])
def test_equals_scipys_angles(p, q):
    a, b = gaussian(30, p), gaussian(30, q, seed=1)
    want = subspace_angles(a.astype(np.float64), b.astype(np.float64))[::-1]
    got = principal_angles(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_planted_angles_from_tiny_to_right():
    """An arc cosine in float32 would give 0 for the first three."""
    angles = np.array([1e-5, 1e-4, 2e-4, 0.1, np.pi / 4, 1.2, np.pi / 2])
    a, b = at_angles(angles, 40)
    got = principal_angles(a, b)
    np.testing.assert_allclose(got, angles, rtol=1e-3, atol=4e-6)
    assert (np.diff(got) > 0).all()


@pytest.mark.parametrize("angle", [1e-3, 0.5])
def test_equal_angles_do_not_blur_each_other(angle):
    a, b = at_angles(np.full(4, angle), 20)
    got = principal_angles(a, b)
    np.testing.assert_allclose(got, angle, rtol=1e-3, atol=1e-6)


def test_only_the_span_counts():
    a, b = gaussian(30, 3), gaussian(30, 2, seed=1)
    want = principal_angles(jnp.asarray(a), jnp.asarray(b))
    mixed = a @ np.array([[1, 2, 0], [0, 1, 1], [0, 0, -1e9]], np.float32)
    got = principal_angles(jnp.asarray(mixed), jnp.asarray(b * 1e-25))
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_a_span_is_at_no_angle_to_itself():
    a = jnp.asarray(gaussian(100, 8))
    assert principal_angles(a, a[:, ::-1]).max() < 2e-6
    np.testing.assert_allclose(overlap(a, a), 1, rtol=1e-6)


def test_a_missing_dimension_is_at_right_angles_to_all():
    a, b = gaussian(30, 3), gaussian(30, 3, seed=1)
    a, short = jnp.asarray(a), np.stack([b[:, 0], b[:, 1], b[:, 0] - 2 * b[:, 1]], 1)
    got = principal_angles(a, jnp.asarray(short))
    two = principal_angles(a, jnp.asarray(b[:, :2]))
    np.testing.assert_allclose(got, [*two, np.pi / 2], rtol=1e-5)
    assert int(jnp.any(subspaces.basis(jnp.asarray(short)) != 0, axis=0).sum()) == 2
    # Also where all that is there is shared: neither sine nor cosine may lose count.
    got = principal_angles(a, a * jnp.array([[1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(got, [0, 0, np.pi / 2], atol=2e-6)
    nothing = principal_angles(a, jnp.zeros((30, 2)))
    np.testing.assert_allclose(nothing, np.pi / 2)


def test_overlap_is_the_mean_squared_cosine_and_by_chance_p_over_d():
    a, b = gaussian(200, 50), gaussian(200, 20, seed=1)
    angles = subspace_angles(a.astype(np.float64), b.astype(np.float64))
    got = overlap(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(got, np.mean(np.cos(angles) ** 2), rtol=1e-5)
    np.testing.assert_allclose(got, 50 / 200, atol=0.03)
    back = overlap(jnp.asarray(b), jnp.asarray(a))
    np.testing.assert_allclose(back, got * 20 / 50, rtol=1e-5)


def test_explained_is_r2_of_least_squares_with_a_constant():
    x, noise = gaussian(60, 4) + 1000, gaussian(60, 3, seed=1)
    y = (x - 1000) @ gaussian(4, 3, seed=2) + [0, 1, 5] * noise - 300
    design = np.c_[x.astype(np.float64), np.ones(60)]
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    want = 1 - (left**2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    got = explained(jnp.asarray(x), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert got[0] > 0.9999 > 0.8 > got[2]


def test_canonical_correlations_are_those_of_whitened_rows():
    x, y = gaussian(80, 4) + 7, gaussian(80, 3, seed=1)
    y[:, 0] += x[:, 1]

    def white(a):
        a = a.astype(np.float64) - a.mean(0, dtype=np.float64)
        return np.linalg.svd(a, full_matrices=False)[0]

    want = np.linalg.svd(white(x).T @ white(y), compute_uv=False)
    got = subspaces.canonical_correlations(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_unknown_numbers_stay_unknown():
    a = jnp.asarray(gaussian(10, 2))
    bad = a.at[3, 1].set(jnp.nan)
    assert jnp.isnan(principal_angles(a, bad)).all()
    assert jnp.isnan(overlap(bad, a))
    assert jnp.isnan(explained(a, jnp.ones((10, 1)))).all()


def test_more_columns_than_rows_are_refused():
    with pytest.raises(ValueError, match="4 columns in 3 dimensions"):
        subspaces.principal_angles(jnp.ones((3, 1)), jnp.ones((3, 4)))


def test_works_under_jit_and_vmap_and_has_a_gradient():
    a, b = jnp.asarray(gaussian(3, 20, 4)), jnp.asarray(gaussian(3, 20, 2, seed=1))
    for fn in (
        subspaces.principal_angles,
        subspaces.overlap,
        subspaces.explained,
        subspaces.canonical_correlations,
    ):
        one = jax.jit(fn)
        got = jax.jit(jax.vmap(fn))(a, b)
        for i in range(3):
            np.testing.assert_allclose(got[i], one(a[i], b[i]), rtol=1e-4, atol=1e-6)

    def turned(t):
        """A line at angle t to the span of the first axis."""
        line = jnp.stack([jnp.cos(t), jnp.sin(t), 0 * t])[:, None]
        return subspaces.principal_angles(jnp.eye(3)[:, :1], line)[0]

    for t in (0.3, 1.2):
        np.testing.assert_allclose(jax.jit(jax.grad(turned))(t), 1, rtol=1e-4)
