"""Relative representations see neither rotation nor scale, and a translation unless centred."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax.relative import relative


@pytest.fixture
def rows(key):
    return jax.random.normal(key, (30, 6)) + 0.5


@pytest.fixture
def turn(key):
    return jnp.linalg.qr(jax.random.normal(key, (6, 6)))[0]


def test_they_are_cosines(rows):
    got = jax.jit(relative)(rows, rows[:4])
    for i, a in enumerate(np.asarray(rows, np.float64)):
        for j, b in enumerate(np.asarray(rows[:4], np.float64)):
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            assert got[i, j] == pytest.approx(cosine, abs=1e-6)


def test_rotation_and_scale_do_not_matter(rows, turn):
    moved = 7 * rows @ turn
    wanted = relative(rows, rows[:4])
    np.testing.assert_allclose(relative(moved, moved[:4]), wanted, atol=1e-5)


def test_translation_matters_unless_centred(rows, turn):
    moved = rows @ turn + 3
    wanted = relative(rows, rows[:4])
    assert np.abs(relative(moved, moved[:4]) - wanted).max() > 0.1
    wanted = relative(rows, rows[:4], centre=True)
    got = relative(moved, moved[:4], centre=True)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert np.abs(wanted - relative(rows, rows[:4])).max() > 0.1


def test_zero_rows_have_none(rows):
    got = relative(rows.at[2].set(0.0), rows[:2])
    assert np.isnan(got[2]).all() and np.isfinite(jnp.delete(got, 2, axis=0)).all()


def test_under_vmap_and_grad(rows):
    many = jnp.stack([rows, -2 * rows])
    got = jax.vmap(relative)(many, many[:, :4])
    np.testing.assert_allclose(got[1], got[0], atol=1e-6)
    slope = jax.grad(lambda s: relative(s * rows, rows[:4]).sum())(2.0)
    assert abs(slope) < 1e-4  # scale does not matter
