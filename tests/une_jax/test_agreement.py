"""Agreement of answers equals sklearn's, and says so where there is nothing to tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from une_jax import agreement, metrics
from une_jax.errors import UneError

compare = jax.jit(agreement.compare)


def answers(n=80, a=4, same=0.7, seed=0):
    """Of different frequencies, in part the same."""
    rng = np.random.default_rng(seed)
    own = rng.random((n, a)) < np.linspace(0.2, 0.8, a)
    other = rng.random((n, a)) < 0.4
    mapped = np.where(rng.random((n, a)) < same, own, other)
    return jnp.asarray(own), jnp.asarray(mapped)


def test_match_chance_and_kappa_are_sklearns():
    own, mapped = answers()
    found = compare(own, mapped)
    for j in range(own.shape[1]):
        o, m = np.asarray(own[:, j]), np.asarray(mapped[:, j])
        np.testing.assert_allclose(found.match[j], np.mean(o == m), rtol=1e-6)
        expected = o.mean() * m.mean() + (1 - o.mean()) * (1 - m.mean())
        np.testing.assert_allclose(found.chance[j], expected, rtol=1e-6)
        np.testing.assert_allclose(found.kappa[j], cohen_kappa_score(o, m), rtol=1e-5)
    for name in ("match", "chance", "kappa"):
        alone = getattr(agreement, name)(own, mapped)
        np.testing.assert_allclose(alone, getattr(found, name), rtol=1e-6)


def test_match_is_within_0_and_1_and_reaches_both():
    own, mapped = answers()
    assert ((compare(own, mapped).match >= 0) & (compare(own, mapped).match <= 1)).all()
    np.testing.assert_array_equal(compare(own, own).match, 1)
    np.testing.assert_array_equal(compare(own, ~own).match, 0)
    np.testing.assert_allclose(compare(own, own).kappa, 1)


def test_answers_by_chance_have_kappa_0_whatever_they_match():
    own, _ = answers(20_000)
    mapped = own[jax.random.permutation(jax.random.key(0), len(own))]
    found = compare(own, mapped)
    np.testing.assert_allclose(found.kappa, 0, atol=0.02)
    assert found.match[0] > 0.65
    np.testing.assert_allclose(found.match, found.chance, atol=0.01)


def test_where_a_class_is_missing():
    own, mapped = answers(a=2)
    yes = jnp.ones_like(own)
    np.testing.assert_allclose(compare(own, yes).kappa, 0, atol=1e-6)
    assert jnp.isnan(compare(yes, mapped).kappa).all()
    assert jnp.isnan(compare(yes, yes).kappa).all()
    np.testing.assert_array_equal(compare(yes, yes).match, 1)
    np.testing.assert_array_equal(compare(own, mapped).constant, np.maximum(np.mean(own, 0), 1 - np.mean(own, 0)).astype("f4"))  # fmt: skip


def test_celebas_signs_are_answers_too():
    own, mapped = answers()
    signs = 2 * own.astype(jnp.int32) - 1
    np.testing.assert_array_equal(compare(signs, mapped).kappa, compare(own, mapped).kappa)  # fmt: skip


def test_the_bootstrap_draws_rows_as_that_of_the_metrics(key):
    own, mapped = answers()
    drawn = jax.jit(agreement.bootstrap, static_argnames="replicates")(key, own, mapped, replicates=300)  # fmt: skip
    scores = jnp.where(mapped, 1.0, -1.0)
    accuracy = metrics.bootstrap(key, scores, own, replicates=300).accuracy
    np.testing.assert_allclose(drawn.match, accuracy, rtol=1e-6)
    rows = jax.random.randint(jax.random.split(key, 300)[7], (len(own),), 0, len(own))
    alone = agreement.compare(own[rows], mapped[rows])
    np.testing.assert_allclose(drawn.kappa[7], alone.kappa, rtol=1e-4)
    low, high = np.nanquantile(drawn.kappa, [0.025, 0.975], axis=0)
    kappa = compare(own, mapped).kappa
    assert ((low < kappa) & (kappa < high)).all()


def test_under_vmap_each_pair_is_by_itself():
    pairs = [answers(seed=s) for s in range(3)]
    own, mapped = (jnp.stack(side) for side in zip(*pairs, strict=True))
    many = jax.vmap(agreement.compare)(own, mapped)
    changes = jax.vmap(agreement.accuracy_change)(own, mapped, own)
    for i, pair in enumerate(pairs):
        np.testing.assert_allclose(many.kappa[i], agreement.compare(*pair).kappa, rtol=1e-5)  # fmt: skip
        np.testing.assert_allclose(changes[i], agreement.accuracy_change(*pair, pair[0]), rtol=1e-5)  # fmt: skip


def test_accuracy_changes_by_its_formula_and_may_rise():
    y, own = answers(same=0.6)
    change = jax.jit(agreement.accuracy_change)
    mapped = answers(same=0.9)[1]
    before, after = (np.mean(np.asarray(v) == np.asarray(y), axis=0) for v in (own, mapped))  # fmt: skip
    np.testing.assert_allclose(change(own, mapped, y), (after - before) / before, rtol=1e-5, atol=1e-7)  # fmt: skip
    assert (change(own, y, y) > 0).all()
    assert jnp.isnan(change(~y, y, y)).all()


def test_says_what_it_needs():
    own, mapped = answers()
    with pytest.raises(UneError, match=r"answers are \(80, 4\) and \(79, 4\)"):
        agreement.compare(own, mapped[1:])
