import csv

import pytest
from PIL import Image

from une_jax.report import gaussian


@pytest.fixture(scope="module")
def tested(run, built, tmp_path_factory):
    """The command's JSON, and the folder with what it wrote beside."""
    out = tmp_path_factory.mktemp("gaussianity")
    files = ("--csv", out / "t" / "table.csv", "--figure", out / "f" / "dots.png")
    sizes = ("--projections", 40, "--rows", 12, "--view", "eyes")
    ran = run("gaussianity", built, "--json", *sizes, *files)
    assert ran.code == 0, ran.err
    return ran.json, out


def test_every_direction_and_control_is_told(tested):
    result, _ = tested
    assert result["views"] == ["eyes"]
    assert len(result["table"]) == gaussian.count(["eyes"])
    own = [row for row in result["table"] if row["data"] == "eyes"]
    assert [row["directions"] for row in own] == ["random", "coordinates", "principal"]
    assert all(0 <= row["AD %"] <= 100 for row in own)
    joint = [row["data"] for row in result["joint"]]
    assert joint == ["eyes", "exactly Gaussian", *gaussian.CONTROLS]
    assert result["critical_values"] == {"scipy": 0.698, "scipy<1.17": 0.679}


def test_it_writes_the_table_and_the_figure(tested):
    result, out = tested
    with (out / "t" / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["SW %"]) for r in rows] == [r["SW %"] for r in result["table"]]
    with Image.open(out / "f" / "dots.png") as figure:
        assert figure.width > 300


def test_text_says_how_to_read_it(run, built):
    sizes = ("--projections", 40, "--rows", 12, "--view", "eyes")
    ran = run("gaussianity", built, *sizes)
    assert ran.code == 0, ran.err
    assert "of 12 images a projection" in ran.out
    assert "necessary for a Gaussian, not sufficient" in ran.out


def test_too_few_images_are_a_line(run, built):
    ran = run("gaussianity", built)
    assert ran.code == 1
    assert "subsets of 250 need as many: use --rows 24 or fewer" in ran.errors[0]
