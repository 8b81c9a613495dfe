"""Principal directions of h: planted ones found, step by step, jointly and in a stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import hspace_pca
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("compiling_fast")

N, T, SHAPE = 40, 3, (2, 2, 15)
D = int(np.prod(SHAPE))
RNG = np.random.default_rng(0)
# Two directions a step, which turn slowly over the steps, in a little noise.
BASE = np.linalg.qr(RNG.standard_normal((D, 4)))[0].T
TRUE = np.stack([np.cos(0.3 * t) * BASE[:2] + np.sin(0.3 * t) * BASE[2:] for t in range(T)], 1)  # fmt: skip
AMOUNT = RNG.standard_normal((N, 2)) * np.array([5.0, 2.0])
NOISE = 0.02 * RNG.standard_normal((N, T, D))
H = (np.einsum("nk,ktd->ntd", AMOUNT, TRUE) + NOISE + 3).astype(np.float32)
H = jnp.asarray(H.reshape(N, T, *SHAPE))

principal = jax.jit(hspace_pca.principal, static_argnames=("k", "joint"))
absorb = jax.jit(hspace_pca.absorb)


def by_svd(x, k):
    """sigma and u of rows (n, d), in float64."""
    x = np.asarray(x, np.float64)
    _, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return s[:k] / np.sqrt(len(x) - 1), vt[:k]


def cosines(moves, true):
    moves, true = (np.asarray(v, np.float64).reshape(len(v), T, -1) for v in (moves, true))  # fmt: skip
    length = np.linalg.norm(moves, axis=2) * np.linalg.norm(true, axis=2)
    return (moves * true).sum(2) / length


@pytest.mark.parametrize("n", [N, 3 * D])
def test_a_planted_direction_is_found_at_each_step_with_its_deviation(n):
    """From fewer samples than numbers, by the dual, and from more."""
    h = jnp.tile(H, (-(-n // N), 1, 1, 1, 1))[:n]
    found = principal(h, 2)
    assert found.moves.shape == (2, T, *SHAPE) and found.deviation.shape == (2, T)
    assert np.abs(cosines(found.moves, TRUE)).min() > 0.999
    for t in range(T):
        sigma, u = by_svd(h[:, t].reshape(n, -1), 2)
        np.testing.assert_allclose(found.deviation[:, t], sigma, rtol=1e-4)
        moves = np.asarray(found.moves[:, t]).reshape(2, -1)
        want = u * sigma[:, None] * np.sign((u * moves).sum(1))[:, None]
        np.testing.assert_allclose(moves, want, atol=2e-3)
    np.testing.assert_allclose(found.mean, h.mean(0), atol=1e-5)
    assert found.explained.min() > 0.99 and found.error.max() < 1e-3


def test_signs_are_those_of_the_first_step():
    found = principal(H, 2)
    moves = np.asarray(found.moves).reshape(2, T, -1)
    assert (np.einsum("ktd,kd->kt", moves, moves[:, 0]) > 0).all()
    for move in moves[:, 0]:
        assert move[np.abs(move).argmax()] > 0
    along = cosines(found.moves, TRUE)
    assert (np.sign(along) == np.sign(along[:, :1])).all()


def test_joint_directions_are_those_of_the_concatenated_steps():
    found = principal(H, 2, joint=True)
    sigma, u = by_svd(H.reshape(N, -1), 2)
    assert found.deviation.shape == (2, 1) and found.moves.shape == (2, T, *SHAPE)
    np.testing.assert_allclose(found.deviation[:, 0], sigma, rtol=1e-4)
    moves = np.asarray(found.moves).reshape(2, -1)
    along = np.abs((moves * u).sum(1)) / sigma
    np.testing.assert_allclose(along, 1, atol=1e-5)


def test_moves_beyond_the_rank_are_zero_and_k_is_clipped():
    h = jnp.repeat(H[:2], 3, axis=0)  # one direction
    found = principal(h, 9)
    assert found.moves.shape[0] == 5
    np.testing.assert_array_equal(found.moves[1:], 0)
    np.testing.assert_allclose(found.explained, 1, rtol=1e-5)


def test_it_may_be_vmapped_over_sets_and_h_may_be_short_floats():
    sets = jnp.stack([H, 2 * H])
    both = jax.vmap(lambda h: principal(h, 1))(sets)
    one = principal(H, 1)
    np.testing.assert_allclose(both.moves[0], one.moves, atol=1e-3)
    np.testing.assert_allclose(both.deviation[1], 2 * one.deviation, rtol=1e-4)
    short = principal(H.astype(jnp.bfloat16), 1)
    assert short.moves.dtype == jnp.float32
    assert cosines(short.moves, one.moves).min() > 0.999


@pytest.mark.parametrize("joint", [False, True])
def test_a_stream_finds_what_all_samples_at_once_give(joint):
    stream = hspace_pca.begin((T, *SHAPE), 6, joint=joint)
    for batch in jnp.split(H, 4):
        stream = absorb(stream, batch)
    got, want = hspace_pca.finish(stream, 2), principal(H, 2, joint=joint)
    np.testing.assert_allclose(got.mean, want.mean, atol=1e-5)
    np.testing.assert_allclose(got.deviation, want.deviation, rtol=1e-4)
    np.testing.assert_allclose(got.explained, want.explained, rtol=1e-4)
    np.testing.assert_allclose(got.moves, want.moves, atol=2e-3)


def test_a_stream_loses_nothing_while_its_rank_holds_all_samples():
    stream = hspace_pca.begin((T, *SHAPE), N, joint=False)
    for batch in jnp.split(H, 4):
        stream = absorb(stream, batch)
    got = hspace_pca.finish(stream, 2)
    assert (got.error < 1e-4 * got.deviation[0] ** 2).all()


def test_what_a_stream_loses_is_bounded_by_what_it_says():
    """A flat spectrum, where a low rank costs most."""
    h = jnp.asarray(RNG.standard_normal((60, 1, 30)), jnp.float32)
    stream = hspace_pca.begin((1, 30), 4)
    for batch in jnp.split(h, 6):
        stream = absorb(stream, batch)
    got, (sigma, _) = hspace_pca.finish(stream, 4), by_svd(h[:, 0], 4)
    missing = sigma**2 - np.asarray(got.deviation[:, 0]) ** 2
    assert (missing > 0.05).all() and (missing < got.error).all()
    total = h[:, 0].var(0, ddof=1).sum()
    np.testing.assert_allclose(stream.scatter[0] / 59, total, rtol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(UneError, match="2 or more samples; there are 1"):
        hspace_pca.principal(H[:1], 1)
    with pytest.raises(UneError, match="components is 0"):
        hspace_pca.principal(H, 0)
    with pytest.raises(UneError, match="rank is 61"):
        hspace_pca.begin((T, *SHAPE), 61)
    with pytest.raises(UneError, match="k is 4; the stream keeps 3"):
        hspace_pca.finish(hspace_pca.begin((T, *SHAPE), 3), 4)
