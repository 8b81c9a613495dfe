"""Nearest neighbours equal a full sort's, in any blocks; mutual kNN equals its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import neighbours, permutation
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("quick_compiles")

nearest = jax.jit(neighbours.nearest, static_argnames=("k", "metric", "block"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def similarities(x, metric):
    """All n x n, in float64, the row itself last of all."""
    x = x.astype(np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = x @ x.T
    if metric == "euclidean":
        s = -np.square(x[:, None] - x[None]).sum(-1)
    np.fill_diagonal(s, -np.inf)
    return s


def sorted_neighbours(x, k, metric):
    return np.argsort(-similarities(x, metric), axis=1, kind="stable")[:, :k]


def masks_knn(x, y, k, metric):
    """platonic-rep's: n x n masks of the neighbours, multiplied."""
    a, b = (np.zeros((len(x), len(x))) for _ in range(2))
    rows = np.arange(len(x))[:, None]
    a[rows, sorted_neighbours(x, k, metric)] = 1
    b[rows, sorted_neighbours(y, k, metric)] = 1
    return (a * b).sum(1).mean() / k


@pytest.mark.parametrize("metric", ["cosine", "inner", "euclidean"])
@pytest.mark.parametrize("block", [None, 1, 16, 61, 500])
def test_equal_a_full_sort_in_any_blocks(metric, block):
    x = normal(61, 12) + 2
    got = nearest(jnp.asarray(x), 7, metric=metric, block=block)
    want = sorted_neighbours(x, 7, metric)
    np.testing.assert_array_equal(got.index, want)
    exact = np.take_along_axis(similarities(x, metric), want, axis=1)
    np.testing.assert_allclose(got.similarity, exact, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("block", [None, 3])
def test_of_equally_near_rows_the_first_come_first(block):
    x = jnp.asarray([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0]])
    got = nearest(x, 3, metric="cosine", block=block).index
    want = [[2, 4, 5], [3, 0, 2], [0, 4, 5], [1, 0, 2], [0, 2, 5], [0, 2, 4]]
    assert got.tolist() == want


def test_a_row_is_not_its_own_neighbour_even_among_opposites():
    x = jnp.asarray([[1.0], [-1.0], [-2.0]])
    assert nearest(x, 2, metric="inner").index.tolist() == [[1, 2], [2, 0], [1, 0]]


def test_euclidean_neighbours_of_rows_far_from_the_origin():
    """Squares of 1e4 would leave float32 nothing of distances about 1."""
    x = normal(60, 3)
    got = nearest(jnp.asarray(x + 1e4), 5, metric="euclidean").index
    np.testing.assert_array_equal(
        got, sorted_neighbours((x + np.float32(1e4)).astype(float), 5, "euclidean")
    )


def test_a_zero_row_is_far_from_all_and_gives_no_nan():
    x = jnp.asarray(normal(9, 3)).at[4].set(0)
    got = nearest(x, 8)
    assert jnp.isfinite(got.similarity).all()
    assert sorted(got.index[4].tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_mutual_knn_equals_the_formula_with_masks(metric, k):
    x = normal(80, 10)
    y = x[:, :6] + 0.7 * normal(80, 6, seed=1)
    got = neighbours.mutual_knn(jnp.asarray(x), jnp.asarray(y), k, metric=metric)
    want = masks_knn(x, y, k, metric)
    assert 0.02 < want < 0.98
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_identical_up_to_rotation_and_scale_is_one():
    x = normal(70, 9)
    turn = np.linalg.qr(normal(9, 9, seed=1))[0]
    same = neighbours.mutual_knn(jnp.asarray(x), jnp.asarray(3 * x @ turn), 10)
    assert same == 1


def test_independent_views_have_the_value_of_chance(key):
    """k / (n - 1): 0.01001 at n = 1000, whatever the dimensions."""
    n, k = 1000, 10
    x, y = jnp.asarray(normal(n, 64)), jnp.asarray(normal(n, 16, seed=1))
    a, b = nearest(x, k), nearest(y, k)

    @jax.jit
    def null():
        def statistic(order):
            return neighbours.shared(a, neighbours.reorder(b, order)).mean()

        return permutation.test(statistic, key, n, permutations=100)

    got, chance = null(), neighbours.chance(n, k)
    assert chance == pytest.approx(0.01001, abs=1e-5)
    np.testing.assert_allclose(got.mean, chance, atol=4 * float(got.std) / 10)
    assert abs(got.observed - chance) < 4 * got.std < 0.008


def test_reordered_neighbours_are_those_of_reordered_rows(key):
    x = jnp.asarray(normal(40, 5))
    order = permutation.orders(key, 40, 1)[0]
    got = neighbours.reorder(nearest(x, 6), order)
    want = nearest(x[order], 6)
    np.testing.assert_array_equal(got.index, want.index)
    np.testing.assert_allclose(got.similarity, want.similarity, rtol=1e-5)


def test_works_under_vmap():
    xs = jnp.asarray(normal(3, 30, 4))
    got = jax.vmap(lambda x: neighbours.nearest(x, 4, block=8))(xs)
    scores = jax.vmap(lambda x: neighbours.mutual_knn(x, xs[0], 4))(xs)
    for i in range(3):
        want = nearest(xs[i], 4)
        np.testing.assert_array_equal(got.index[i], want.index)
        want = masks_knn(np.asarray(xs[i]), np.asarray(xs[0]), 4, "cosine")
        np.testing.assert_allclose(scores[i], want, rtol=1e-6)


def test_memory_is_a_block_not_the_square_of_the_rows():
    """20,000 rows: all similarities would be 1.6 GB."""
    x = jax.ShapeDtypeStruct((20_000, 64), jnp.float32)
    memory = nearest.lower(x, 10).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 150e6


@pytest.mark.parametrize("k", [0, 5])
def test_bad_k_is_named(k):
    with pytest.raises(UneError, match=f"k is {k}; of 5 rows each has 1 to 4"):
        neighbours.nearest(jnp.ones((5, 2)), k)
