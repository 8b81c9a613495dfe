"""Projections: unit directions, fresh subsets, the same whatever the blocks."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import projections
from une_jax.errors import UneError

random = jax.jit(projections.random, static_argnames=("projections", "rows"))
coordinates = jax.jit(projections.coordinates, static_argnames=("projections", "rows"))
subset = jax.jit(projections._subset, static_argnums=(1, 2))


def test_a_projection_is_a_direction_times_rows_of_a_subset(key):
    x = jax.random.normal(key, (40, 6))
    got = random(key, x, projections=3, rows=10)
    for i in range(3):
        own = jax.random.fold_in(key, i)
        direction = projections._direction(own, 6)
        assert jnp.linalg.norm(direction) == pytest.approx(1, abs=1e-6)
        want = x[subset(own, 40, 10)] @ direction
        np.testing.assert_allclose(got[:, i], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fetch", [projections.FETCH, 1])
def test_blocks_and_the_way_of_multiplying_change_nothing(key, monkeypatch, fetch):
    x = jax.random.normal(key, (40, 6))
    want = random(key, x, projections=7, rows=10)
    monkeypatch.setattr(projections, "BLOCK_NUMBERS", 140)  # two or three at a time
    monkeypatch.setattr(projections, "FETCH", fetch)
    jitted = jax.jit(ft.partial(projections.random, projections=7, rows=10))
    np.testing.assert_allclose(jitted(key, x), want, rtol=1e-4, atol=1e-5)


def test_more_projections_leave_the_first_as_they_were(key):
    x = jax.random.normal(key, (40, 6))
    few, many = (random(key, x, projections=p, rows=10) for p in (3, 7))
    np.testing.assert_allclose(few, many[:, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n, rows", [(10, 3), (10, 9), (10, 10), (5, 1)])
def test_subsets_have_each_row_once_and_equally_often(n, rows, key):
    keys = jax.random.split(key, 3000)
    chosen = np.asarray(jax.jit(jax.vmap(lambda k: subset(k, n, rows)))(keys))
    assert all(len(set(c)) == rows for c in chosen)
    assert chosen.min() >= 0 and chosen.max() < n
    counts = np.bincount(chosen.ravel(), minlength=n) / 3000
    share = rows / n
    assert np.abs(counts - share).max() <= 4.5 * np.sqrt(share * (1 - share) / 3000)


def test_directions_are_uniform(key):
    keys = jax.random.split(key, 4000)
    v = jax.jit(jax.vmap(lambda k: projections._direction(k, 5)))(keys)
    assert jnp.abs(v.mean(axis=0)).max() < 4.5 * np.sqrt(0.2 / 4000)
    np.testing.assert_allclose(v.T @ v / 4000, np.eye(5) / 5, atol=0.015)


def test_coordinates_are_columns_in_subsets(key):
    x = jnp.arange(60.0).reshape(20, 3)
    got = coordinates(key, x, rows=8)
    assert got.shape == (8, 3)
    for j in range(3):
        assert len(set(got[:, j].tolist()) & set(x[:, j].tolist())) == 8
    some = coordinates(key, x, rows=8, projections=2)
    assert some.shape == (8, 2)
    assert len({int(c) % 3 for c in some[0]}) == 2


def test_given_directions(key):
    x = jax.random.normal(key, (20, 4))
    directions = jnp.eye(4)[:, :2] * 3
    got = projections.along(key, x, directions, rows=20)
    np.testing.assert_allclose(got, 3 * x[:, :2], rtol=1e-6)


def test_under_vmap(key):
    x = jax.random.normal(key, (2, 40, 6))
    draw = ft.partial(projections.random, projections=3, rows=10)
    got = jax.jit(jax.vmap(draw, in_axes=(None, 0)))(key, x)
    for i in range(2):
        want = random(key, x[i], projections=3, rows=10)
        np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-5)


def test_bad_sizes_are_named(key):
    x = jnp.ones((5, 2))
    with pytest.raises(UneError, match="subsets of 6 rows, of 5; use 1 to 5"):
        projections.random(key, x, rows=6)
    with pytest.raises(UneError, match="0 projections; use 1 or more"):
        projections.coordinates(key, x, rows=5, projections=0)
