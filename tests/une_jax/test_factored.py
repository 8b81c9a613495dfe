"""Maps in factors are the maps of their weights; fitted ones are sklearn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from une_jax import factored, least_squares, maps
from une_jax.errors import UneError
from une_jax.normalise import centred

pytestmark = pytest.mark.usefixtures("quick_compiles")
# Compiled once a shape.
gram, solver = jax.jit(factored.gram), jax.jit(factored.solver)
without = jax.jit(factored.least_squares_solver)
ridge, predict = jax.jit(factored.ridge), jax.jit(factored.predict)
weight, carry = jax.jit(factored.weight), jax.jit(factored.carry)
PRIMAL, SQUARE, DUAL = (90, 12), (31, 30), (40, 70)
shapes = pytest.mark.parametrize("shape", [PRIMAL, SQUARE, DUAL])


def pairs(shape, e=5, noise=0.3, seed=0):
    """Rows off the origin, their spread falling, and noisy linear targets."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.5 + 5
    y = x @ rng.standard_normal((shape[1], e))
    y = y + noise * rng.standard_normal(y.shape) - 7
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def fitted(x, y, alpha):
    return ridge(solver(gram(x), alpha), y)


def near(got, wanted, tol):
    """Within a part of the largest: what float32 can hold of a sum."""
    np.testing.assert_allclose(got, wanted, atol=tol * np.abs(wanted).max(), rtol=0)


def same_map(m, peer, x, tol):
    near(weight(m), np.atleast_2d(peer.coef_).T, tol)
    new = x[::-1] * 1.5 + 1
    wanted = peer.predict(np.asarray(new, np.float64))
    near(predict(m, new), wanted.reshape(len(x), -1), tol)


@shapes
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 300.0])
def test_ridge_is_sklearns(shape, alpha):
    x, y = pairs(shape)
    peer = Ridge(alpha).fit(np.asarray(x, np.float64), np.asarray(y, np.float64))
    same_map(fitted(x, y, alpha), peer, x, 2e-5)
    if alpha == 300:  # well conditioned: float32's own precision
        same_map(fitted(x, y, alpha), peer, x, 2e-6)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_least_squares_is_sklearns_also_where_columns_repeat(shape):
    x, y = pairs(shape)
    for columns in (x, jnp.concatenate([x, x[:, :4]], axis=1)):
        peer = LinearRegression().fit(np.asarray(columns, np.float64), y)
        same_map(ridge(without(gram(columns)), y), peer, columns, 1e-4)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
@pytest.mark.parametrize("alpha", [1e-2, 30.0])
def test_primal_and_dual_are_one_map(shape, alpha):
    """The form is the rows' choice: here both are made of the same rows by hand."""
    x, y = pairs(shape)
    a, mean = centred(x)
    off = least_squares.off_constant(a)
    primal = factored.Gram(mean, a, None)
    dual = factored.Gram(mean, off, least_squares.lower_gram(off))
    maps_ = [ridge(solver(of, alpha), y) for of in (primal, dual)]
    assert maps_[0].dual is None and maps_[1].dual is not None
    new = x[:7] * 2 - 3
    near(predict(maps_[1], new), predict(maps_[0], new), 3e-5)
    near(weight(maps_[1]), weight(maps_[0]), 1e-4)


def test_recovers_a_planted_weight_and_bias():
    rng = np.random.default_rng(0)
    for n, d in ((200, 12), (40, 60)):
        planted, bias = rng.standard_normal((d, 3)), np.array([100.0, -3.0, 0.0])
        x = rng.standard_normal((n, d)) + 2
        if d > n:  # what the rows span
            planted = np.linalg.pinv(x - x.mean(0)) @ (x - x.mean(0)) @ planted
        x, y = jnp.asarray(x, jnp.float32), jnp.asarray(x @ planted + bias, jnp.float32)
        found = factored.linear(ridge(without(gram(x)), y))
        near(found.weight, planted, 1e-4)
        np.testing.assert_allclose(found.bias, bias, atol=2e-3)


