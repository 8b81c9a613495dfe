"""The report of similarities: its nulls are those of the measures called by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import cca, cknna, neighbours, permutation, shape, similarity
from une_jax.errors import UneError
from une_jax.report import similarities

pytestmark = pytest.mark.usefixtures("quick_compiles")


KINDS = {"a": "noise", "a.x0": "x0", "b": "encoder", "c": "encoder"}


def views():
    """b sees much of a, c nothing."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 16))
    y = x[:, :6] + 0.2 * rng.standard_normal((60, 6))
    z = rng.standard_normal((60, 9))
    return {k: v.astype(np.float32) for k, v in {"a": x, "b": y, "c": z}.items()}


@pytest.fixture(scope="module")
def found():
    return list(similarities.pairs(views(), permutations=60, k=5))


@pytest.fixture(scope="module")
def rows(found):
    return similarities.table(found, KINDS)


def test_every_two_views_by_every_measure(found, rows):
    names = list(similarities.measures(60, 16, 5))
    assert len(found) == similarities.count(3) == len(names) * 3 == 24
    single = [r for r in rows if not r["selected"]]
    assert [(r["measure"], r["view"], r["other"]) for r in single] == [
        (name, *pair) for name in names for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]


def test_scores_are_those_of_the_measures(found):
    x, y = (jnp.asarray(views()[v]) for v in "ab")
    want = {
        "CKA (unbiased)": similarity.cka,
        "mutual kNN": lambda x, y: neighbours.mutual_knn(x, y, 5),
        "CKNNA": lambda x, y: cknna.cknna(x, y, 5),
        "RSA (Spearman)": similarity.rsa,
        "SVCCA": cca.svcca,
        "PWCCA": lambda x, y: (
            (cca.pwcca(x, y, variance=1.0) + cca.pwcca(y, x, variance=1.0)) / 2
        ),
        "CCA (ridge)": lambda x, y: jnp.mean(
            cca.canonical(x, y, ridge=similarities.RIDGE) ** 2
        ),
        "Procrustes": lambda x, y: jnp.cos(shape.angular(x, y)),
    }
    got = {p.measure: p.observed for p in found if (p.view, p.other) == ("a", "b")}
    assert got.keys() == want.keys()
    for name, measure in want.items():
        value = jax.jit(measure)(x, y)
        np.testing.assert_allclose(got[name], value, rtol=2e-3, err_msg=name)


def test_what_is_shared_is_beyond_chance_and_what_is_not_is_not(rows):
    for row in rows:
        if not row["selected"]:
            there = (row["view"], row["other"]) == ("a", "b")
            assert (row["p"] <= 0.05) == (row["excess"] > 0), row
            assert (row["p"] == pytest.approx(1 / 61)) >= there, row
            assert (row["p, family"] > 0.05) or there, row
            assert row["p, family"] >= row["p"] - 1e-6


def test_the_best_pair_has_the_null_of_the_best(found, rows):
    best = [r for r in rows if r["selected"]]
    assert {r["kind"] for r in best} == {"noise - encoder"}
    assert len(best) == 8
    for row in best:
        group = [p for p in found if p.measure == row["measure"] and p.view == "a"]
        top = max(group, key=lambda p: p.observed)
        assert (row["view"], row["other"]) == (top.view, top.other)
        assert row["selected"] == "best of 2"
        chance = np.maximum(*(p.samples for p in group)).mean()
        np.testing.assert_allclose(row["chance"], chance, rtol=1e-4)
        assert chance > max(p.samples.mean() for p in group)


def test_all_pairs_are_permuted_together(key):
    """Each view in an order of its own: b with c is then as a with b and a with c say."""
    a, b, c = (np.asarray(o)[None] for o in permutation.orders(key, 9, 3))
    ab, ac = similarities._between(a, b)[0], similarities._between(a, c)[0]
    bc = similarities._between(b, c)[0]
    np.testing.assert_array_equal(bc[ab], ac)
    np.testing.assert_array_equal(similarities._between(a, a)[0], np.arange(9))


def test_with_more_dimensions_than_rows_cka_is_by_kernels():
    x, y = (jax.random.normal(jax.random.key(i), (20, 30)) for i in (0, 1))
    measure = similarities.measures(20, 30, 5)["CKA (unbiased)"]
    got = measure.score(measure.side(x), measure.side(y))
    np.testing.assert_allclose(got, similarity.cka(x, y), rtol=1e-4, atol=1e-6)


def test_ridge_cca_of_a_view_with_itself_has_excess_one():
    x = jnp.asarray(views()["b"])
    measure = similarities.measures(60, 16, 5)["CCA (ridge)"]
    side = measure.side(x)
    best, score = measure.best(side, side), measure.score(side, side)
    assert best < 0.99
    np.testing.assert_allclose(score, best, rtol=1e-4)


def test_kinds_name_what_is_compared():
    def kind(view, other):
        pair = similarities.Pair("m", view, other, 1, 0.0, 1.0, np.zeros(1))
        return similarities.kind_of(pair, KINDS)

    assert kind("a", "b") == kind("b", "a") == "noise - encoder"
    assert kind("a.x0", "b") == "x0 - encoder"
    assert kind("b", "c") == "encoder - encoder"
    assert kind("a", "a.x0") == kind("a.x0", "a") == "noise - x0"


def test_wide_has_a_line_a_pair_and_figures_are_drawn(rows):
    wide = similarities.wide(rows, "score")
    assert [(r["view"], r["other"]) for r in wide] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert len(wide[0]) == 2 + 8
    for drawing in (
        similarities.figure(rows),
        similarities.heatmap(rows, "mutual kNN"),
    ):
        assert drawing.png.startswith(b"\x89PNG")
    with pytest.raises(UneError, match="no measure 'kNN'; there are CKA"):
        similarities.heatmap(rows, "kNN")


@pytest.mark.parametrize(
    "change, names, settings, says",
    [
        (
            np.nan,
            "abc",
            {},
            "'b' has values that are not finite, in 1 columns, first in column 3",
        ),
        (None, "a", {}, "two views or more; there is 1"),
        (None, "ab", {"k": 60}, "60 rows are too few for 60 neighbours: use 61"),
        (None, "ab", {"k": 1}, "k is 1; use 2 neighbours or more"),
        (0.0, "ab", {}, "'b' is the same in all rows"),
    ],
)
def test_bad_input_is_named(change, names, settings, says):
    latents = {name: views()[name] for name in names}
    if change == 0:
        latents["b"] = np.full((60, 6), 2, np.float32)
    elif change is not None:
        latents["b"][7, 3] = change
    with pytest.raises(UneError, match=says):
        list(similarities.pairs(latents, **settings))
