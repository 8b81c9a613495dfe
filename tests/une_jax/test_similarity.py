"""CKA, CKNNA and RSA by their explicit formulas; what chance gives, from the theory."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import pdist

from une_jax import cknna as local
from une_jax import permutation, similarity
from une_jax.errors import UneError

pytestmark = pytest.mark.usefixtures("quick_compiles")

cka = jax.jit(similarity.cka, static_argnames=("unbiased", "sigma"))
rsa = jax.jit(similarity.rsa, static_argnames=("distance", "ranks"))
cknna = jax.jit(local.cknna, static_argnames=("k", "metric", "block"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def related(n, d, e, noise=1.0):
    x = normal(n, d)
    y = x @ normal(d, e, seed=1) / d**0.5 + noise * normal(n, e, seed=2)
    return x + 5, y - 3


def rotation(d, seed=9):
    return np.linalg.qr(normal(d, d, seed=seed))[0]


def of(function, x, y, **settings):
    return float(function(jnp.asarray(x), jnp.asarray(y), **settings))


def hsic_of_quadruples(k, l):  # noqa: E741
    """Song et al. (2012), Eq. (4): mean over all ordered quadruples, O(m^4)."""
    m, total = len(k), 0.0
    for i, j, q, r in itertools.permutations(range(m), 4):
        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
    return total / (m * (m - 1) * (m - 2) * (m - 3))


def cka_of_quadruples(k, l):  # noqa: E741
    norm = hsic_of_quadruples(k, k) * hsic_of_quadruples(l, l)
    return hsic_of_quadruples(k, l) / math.sqrt(norm)


def kernel(x, sigma=None):
    x = x.astype(np.float64)
    if sigma is None:
        return x @ x.T
    return np.exp(-np.square(x[:, None] - x[None]).sum(-1) / (2 * sigma**2))


def unbiased_hsic(k, l):  # noqa: E741
    """Song's Eq. (5) as platonic-rep has it."""
    m = len(k)
    k, l = k * (1 - np.eye(m)), l * (1 - np.eye(m))  # noqa: E741
    value = (k * l.T).sum() + k.sum() * l.sum() / ((m - 1) * (m - 2))
    return (value - 2 * (k @ l).sum() / (m - 2)) / (m * (m - 3))


# CKA


@pytest.mark.parametrize("d, e", [(3, 2), (9, 2), (9, 11)])
def test_unbiased_cka_equals_the_mean_over_quadruples(d, e):
    """In the form of features, and of kernels where there are more dimensions."""
    x, y = related(6, d, e)
    want = cka_of_quadruples(kernel(x), kernel(y))
    np.testing.assert_allclose(of(cka, x, y), want, rtol=2e-4, atol=2e-5)


def test_unbiased_rbf_cka_equals_the_mean_over_quadruples():
    x, y = related(6, 3, 2)
    want = cka_of_quadruples(kernel(x, 1.5), kernel(y, 1.5))
    np.testing.assert_allclose(of(cka, x, y, sigma=1.5), want, rtol=1e-4)


@pytest.mark.parametrize("sigma", [None, 2.0])
@pytest.mark.parametrize("d", [5, 70])
def test_biased_cka_equals_the_trace_formula(sigma, d):
    x, y = related(50, d, 7)
    h = np.eye(50) - 1 / 50
    k, m = (h @ kernel(v, sigma) @ h for v in (x, y))
    want = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    got = of(cka, x, y, unbiased=False, sigma=sigma)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_features_and_kernels_agree_far_from_the_origin():
    x, y = related(60, 20, 30)
    want = unbiased_hsic(kernel(x), kernel(y)) / math.sqrt(
        unbiased_hsic(kernel(x), kernel(x)) * unbiased_hsic(kernel(y), kernel(y))
    )
    np.testing.assert_allclose(of(cka, x + 100, y - 1000), want, rtol=2e-3)
    sides = (similarity.unbiased_centred(jnp.asarray(kernel(v), jnp.float32)) for v in (x, y))  # fmt: skip
    np.testing.assert_allclose(similarity.matrix_score(*sides), want, rtol=1e-3)


@pytest.mark.parametrize("d", [8, 100])
@pytest.mark.parametrize("unbiased", [True, False])
def test_cka_of_what_a_rotation_a_shift_and_a_scale_make_equal_is_one(d, unbiased):
    x = normal(50, d)
    got = of(cka, x, 7 * x @ rotation(d) + 3, unbiased=unbiased)
    assert got == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("d, e", [(6, 9), (80, 9)])
def test_cka_does_not_mind_which_view_comes_first(d, e):
    x, y = related(40, d, e)
    assert of(cka, x, y) == pytest.approx(of(cka, y, x), rel=1e-5)


def test_chance_of_cka_is_what_theory_says():
    """Independent views, 500 rows: the biased one near sqrt(d e / ((n + d)(n + e)))."""
    n, d, e = 500, 2000, 768
    x, y = normal(n, d), normal(n, e, seed=1)
    theory = math.sqrt(d * e / ((n + d) * (n + e)))
    assert theory == pytest.approx(0.696, abs=1e-3)
    assert of(cka, x, y, unbiased=False) == pytest.approx(theory, abs=4e-3)
    assert abs(of(cka, x, y)) < 0.006
    x, y = x[:, :400], y[:, :200]
    theory = math.sqrt(400 * 200 / (900 * 700))
    assert of(cka, x, y, unbiased=False) == pytest.approx(theory, abs=4e-3)
    assert abs(of(cka, x, y)) < 0.006


