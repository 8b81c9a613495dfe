"""The report on shared spaces: sets of views, neighbourhoods, streamed fits."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from une_jax import gcca, zoo
from une_jax.report import neighbourhoods, shared, spaces, streaming
from une_jax.report.latents import flat
from une_jax.report.published import MINIATURE


def space(name, x, views=("a",)):
    return spaces.Space(name=name, views=views, train=x, test=x)


def test_the_papers_sets_where_their_models_are():
    assert list(spaces.sets(list(MINIATURE))) == ["X1", "X2", "X3", "X4", "X5"]
    assert spaces.sets(list(MINIATURE.values()))["X1"] == spaces.SETS["X1"]
    assert spaces.sets(["mini-sd15", "mine"]) == {"all": ("mini-sd15", "mine")}


@pytest.fixture(scope="module")
def two():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 5))
    b = a + rng.standard_normal((300, 5))
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]


def test_agreement_of_rankings_is_scipys_spearman(two):
    spearman, overlap, _ = neighbourhoods.agreement(two, 10)
    cosines = [x @ x.T for x in two]
    want, common = [], []
    for i in range(300):
        others = np.arange(300) != i
        want.append(spearmanr(*(c[i, others] for c in cosines)).statistic)
        near = [set(np.argsort(-c[i, others])[:10]) for c in cosines]
        common.append(len(near[0] & near[1]) / 10)
    np.testing.assert_allclose(spearman[0, 1], np.mean(want), atol=1e-5)
    np.testing.assert_allclose(overlap[0, 1], np.mean(common), atol=1e-6)
    np.testing.assert_allclose([spearman[1, 1], overlap[1, 1]], 1, atol=1e-5)


def test_chance_is_what_shuffled_rows_give(two):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        shuffled = rng.permutation(two[1])
        spearman, overlap, spread = neighbourhoods.agreement([two[0], shuffled], 10)
        found.append((spearman[0, 1], overlap[0, 1]))
    found = np.array(found)
    assert abs(found[:, 0].mean()) < 0.02
    assert abs(found[:, 1].mean() - 10 / 299) < 4 * spread / np.sqrt(60)
    assert 0.6 * spread < found[:, 1].std() < 1.6 * spread


def test_neighbourhoods_name_what_spaces_have_in_common(two):
    found = [
        space("X", two[0].astype(np.float32), ("a", "b")),
        space("Y", two[1].astype(np.float32), ("b", "c")),
    ]
    (row,) = neighbourhoods.table(found, k=5)
    assert (row["space"], row["other"], row["shared views"]) == ("X", "Y", 1)
    assert row["z"] > 10


@pytest.mark.parametrize("most, ks", [(512, (16, 32, 512)), (100, (16, 32)), (8, (8,))])
def test_ks_end_where_the_space_does(most, ks):
    assert tuple(shared._within((16, 32, 512), most)) == ks


@pytest.mark.parametrize("block", [7, 4096])
def test_a_streamed_fit_is_the_one_in_memory(built, block):
    """One pass over blocks of the zoo gives the codes of the fit on all its rows."""
    opened, views = zoo.open(built), ("tiny", "eyes")
    streamed = streaming.fit(opened, views, 3, components=6, block=block)
    prepared = spaces.prepare(opened, views, components=6)
    whole = spaces.share(prepared, views, 3, name="all")
    assert whole.fitted is not None
    np.testing.assert_allclose(
        streamed.eigenvalues, whole.fitted.eigenvalues, atol=2e-4
    )
    test = opened.split("test")
    rows = [jnp.asarray(flat(opened[view][test])) for view in views]
    codes = np.asarray(gcca.transform(streamed, rows)) * np.sqrt(19)
    want = whole.test
    sign = np.sign((codes * want).sum(axis=0))
    np.testing.assert_allclose(codes * sign, want, atol=0.01)