@shapes
def test_an_endless_penalty_says_the_mean(shape):
    x, y = pairs(shape)
    m = fitted(x, y, 1e12)
    near(predict(m, 2 * x), jnp.broadcast_to(y.mean(axis=0), y.shape), 1e-5)
    assert jnp.abs(weight(m)).max() < 1e-8


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_ill_conditioned_rows_are_refined(shape):
    """Spreads from 1 to 1/1,000: in the Gram matrix a million, near float32's end."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(shape).astype(np.float32)
    x = jnp.asarray(z * np.logspace(0, -3, shape[1], dtype=np.float32))
    y = jnp.asarray(z.sum(axis=1, keepdims=True))
    peer = Ridge(1e-5, solver="svd").fit(np.asarray(x, np.float64), y)
    wanted = peer.predict(np.asarray(x, np.float64)).reshape(y.shape)
    m = fitted(x, y, 1e-5)

    def off(m):
        return np.abs(np.asarray(predict(m, x)) - wanted).max() / wanted.std()

    # The rounding of the products with the rows is left, which differs by processor.
    assert off(m) < 2e-3
    if m.dual is not None:
        unrefined = m._replace(dual=m.dual._replace(steps=jnp.int32(0)))
        assert off(unrefined) > 2 * off(m)
    if shape == DUAL:
        assert solver(gram(x), 1e-5).dual.steps >= 2
        assert solver(gram(x), 1e3).dual.steps == 0


def test_rows_all_alike_map_to_the_mean():
    _, y = pairs(PRIMAL)
    for d in (12, 200):
        x = jnp.full((len(y), d), 3.0)
        for m in (fitted(x, y, 0.0), fitted(x, y, 1.0), ridge(without(gram(x)), y)):
            near(predict(m, x), jnp.broadcast_to(y.mean(axis=0), y.shape), 1e-5)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_a_map_on_a_path_is_the_path_at_that_penalty(shape):
    x, y = pairs(shape)
    path = maps.ridge_path(x, y, jnp.array([1.0, 10.0]))
    m = jax.jit(factored.on_path)(path, 10.0)
    near(predict(m, 2 * x), maps.predict(path, jnp.float32(10), 2 * x), 1e-5)
    assert m.alpha == 10


@shapes
def test_what_is_carried_is_the_product_with_the_weight(shape):
    x, y = pairs(shape)
    m = fitted(x, y, 1.0)
    steps = jax.random.normal(jax.random.key(0), (2, 3, shape[1]))
    w = weight(m)
    near(carry(steps, m), jnp.einsum("abd,de->abe", steps, w), 1e-5)
    assert carry(steps[0, 0], m).shape == (5,)
    # A step is what it changes in what is predicted.
    changed = predict(m, x[:3] + steps[0]) - predict(m, x[:3])
    near(carry(steps[0], m), changed, 1e-4)


@pytest.mark.parametrize("first, second", [(PRIMAL, DUAL), (DUAL, PRIMAL), (DUAL, DUAL)])  # fmt: skip
def test_composed_maps_are_one_after_the_other(first, second):
    x, y = pairs(first, e=second[1])
    a = fitted(x, y, 1.0)
    b = fitted(*pairs(second, seed=1), 1.0)
    both = jax.jit(factored.compose)(a, b)
    near(predict(both, 2 * x), predict(b, predict(a, 2 * x)), 1e-5)
    near(weight(both), weight(a) @ weight(b), 1e-5)


@pytest.mark.parametrize("shape, e", [(PRIMAL, 5), (DUAL, 5), (DUAL, 60), ((20, 70), 60)])  # fmt: skip
def test_singular_values_are_those_of_the_weight(shape, e):
    m = fitted(*pairs(shape, e=e), 1.0)
    wanted = np.linalg.svd(np.asarray(weight(m), np.float64), compute_uv=False)
    got = jax.jit(factored.singular_values)(m)
    rank = min(*shape, e, shape[0] - 1)
    near(got[:rank], wanted[:rank], 1e-5)
    np.testing.assert_allclose(got[rank:], 0, atol=1e-5 * wanted[0])
    count = jax.jit(factored.map_rank, static_argnames="part")
    for part in (0.5, 0.9, 1.0):
        expected = 1 + int(np.argmax(np.cumsum(wanted) >= part * (1 - 1e-6) * wanted.sum()))  # fmt: skip
        assert abs(int(count(m, part=part)) - expected) <= (part == 1)


def test_the_rank_is_a_count_not_an_index():
    x = jnp.linalg.qr(centred(pairs((200, 6))[0])[0])[0]
    for r in (1, 3, 6):
        m = ridge(without(gram(x)), jnp.where((jnp.arange(6) < r)[None], x, 0.0))
        assert factored.map_rank(m, part=0.999) == r


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_under_vmap_each_penalty_and_target_is_by_itself(shape):
    x, y = pairs(shape)
    alphas, targets = jnp.array([0.1, 10.0]), jnp.stack([y, 2 * y[::-1]])
    of = gram(x)

    def both(alpha, targets):
        return factored.predict(factored.ridge(factored.solver(of, alpha), targets), x)

    many = jax.vmap(both)(alphas, targets)
    for i in range(2):
        near(many[i], predict(fitted(x, targets[i], alphas[i]), x), 1e-5)
    m = fitted(x, y, 1.0)
    new = jnp.stack([x[:4], 3 * x[4:8]])
    for f in (factored.predict, lambda m, x: factored.carry(x, m)):
        near(jax.vmap(f, in_axes=(None, 0))(m, new)[1], f(m, new[1]), 1e-5)


@pytest.mark.parametrize("shape", [PRIMAL, DUAL])
def test_the_slope_of_the_held_out_error_in_log_alpha(shape):
    x, y = pairs(shape, noise=1)

    def error(log_alpha):
        of = factored.gram(x[10:])
        m = factored.ridge(factored.solver(of, jnp.exp(log_alpha)), y[10:])
        return jnp.sum((factored.predict(m, x[:10]) - y[:10]) ** 2)

    def refitted(log_alpha):
        a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
        peer = Ridge(np.exp(log_alpha)).fit(a[10:], b[10:])
        return np.square(peer.predict(a[:10]) - b[:10]).sum()

    slope = (refitted(1.001) - refitted(0.999)) / 0.002
    np.testing.assert_allclose(jax.grad(error)(1.0), slope, rtol=1e-2)


def test_says_what_it_needs():
    x, y = pairs(PRIMAL)
    with pytest.raises(UneError, match="at least 2 rows; there are 1"):
        factored.gram(x[:1])
    for columns in (x, jnp.tile(x, (1, 9))):
        with pytest.raises(UneError, match="x has 90 rows, y has 89: give pairs"):
            factored.ridge(solver(gram(columns), 1.0), y[1:])
    with pytest.raises(UneError, match="part is 0"):
        factored.map_rank(fitted(x, y, 1.0), part=0.0)


@pytest.mark.parametrize("k", [5, 16, 40])
def test_a_gram_matrix_in_strips_and_its_factor(k):
    a = jax.random.normal(jax.random.key(0), (k, 50))
    lower = least_squares.lower_gram(a, strip=16)
    wanted = np.asarray(a, np.float64) @ np.asarray(a, np.float64).T
    near(lower, np.tril(wanted), 1e-6)
    root = least_squares.cholesky(lower, jnp.float32(2))
    near(root, np.linalg.cholesky(wanted + 2 * np.eye(k)), 2e-5)
    filled = lower + jnp.triu(jnp.ones((k, k)), 1)  # above it, nothing is read
    near(least_squares.cholesky(filled, jnp.float32(2)), root, 2e-5)