def test_permutations_of_unbiased_cka_have_mean_zero_and_of_biased_ones_do_not(key):
    x, y = (jnp.asarray(v) for v in related(60, 30, 40))

    @jax.jit
    def null():
        def statistic(order):
            b = similarity.reorder_features
            return jnp.stack(
                [similarity.cka_of_features(s, b(t, order)) for s, t in sides]
            )

        sides = [
            tuple(similarity.features(v, unbiased=u) for v in (x, y))
            for u in (True, False)
        ]
        return permutation.test(statistic, key, 60, permutations=200)

    got = null()
    assert abs(got.mean[0]) < 4 * got.std[0] / 200**0.5
    assert got.mean[1] > 0.3
    assert (got.pvalue < 0.01).all() and (got.excess > 0).all()


@pytest.mark.parametrize(
    "side, reorder",
    [
        (similarity.features, similarity.reorder_features),
        (lambda x: similarity.unbiased_centred(x @ x.T), similarity.reorder_matrix),
        (similarity.rsa_side, similarity.reorder_matrix),
    ],
    ids=["features", "kernel", "distances"],
)
def test_sides_reordered_are_sides_of_reordered_rows(side, reorder):
    order = jnp.asarray(np.random.default_rng(4).permutation(30))
    x = jnp.asarray(normal(30, 4))
    got = jax.jit(lambda x: reorder(side(x), order))(x)
    want = jax.jit(side)(x[order])
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


def test_cka_has_the_gradient_of_its_differences():
    x, y = (jnp.asarray(v) for v in related(20, 3, 4))
    way = jnp.asarray(normal(20, 3, seed=5))
    slope = jnp.vdot(jax.grad(cka)(x, y), way)
    step = 1e-2
    want = (cka(x + step * way, y) - cka(x - step * way, y)) / (2 * step)
    assert abs(want) > 1e-3
    np.testing.assert_allclose(slope, want, rtol=0.02)


def test_a_constant_view_has_no_cka():
    assert math.isnan(of(cka, np.ones((9, 3), np.float32), normal(9, 3)))


# CKNNA


def masked_cka(x, y, k):
    """platonic-rep's cknna, with its n x n masks."""
    x, y = (v / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True) for v in (x, y))  # fmt: skip
    kernels = (x @ x.T, y @ y.T)
    masks = []
    for s in kernels:
        s = s.copy()
        np.fill_diagonal(s, -np.inf)
        mask = np.zeros(s.shape)
        mask[np.arange(len(s))[:, None], np.argsort(-s, axis=1)[:, :k]] = 1
        masks.append(mask)

    def hsic(i, j):
        mask = masks[i] * masks[j]
        return unbiased_hsic(mask * kernels[i], mask * kernels[j])

    return hsic(0, 1) / math.sqrt(hsic(0, 0) * hsic(1, 1))


@pytest.mark.parametrize("k", [2, 10, 49])
def test_cknna_equals_the_formula_with_masks(k):
    x, y = related(50, 8, 6, noise=0.3)
    x, y = x - 5, y + 3
    np.testing.assert_allclose(of(cknna, x, y, k=k), masked_cka(x, y, k), rtol=1e-3)


def test_cknna_of_all_neighbours_is_unbiased_cka():
    x, y = related(40, 8, 6)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    got = of(cknna, x, y, k=39)
    np.testing.assert_allclose(got, of(cka, *unit), rtol=5e-3)


def test_cknna_of_a_rotation_is_one():
    x = normal(60, 8)
    assert of(cknna, x, 2 * x @ rotation(8)) == pytest.approx(1, abs=1e-5)


# RSA


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("ranks", [True, False])
def test_rsa_equals_scipys_correlation_of_distances(distance, ranks):
    x, y = related(40, 8, 6)
    a, b = (pdist(v.astype(np.float64), distance) for v in (x, y))
    correlate = scipy.stats.spearmanr if ranks else scipy.stats.pearsonr
    want = correlate(a, b).statistic
    got = of(rsa, x, y, distance=distance, ranks=ranks)
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_tied_distances_have_their_mean_rank():
    """Corners of a cube: of 28 distances only three differ."""
    x = np.array(list(itertools.product([0.0, 1], repeat=3)), np.float32)
    y = normal(8, 2)
    want = scipy.stats.spearmanr(pdist(x), pdist(y)).statistic
    np.testing.assert_allclose(of(rsa, x, y), want, atol=1e-5)


# All


@pytest.mark.parametrize("measure", [similarity.cka, similarity.rsa, local.cknna])
def test_work_under_vmap(measure):
    x = jnp.asarray(normal(2, 20, 4))
    y = x + jnp.asarray(normal(2, 20, 4, seed=1))
    together = jax.jit(jax.vmap(measure))(x, y)
    for i in range(2):
        alone = jax.jit(measure)(x[i], y[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "measure, rows, says",
    [
        (similarity.cka, 3, "CKA needs at least 4 rows; there are 3"),
        (similarity.rsa, 2, "RSA needs at least 3 rows; there are 2"),
        (local.cknna, 3, "CKNNA needs at least 4 rows; there are 3"),
    ],
)
def test_too_few_rows_are_named(measure, rows, says):
    with pytest.raises(UneError, match=says):
        measure(*[jnp.ones((rows, 2))] * 2)


def test_one_neighbour_is_too_few_for_cknna():
    with pytest.raises(UneError, match="k is 1; CKNNA needs 2 neighbours or more"):
        local.cknna(*[jnp.ones((9, 2))] * 2, k=1)
