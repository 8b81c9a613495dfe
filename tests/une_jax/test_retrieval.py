"""Ranks are those of sorting; ties count as their chance; blocks change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import retrieval


@pytest.fixture
def pair(key):
    gallery = jax.random.normal(key, (50, 8))
    return gallery + jax.random.normal(jax.random.key(1), (50, 8)), gallery


@pytest.mark.parametrize("block", [7, 50, 1024])
def test_ranks_are_those_of_sorting_cosines(pair, block):
    ranks = jax.jit(retrieval.ranks, static_argnames="block")
    got = ranks(*pair, block=block)
    q, g = (np.asarray(x, np.float64) for x in pair)
    q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    order = np.argsort(-q @ g.T, axis=1)
    wanted = [row.tolist().index(i) for i, row in enumerate(order)]
    np.testing.assert_array_equal(got.above, wanted)
    np.testing.assert_array_equal(got.tied, 0)
    for k in (1, 5):
        assert retrieval.top(got, k) == pytest.approx(np.mean(np.array(wanted) < k))
    assert 0.1 < retrieval.top(got, 1) < retrieval.top(got, 5) < 1


def test_the_same_row_finds_itself_and_the_opposite_comes_last(pair):
    _, gallery = pair
    assert retrieval.top(retrieval.ranks(gallery, 3 * gallery), 1) == 1
    assert (retrieval.ranks(-gallery, gallery).above == 49).all()


@pytest.mark.parametrize("k", [1, 5])
def test_queries_that_say_nothing_are_at_chance(pair, k):
    """Zero is as far from all; one vector for all finds k partners of n."""
    _, gallery = pair
    for query in (jnp.zeros((50, 8)), jnp.broadcast_to(gallery[:1] + 1, (50, 8))):
        got = retrieval.top(retrieval.ranks(query, gallery), k)
        assert got == pytest.approx(k / 50)


def test_two_same_rows_share_the_first_place(pair):
    _, gallery = pair
    gallery = gallery.at[1].set(gallery[0])
    got = retrieval.ranks(gallery, gallery)
    np.testing.assert_array_equal(got.tied, [1, 1] + [0] * 48)
    assert retrieval.top(got, 1) == pytest.approx(49 / 50)


def test_under_vmap(pair):
    query, gallery = pair
    got = jax.vmap(retrieval.ranks, in_axes=(0, None))(jnp.stack([query, gallery]), gallery)  # fmt: skip
    np.testing.assert_array_equal(got.above[0], retrieval.ranks(query, gallery).above)
    np.testing.assert_array_equal(got.above[1], 0)
