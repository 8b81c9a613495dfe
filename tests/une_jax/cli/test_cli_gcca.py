"""``une-jax gcca``: its tables hold together, and bad options are named."""

import csv

import numpy as np
import pytest


@pytest.fixture(scope="module")
def shared(run, built, tmp_path_factory):
    """The command's JSON, its CSV and its figure."""
    folder = tmp_path_factory.mktemp("gcca")
    ran = run(
        "gcca", built, "--k", 4, 2, "--permutations", 9, "--json",
        "--csv", folder / "t.csv", "--figure", folder / "f.svg",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran.json, folder


def test_every_space_is_read_at_every_k(shared):
    result, _ = shared
    assert result["sets"] == {"all": ["tiny", "eyes"]}
    rows = [(row["space"], row["k"]) for row in result["table"]]
    spaces = ["all", "all unpaired (control)", "tiny PCA", "eyes PCA"]
    assert rows == [(space, k) for space in spaces for k in (2, 4)]
    for row in result["table"]:
        assert 0 <= row["AUC"] <= 1 and 0.5 <= row["base rate"] <= 1


def test_shared_dimensions_are_counted(shared):
    result, _ = shared
    (row,) = result["dimensions"]
    assert row["views"] == 2 and row["of k"] == 4
    assert 0 <= row["beyond chance"] <= 4
    # Two views of an eigen-decomposition: agreement lies between one view's and both's.
    assert 0.5 <= row["agreement 1"] <= 1 and row["residual"] < 1e-5


def test_neighbourhoods_of_all_pairs(shared):
    result, _ = shared
    rows = result["neighbourhoods"]
    assert len(rows) == 6
    for row in rows:
        assert -1 <= row["Spearman"] <= 1 and 0 <= row["overlap@10"] <= 1
        assert row["chance"] == 1  # five test rows


def test_csv_and_figure_are_written(shared):
    result, folder = shared
    with (folder / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    np.testing.assert_allclose(
        [float(row["AUC"]) for row in rows], [row["AUC"] for row in result["table"]]
    )
    assert (folder / "f.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    "options, says",
    [
        (("--view", "tiny"), "two views or more"),
        (("--k", 0), "k is 0; use 1 or more"),
        (("--rho", 0), "rho is 0.0; use more than 0"),
        (("--permutations", 0), "--permutations is 0"),
        (("--limit", 2), "--limit is 2; use 3 or more"),
        (("--components", 0), "--components is 0"),
        (("--figure", "f.jpg"), "--figure f.jpg: end its name in .png or .svg"),
        (("--view", "tiny", "iris"), "has no view 'iris'"),
    ],
)
def test_bad_options_are_named(run, built, options, says):
    ran = run("gcca", built, *options)
    assert ran.code == 1
    assert any(says in error for error in ran.errors), ran.err
