import csv
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from une_jax import probes, zoo

VIEWS = ["tiny", "tiny.x0", "tiny.forward", "eyes"]
NUMBERS = ("accuracy", "balanced accuracy", "auc", "average precision")


@pytest.fixture(scope="module")
def probed(run, built, tmp_path_factory):
    """The probe command's JSON, and the CSV that it wrote beside."""
    file = tmp_path_factory.mktemp("probe") / "tables" / "probe.csv"
    figure = file.with_suffix(".png")
    ran = run(
        *("probe", built, "--json", "--csv", file, "--figure", figure),
        *("--replicates", 50),
    )
    assert ran.code == 0, ran.err
    return ran.json, file


def test_the_table_is_that_of_the_probes_called_by_hand(built, probed):
    opened, (result, _) = zoo.open(built), probed
    assert result["views"] == VIEWS
    assert (result["train_rows"], result["test_rows"]) == (19, 5)
    names = [row["attribute"] for row in result["table"]]
    assert names == [*opened.attribute_names, "mean"]
    train, test = opened.split("train"), opened.split("test")
    fit = jax.jit(probes.fit, static_argnames=("components", "max_iter"))
    for view, components in (("tiny", 500), ("eyes", 310)):
        x = opened[view][:].reshape(24, -1)
        y = opened.attributes
        probe = fit(x[train], y[train], components=components, l2=1.0)
        scores = probes.scores(probe, jnp.asarray(x[test]))
        metrics = probes.evaluate(scores, jnp.asarray(y[test]))
        for number in NUMBERS:
            wanted = np.asarray(getattr(metrics, number.replace(" ", "_")))
            column = [row[f"{view} {number}"] for row in result["table"]]
            got = np.array(column, float)  # None, where undefined, becomes NaN
            np.testing.assert_allclose(got[:-1], wanted, atol=1e-6)
            np.testing.assert_allclose(got[-1], np.nanmean(wanted), atol=1e-6)
        base = [row["base_rate"] for row in result["table"]][:-1]
        np.testing.assert_allclose(base, metrics.base_rate, atol=1e-6)


def test_an_attribute_of_one_class_has_no_auc(built, probed):
    opened, (result, _) = zoo.open(built), probed
    test = opened.attributes[opened.split("test")]
    one_class = test.all(0) | ~test.any(0)
    assert one_class.any() and not one_class.all()
    nothing = [row["tiny auc"] is None for row in result["table"][:-1]]
    assert nothing == one_class.tolist()


def test_csv_and_json_agree(probed):
    result, file = probed
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = [
        {k: "" if v is None else str(v) for k, v in row.items()}
        for row in result["table"]
    ]
    assert rows == wanted


def test_intervals_hold_the_value_and_are_as_wide_as_few_rows_make_them(probed):
    for row in probed[0]["table"]:
        for view in VIEWS:
            low, value, high = (
                row[f"{view} accuracy{end}"] for end in (" low", "", " high")
            )
            assert 0 <= low <= value <= high <= 1
            low, value, high = (
                row[f"{view} auc{end}"] for end in (" low", "", " high")
            )
            assert (value is None) == (low is None) == (high is None)
    mean = probed[0]["table"][-1]
    assert mean["tiny accuracy high"] - mean["tiny accuracy low"] > 0.02


def test_the_figure_is_a_png(probed):
    with Image.open(probed[1].with_suffix(".png"), formats=["PNG"]) as image:
        assert min(image.size) > 300


def test_other_methods_and_no_intervals(run, built):
    found = {}
    for method in ("logistic", "raw", "lda"):
        ran = run(
            *("probe", built, "--view", "eyes", "--method", method, "--json"),
            *("--replicates", 0),
        )
        assert ran.code == 0, ran.err
        table = ran.json["table"]
        assert "eyes auc low" not in table[0]
        found[method] = [row["eyes auc"] for row in table]
    assert found["logistic"] != found["raw"] != found["lda"]


def test_the_text_has_a_line_an_attribute_and_its_columns_line_up(run, built, probed):
    lines = run("probe", built, "--replicates", 50).out.splitlines()
    end = lines.index("", 4)
    lines, reading = lines[:end], lines[end + 1 :]
    for view, line in zip(VIEWS, reading, strict=False):
        assert re.match(rf"{view} +mean AUC 0\.\d+ \[0\.\d+, 0\.\d+\], balanced", line)
    assert lines[0].startswith("19 train rows, 5 test rows")
    names = [line.split()[0] for line in lines[4:]]
    assert names[-1] == "mean" and set(names[-2]) == {"-"}
    assert names[:-2] == [row["attribute"] for row in probed[0]["table"][:-1]]
    for view in VIEWS:  # a view's name ends where its AUC column ends
        end = lines[2].index(f" {view} ") if f" {view} " in lines[2] else len(lines[2])
        end = end + len(view) + 1 if f" {view} " in lines[2] else end
        assert lines[3][:end].endswith("AUC")
        assert all(line[:end][-5:].strip() for line in lines[4:])
    assert len({len(line) for line in lines[2:]}) == 1


def test_one_view_alone_with_fewer_components(run, built):
    ran = run("probe", built, "--view", "eyes", "--components", 2, "--json")
    assert ran.json["views"] == ["eyes"]
    assert 0 < ran.json["explained_variance"]["eyes"] < 0.999


def test_options_that_make_no_probe(run, built):
    for options, problem in (
        (("--view", "tinny"), "it has tiny"),
        (("--components", 0), "components is 0; use 1 or more"),
        (("--l2", -1), "l2 is -1.0; use 0 or more"),
        (("--replicates", -1), "replicates is -1; use 0 or more"),
        (("--split", "identity"), "has no column identity: build it with"),
        (("--method", "raw", "--components", 3), "leave components out"),
    ):
        ran = run("probe", built, *options)
        assert ran.code == 1 and ran.out == ""
        assert problem in ran.errors[0]


def test_zoos_without_attributes_or_with_too_few_rows(
    run, built, build_args, eyes, faces, tmp_path
):
    folder = faces / "img_align_celeba"
    args = ("build", "--images", folder, "--encoder", f"eyes={eyes}", "--batch-size", 8)
    assert run(*args, "--out", tmp_path / "blind").code == 0
    ran = run("probe", tmp_path / "blind")
    assert ran.code == 1
    assert "has no attributes to probe: build it with --attributes" in ran.errors[0]

    listed = ("--attributes", faces / "list_attr_celeba.txt", "--limit", 1)
    assert run(*args, *listed, "--out", tmp_path / "small").code == 0
    ran = run("probe", tmp_path / "small")
    assert ran.code == 1 and "0 train and 1 test rows: too few" in ran.errors[0]
