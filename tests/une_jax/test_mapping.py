import numpy as np
import pytest

from une_jax import zoo
from une_jax.report import mapping


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_planted_map_is_found_and_noise_is_not(rng):
    x = rng.standard_normal((300, 10))
    y = x @ rng.standard_normal((10, 4)) + 3 + 0.1 * rng.standard_normal((300, 4))
    predict = mapping.predictor(x[:200], x[200:])
    assert mapping.r2(predict(y[:200]), y[200:]).min() > 0.99
    unrelated = rng.standard_normal((300, 4))
    assert mapping.r2(predict(unrelated[:200]), unrelated[200:]).max() < 0.05


@pytest.mark.parametrize("d", (3, 40))  # fewer dimensions than rows, and more
@pytest.mark.parametrize("noise", (0.01, 3.0))
def test_it_is_ridge_with_the_penalty_that_leaving_rows_out_prefers(rng, d, noise):
    n = 20
    x, x_new = rng.standard_normal((n, d)) + 5, rng.standard_normal((7, d)) + 5
    y = x @ rng.standard_normal((d, 2)) + noise * rng.standard_normal((n, 2))

    def ridge(x, y, alpha, x_new):
        centred = x - x.mean(0)
        w = np.linalg.solve(
            centred.T @ centred + alpha * np.eye(d), centred.T @ (y - y.mean(0))
        )
        return (x_new - x.mean(0)) @ w + y.mean(0)

    def left_out(alpha):
        rest = [np.delete(np.arange(n), i) for i in range(n)]
        guesses = [ridge(x[r], y[r], alpha, x[i]) for i, r in enumerate(rest)]
        return np.square(guesses - y).sum()

    scale = np.square(x - x.mean(0)).sum() / n
    alpha = min((scale * c for c in mapping.ALPHAS), key=left_out)
    wanted = ridge(x, y, alpha, x_new)
    np.testing.assert_allclose(mapping.predictor(x, x_new)(y), wanted, rtol=1e-6)


def test_r2_is_one_for_the_truth_zero_for_the_mean_and_unknown_for_a_constant(rng):
    y = rng.standard_normal((50, 3))
    y[:, 2] = 1
    np.testing.assert_allclose(mapping.r2(y, y)[:2], 1)
    np.testing.assert_allclose(mapping.r2(y * 0 + y.mean(0), y)[:2], 0, atol=1e-12)
    assert np.isnan(mapping.r2(y, y)[2])


def test_the_table_holds_each_pair_of_views(built):
    opened = zoo.open(built)
    views = list(opened.views[:3])
    found = mapping.table(opened, views)
    assert found.shape == (3, 3) and np.isnan(np.diag(found)).all()
    train, test = opened.split("train"), opened.split("test")

    def rows(view, part):
        return np.asarray(opened[view][part], np.float32).reshape(len(part), -1)

    predict = mapping.predictor(rows(views[0], train), rows(views[0], test))
    y, y_test = rows(views[2], train), rows(views[2], test)
    wanted = np.nanmean(mapping.r2(predict(y), y_test))
    assert found[0, 2] == pytest.approx(wanted, abs=1e-9)
