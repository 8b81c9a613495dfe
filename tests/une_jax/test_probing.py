"""Which rows of a zoo are probed, and what is refused; the intervals of its table."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import small_zoo

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.report import latents, probing


@pytest.fixture
def opened(tmp_path):
    """Seven rows of status ok."""
    return zoo.open(small_zoo.build(tmp_path / "zoo"))


def with_identity(opened, people):
    rows = opened.rows.append_column("identity", pa.array(people, pa.int64()))
    opened.__dict__["rows"] = rows
    return opened


def test_nobody_is_on_both_sides(opened):
    people = np.array([5, 9, 5, 9, 2, 7, 2])
    with_identity(opened, people)
    for seed in range(4):
        train, test = probing.rows_of(opened, "identity", seed=seed)
        assert sorted([*train, *test]) == list(range(7))
        assert len(test) and not set(people[train]) & set(people[test])


def test_the_papers_split_is_the_zoos(opened):
    train, test = probing.rows_of(opened)
    np.testing.assert_array_equal(train, opened.split("train"))
    np.testing.assert_array_equal(test, opened.split("test"))


def test_identities_must_be_there_and_known(opened):
    with pytest.raises(UneError, match=r"no column identity: .*identity_CelebA\.txt"):
        probing.rows_of(opened, "identity")
    with_identity(opened, [5, None, 5, 9, 2, 7, None])
    with pytest.raises(UneError, match="identity is unknown for 2 images"):
        probing.rows_of(opened, "identity")


def test_one_person_is_no_split(opened):
    with_identity(opened, [3] * 7)
    with pytest.raises(UneError, match="train and . test rows: too few"):
        probing.rows_of(opened, "identity")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(opened, monkeypatch, value):
    flat = latents.flat

    def broken(of):
        x = flat(of)
        x[1, [3, 6]] = value
        return x

    monkeypatch.setattr(latents, "flat", broken)
    says = "'mini-clip' has values that are not finite, in 2 columns, first in column 3"
    with pytest.raises(UneError, match=says):
        probing.probe_view(opened, "mini-clip")


def test_an_interval_leaves_out_what_is_unknown():
    drawn = np.array([np.nan, *np.linspace(0, 1, 101)])
    np.testing.assert_allclose(probing.interval(drawn), (0.025, 0.975))
    np.testing.assert_allclose(probing.interval(drawn, 0.5), (0.25, 0.75))
    assert np.isnan(probing.interval(np.full(9, np.nan))).all()


def test_the_means_replicates_are_means_over_what_is_known():
    values = jnp.array([[0.5, 1.0], [jnp.nan, 0.8], [jnp.nan, jnp.nan]])
    np.testing.assert_allclose(probing._drawn(values, 2, 2), [0.75, 0.8, np.nan])
    np.testing.assert_allclose(probing._drawn(values, 1, 2), [1.0, 0.8, np.nan])


def test_all_methods_give_a_table(opened):
    for method in ("logistic", "raw", "lda"):
        probed = probing.probe_view(opened, "mini-clip", method=method)
        drawn = {"mini-clip": probing.draws(probed, replicates=20)}
        rows = probing.table(opened.attribute_names, [probed], drawn)
        assert [row["attribute"] for row in rows] == ["Male", "Smiling", "mean"]
        for row in rows:
            low, value, high = (
                row[f"mini-clip accuracy{end}"] for end in (" low", "", " high")
            )
            assert low <= value <= high
