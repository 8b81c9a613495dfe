import csv

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def compared(run, built, tmp_path_factory):
    """The command's JSON, and the folder with what it wrote beside."""
    out = tmp_path_factory.mktemp("similarity")
    files = ("--csv", out / "t" / "s.csv", "--figure", out / "f" / "s.png")
    options = ("--permutations", 40, "--neighbours", 4)
    ran = run("similarity", built, "--json", *options, *files)
    assert ran.code == 0, ran.err
    return ran.json, out


def test_json_and_csv_have_all_pairs(compared):
    result, out = compared
    assert result["views"] == ["tiny", "tiny.x0", "tiny.forward", "eyes"]
    assert (result["rows"], result["permutations"]) == (24, 40)
    single = [row for row in result["table"] if not row["selected"]]
    assert len(single) == 8 * 6
    assert all(1 / 41 - 1e-6 <= row["p"] <= 1 for row in single)
    with (out / "t" / "s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["score"]) for r in rows] == [r["score"] for r in result["table"]]
    with Image.open(out / "f" / "s.png") as figure:
        assert figure.width > 300


def test_text_says_how_to_read_it(run, built, tmp_path):
    file = tmp_path / "heat.png"
    options = ("--view", "tiny", "eyes", "--permutations", 20, "--rows", 20)
    drawn = ("--neighbours", 3, "--figure", file, "--heatmap", "mutual kNN")
    ran = run("similarity", built, *options, *drawn)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("20 rows, 20 permutations, 3 neighbours")
    assert "Excess is 0 at the 95 % quantile of chance" in ran.out
    with Image.open(file) as figure:
        assert figure.width > 200


@pytest.mark.parametrize(
    "options, says",
    [
        (("--view", "tiny"), "similarity is of two views or more; there is 1"),
        (("--neighbours", 30), "24 rows are too few for 30 neighbours"),
        (("--permutations", 0), "0 permutations; use 1 or more"),
        (("--heatmap", "kNN", "--figure", "x.png"), "no measure 'kNN'; there are CKA"),
    ],
)
def test_bad_options_are_told_in_one_line(run, built, options, says):
    ran = run("similarity", built, *options)
    assert ran.code == 1
    assert len(ran.errors) == 1 and says in ran.errors[0]
