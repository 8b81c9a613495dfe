"""Directions, what they leave alone, and grids of edits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import edits


def normal(seed, *shape):
    return jnp.asarray(
        np.random.default_rng(seed).standard_normal(shape), dtype=jnp.float32
    )


# Compiled once a shape; that they are the same functions is tested below.
orthogonalize, unit = jax.jit(edits.orthogonalize), jax.jit(edits.unit)


def by_float64_qr(w, others):
    q, _ = np.linalg.qr(np.asarray(others, np.float64).T)
    return np.asarray(w) - q @ (q.T @ np.asarray(w))


# unit


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_unit_has_length_one_at_any_scale(scale):
    w = normal(0, 500)
    got = unit(w * scale)
    np.testing.assert_allclose(jnp.linalg.norm(got), 1, rtol=1e-6)
    np.testing.assert_allclose(got, w / jnp.linalg.norm(w), rtol=1e-5)


def test_unit_of_zeros_is_zeros_with_a_finite_gradient():
    np.testing.assert_array_equal(unit(jnp.zeros(4)), 0)
    grad = jax.grad(lambda w: unit(w).sum())(jnp.zeros(4))
    assert jnp.isfinite(grad).all()


# orthogonalize


def test_one_vector_gives_equation_4():
    w1, w2 = normal(1, 2, 300)
    want = w1 - w2 * jnp.dot(w2, w1) / jnp.dot(w2, w2)
    np.testing.assert_allclose(orthogonalize(w1, w2), want, atol=1e-6)


def test_an_orthogonalised_edit_leaves_the_others_scores_unchanged():
    d = 16_384
    z, others = normal(3, d), normal(4, 5, d)
    w = normal(2, d) + 3 * others[0] - others[2]  # entangled with them
    others = others * jnp.array([1e-4, 1.0, 1.0, 1e4, 1.0])[:, None]
    others = others.at[4].set(others[1] + 1e-2 * others[2])  # nearly the same
    direction = unit(orthogonalize(w, others))
    edited = edits.displace(z, direction[None], jnp.array([6.0]))
    edited, z, others = (np.asarray(v, np.float64) for v in (edited, z, others))
    rows = others / np.linalg.norm(others, axis=1, keepdims=True)
    assert np.abs(rows @ np.asarray(direction)).max() < 1e-7
    # Then only the rounding of the edited latent itself is left.
    assert np.abs(rows @ (edited - z)).max() < 1e-6
    # Its own part, of length about sqrt(d), is walked along.
    assert np.asarray(w) @ (edited - z) == pytest.approx(6 * d**0.5, rel=0.05)


def test_equals_projection_by_float64_qr():
    w, others = normal(5, 300), normal(6, 8, 300)
    want = by_float64_qr(w, others)
    np.testing.assert_allclose(orthogonalize(w, others), want, atol=1e-6)


def test_dependent_repeated_and_zero_rows_change_nothing():
    w, (a, b, c) = normal(7, 300), normal(8, 3, 300)
    want = by_float64_qr(w, jnp.stack([a, b, c]))
    # The first two rows alone would already fool QR without pivoting.
    rows = jnp.stack([a, a, 1e3 * a, jnp.zeros(300), b, a - 2 * b, c, 1e-6 * c])
    np.testing.assert_allclose(orthogonalize(w, rows), want, atol=1e-5)
    np.testing.assert_array_equal(orthogonalize(w, jnp.zeros((8, 300))), w)


def test_inside_the_span_nothing_is_left():
    others = normal(9, 8, 300)
    inside = 3 * others[0] - others[4] + 0.1 * others[7]
    np.testing.assert_array_equal(orthogonalize(inside, others), 0.0)
    np.testing.assert_array_equal(orthogonalize(others[0], 5 * others[0]), 0.0)


def test_orthogonalize_under_jit_vmap_and_grad():
    w, others = normal(10, 3, 30), normal(11, 3, 4, 30)
    loops = jnp.stack([orthogonalize(a, b) for a, b in zip(w, others, strict=True)])
    got = jax.vmap(edits.orthogonalize)(w, others)
    np.testing.assert_allclose(got, loops, atol=1e-5)

    z = normal(12, 30)
    along, across = jax.grad(
        lambda w, others: orthogonalize(w, others) @ z, argnums=(0, 1)
    )(w[0], others[0])
    # A projector is its own transpose; the gradient over the rows by differences.
    np.testing.assert_allclose(along, orthogonalize(z, others[0]), atol=1e-5)
    step = 1e-2 * normal(13, 4, 30)
    slope = (
        orthogonalize(w[0], others[0] + step) @ z
        - orthogonalize(w[0], others[0] - step) @ z
    ) / 2
    np.testing.assert_allclose(jnp.vdot(across, step), slope, rtol=1e-2, atol=1e-3)


# projection_std


def test_projection_std_is_the_spread_along_the_direction():
    x, direction = normal(14, 400, 20) + 100, normal(15, 20)
    want = (np.asarray(x, np.float64) @ np.asarray(direction, np.float64)).std()
    np.testing.assert_allclose(edits.projection_std(x, direction), want, rtol=1e-4)
    half = edits.projection_std(x.astype(jnp.float16), direction)
    assert half.dtype == jnp.float32
    assert jax.grad(edits.projection_std, argnums=1)(x, direction).shape == (20,)


def test_one_strength_is_one_standard_deviation():
    x = normal(16, 500, 12) * jnp.arange(1.0, 13.0)[None]
    direction = unit(normal(17, 12))
    scale = edits.projection_std(x, direction)
    steps = scale * jnp.array([[-2.0], [0.0], [3.0]])
    moved = jax.vmap(edits.displace, (None, None, 0))(x[0], direction[None], steps)
    scores = (moved - x[:1]) @ direction / scale
    np.testing.assert_allclose(scores, [-2, 0, 3], atol=1e-5)
    np.testing.assert_array_equal(moved[1], x[0])


# displace


def test_displace_adds_every_move_at_once_under_vmap():
    images, moves = normal(22, 3, 4, 4, 2), normal(23, 5, 32)
    amounts = normal(24, 3, 7, 5)
    one = jax.vmap(edits.displace, (None, None, 0))
    got = jax.jit(jax.vmap(one, (0, None, 0)))(images, moves, amounts)
    assert got.shape == (3, 7, 4, 4, 2)
    want = images[:, None].reshape(3, 1, 32) + amounts @ moves
    np.testing.assert_allclose(got.reshape(3, 7, 32), want, atol=1e-5)
    np.testing.assert_array_equal(edits.displace(images[0], moves, jnp.zeros(5)), images[0])  # fmt: skip
    grad = jax.grad(lambda a: edits.displace(images[0], moves, a).sum())(jnp.zeros(5))
    np.testing.assert_allclose(grad, moves.sum(1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"31 numbers each, the latent \(4, 4, 2\)"):
        edits.displace(images[0], moves[:, :31], jnp.zeros(5))


# crossing


def crossing(z, w, b, moves, margins):
    """For some or one of each."""
    some = jnp.atleast_1d(jnp.asarray(margins, jnp.float32))
    rows = (jnp.atleast_2d(v) for v in (w, moves))
    w, moves = rows
    return edits.crossing(
        z, w, jnp.broadcast_to(jnp.float32(b), some.shape), moves, some
    )


def test_crossing_along_the_reader_is_the_authors_step_to_the_boundary():
    z, w, b = normal(25, 300), normal(26, 300), 0.7
    want = -(w @ z + b) / (w @ w)
    np.testing.assert_allclose(crossing(z, w, b, w, 0.0), [want], rtol=1e-4)
    slope = jax.grad(lambda m: crossing(z, w, b, w, m)[0])(0.0)
    np.testing.assert_allclose(slope, 1 / (w @ w), rtol=1e-4)


def test_moves_that_change_each_others_scores_end_where_they_shall():
    z, w, moves = normal(29, 300), normal(30, 3, 300), normal(31, 3, 300)
    moves = w * jnp.array([[1e3], [1.0], [1e-3]]) + 0.3 * moves
    found = crossing(z, w, 0.2, moves, [1.0, -2.0, 0.0])
    scores = w @ (z + found @ moves) + 0.2
    np.testing.assert_allclose(scores, [1, -2, 0], atol=1e-2)
    many = jax.vmap(lambda m: crossing(z, w, 0.2, moves, m))(jnp.eye(3))
    assert many.shape == (3, 3) and jnp.isfinite(many).all()


def test_a_move_that_leaves_the_score_alone_never_crosses():
    z, (w, v) = normal(27, 300), normal(28, 2, 300)
    assert jnp.isnan(crossing(z, w, 0.0, orthogonalize(v, w), 1.0)).all()
    assert jnp.isfinite(crossing(z, w, 0.0, v, 1.0)).all()
    same = jnp.stack([v, 2 * v])  # two scores, one way to change them
    assert jnp.isnan(crossing(z, jnp.stack([w, z]), 0.0, same, [1.0, 2.0])).all()
