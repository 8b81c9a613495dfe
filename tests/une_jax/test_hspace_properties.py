"""The numbers about h-space, of effects whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import asyrp
from une_jax import hspace_properties as properties


def test_a_line_is_least_squares_through_0(key):
    x, y = jax.random.normal(key, (2, 5, 7))
    found = properties.line(x, y)
    for i in range(5):
        a = np.asarray(x[i], np.float64)[:, None]
        b = np.asarray(y[i], np.float64)
        (slope,), (left,), *_ = np.linalg.lstsq(a, b)
        assert found.slope[i].item() == pytest.approx(slope, rel=1e-4)
        assert found.r2[i].item() == pytest.approx(1 - left / (b @ b), abs=1e-5)


def test_a_line_of_nothing_is_0_not_nan():
    nothing, some = jnp.zeros(3), jnp.ones(3)
    for x, y in ((nothing, some), (some, nothing), (nothing, nothing)):
        found = properties.line(x, y)
        assert (found.slope, found.r2) == (0, 0)
    slopes = jax.grad(lambda x: properties.line(x, some).slope)(nothing)
    assert jnp.isfinite(slopes).all()


def test_homogeneity_leaves_the_image_itself_out(key):
    """Of effects of chance it is 0 on average; with the own effect in the mean it would
    be 1 / sqrt(n)."""
    effects = jax.random.normal(key, (400, 12))
    assert abs(properties.homogeneity(effects[:200]).mean()) < 0.06
    few = jnp.stack(
        [properties.homogeneity(part) for part in effects.reshape(100, 4, 12)]
    )
    assert abs(few.mean()) < 0.06 < 1 / 2
    alike = jnp.outer(jnp.arange(1.0, 5.0), effects[0])
    np.testing.assert_allclose(properties.homogeneity(alike), 1, atol=1e-5)
    assert properties.homogeneity(alike.at[0].multiply(-1))[0].item() == pytest.approx(
        -1
    )


def test_cosines_over_time(key):
    moves = jax.random.normal(key, (3, 2, 2, 4)).at[2].set(0)
    found = properties.over_time(moves)
    rows = np.asarray(moves[:2]).reshape(2, -1)
    wanted = rows[0] @ rows[1] / np.linalg.norm(rows, axis=1).prod()
    assert found[0, 1].item() == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(jnp.diag(found), [1, 1, 0], atol=1e-6)
    assert properties.off_diagonal(found).item() == pytest.approx(wanted / 3, abs=1e-5)


def test_steady_moves_are_the_global_move_of_the_steps_that_edit(key):
    edit = jnp.array([True, True, False, False])
    moves = jax.random.normal(key, (4, 2, 2, 3)).at[2:].set(0)
    wanted = asyrp.global_move(moves[None], edit)
    np.testing.assert_allclose(properties.steady(moves), wanted, atol=1e-6)


def test_controls_are_as_long_and_point_elsewhere(key):
    moves = jax.random.normal(key, (5, 4, 4, 32)) * jnp.arange(5.0).reshape(5, 1, 1, 1)
    control = properties.random_like(jax.random.key(1), moves)
    lengths = [jnp.linalg.norm(x.reshape(5, -1), axis=1) for x in (control, moves)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)
    across = [properties.cosine(a.ravel(), b.ravel()) for a, b in zip(control, moves, strict=True)]  # fmt: skip
    assert np.abs(across).max() < 0.15  # 512 numbers: 0.044 is a standard deviation
    # One direction throughout, as the moves of a direction are.
    np.testing.assert_allclose(properties.over_time(control)[1:, 1:], 1, atol=1e-5)


def test_all_work_under_jit_and_vmap(key):
    x = jax.random.normal(key, (3, 4, 6))
    for fn in (properties.homogeneity, properties.over_time, properties.steady):
        found = jax.jit(jax.vmap(fn))(x)
        np.testing.assert_allclose(found[1], fn(x[1]), atol=1e-6)
    sized = jax.jit(jax.vmap(properties.sized))(x, 2 * x)
    np.testing.assert_allclose(sized, 2 * x, rtol=1e-5)
