"""Metrics equal sklearn's; bootstrap replicates are metrics of rows drawn anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)

from une_jax import metrics, probes

evaluate = jax.jit(metrics.evaluate)
bootstrap = jax.jit(metrics.bootstrap, static_argnames="replicates")


def noisy(n=300, rates=(0.3, 0.5), seed=3):
    rng = np.random.default_rng(seed)
    y = rng.random((n, len(rates))) < list(rates)
    return (y + rng.standard_normal(y.shape) * 1.5 - 0.5).astype(np.float32), y


@pytest.mark.parametrize("rounding", [None, 1, 0])
def test_metrics_equal_sklearns(rounding):
    rng = np.random.default_rng(3)
    y = rng.random((3000, 4)) < [0.02, 0.3, 0.5, 0.9]
    scores = (y + rng.standard_normal(y.shape) * 1.5 - 0.5).astype(np.float32)
    if rounding is not None:
        scores = scores.round(rounding)  # many ties, and both zeros
    assert rounding is None or (np.signbit(scores) & (scores == 0)).any()
    found = evaluate(jnp.asarray(scores), jnp.asarray(y))
    for j in range(4):
        predicted = scores[:, j] > 0
        want = (
            (predicted == y[:, j]).mean(),
            balanced_accuracy_score(y[:, j], predicted),
            roc_auc_score(y[:, j], scores[:, j]),
            max(y[:, j].mean(), 1 - y[:, j].mean()),
            average_precision_score(y[:, j], scores[:, j]),
        )
        np.testing.assert_allclose([m[j] for m in found], want, rtol=2e-6)


def test_auc_at_the_edges():
    def auc(scores, y):
        return evaluate(jnp.array(scores)[:, None], jnp.array(y)[:, None]).auc[0]

    assert auc([-jnp.inf, -1.0, 1.0, jnp.inf], [0, 0, 1, 1]) == 1
    assert auc([-jnp.inf, -1.0, 1.0, jnp.inf], [1, 1, 0, 0]) == 0
    assert auc([2.0, 2.0, 2.0, 2.0], [0, 1, 0, 1]) == 0.5
    assert auc([-0.0, 0.0], [0, 1]) == 0.5
    assert jnp.isnan(auc([1.0, jnp.nan], [0, 1]))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc_but_an_accuracy(label):
    y = jnp.full((5, 1), label)
    found = evaluate(jnp.ones((5, 1)), y)
    for number in (found.auc, found.balanced_accuracy, found.average_precision):
        assert jnp.isnan(number[0])
    assert found.accuracy[0] == label and found.base_rate[0] == 1


def test_evaluate_under_vmap():
    rng = np.random.default_rng(4)
    scores = jnp.asarray(rng.standard_normal((3, 50, 2)), jnp.float32)
    y = jnp.asarray(rng.random((50, 2)) < 0.4)
    got = jax.vmap(evaluate, in_axes=(0, None))(scores, y)
    for i in range(3):
        want = evaluate(scores[i], y)
        np.testing.assert_allclose(got.auc[i], want.auc, rtol=1e-6)
        np.testing.assert_allclose(got.accuracy[i], want.accuracy, rtol=1e-6)


def test_probes_offers_them_too():
    assert probes.evaluate is metrics.evaluate


def test_a_replicate_is_the_metrics_of_the_drawn_rows():
    scores, y = noisy(60)
    scores = scores.round(1)  # ties
    got = bootstrap(
        jax.random.key(2), jnp.asarray(scores), jnp.asarray(y), replicates=5
    )
    for i, key in enumerate(jax.random.split(jax.random.key(2), 5)):
        rows = np.asarray(jax.random.randint(key, (60,), 0, 60))
        assert len(set(rows.tolist())) < 60
        want = evaluate(jnp.asarray(scores[rows]), jnp.asarray(y[rows]))
        for name in got._fields:
            np.testing.assert_allclose(
                getattr(got, name)[i], getattr(want, name), rtol=3e-6, err_msg=name
            )


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Accuracy of a classifier that is right 70 % of the time, 95 % of 200 data sets."""
    rng = np.random.default_rng(0)
    right = rng.random((200, 100, 1)) < 0.7
    y = jnp.asarray(rng.random((200, 100, 1)) < 0.5)
    scores = jnp.where(jnp.asarray(right) == y, 1.0, -1.0)
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(lambda k, s, y: bootstrap(k, s, y, replicates=200))(
        keys, scores, y
    )
    low, high = jnp.quantile(drawn.accuracy, jnp.array([0.025, 0.975]), axis=1)
    covered = ((low <= 0.7) & (high >= 0.7)).mean()
    assert 0.90 < covered < 0.99


def test_a_replicate_without_a_rare_class_is_unknown():
    scores = jnp.arange(6.0)[:, None]
    y = jnp.arange(6)[:, None] == 5
    drawn = bootstrap(jax.random.key(0), scores, y, replicates=50)
    unknown = jnp.isnan(drawn.auc)
    assert 0 < unknown.sum() < 50
    np.testing.assert_array_equal(unknown, jnp.isnan(drawn.average_precision))
    np.testing.assert_array_equal(drawn.auc[~unknown], 1)
