"""The script that writes the paper's tables: its files, and the paper's values beside."""

import pytest

from scripts import reproduce_paper
from une_jax.report import published

COLUMNS = ("mse", "cosine", "mean predictor cosine", "centred cosine", "r2")


@pytest.fixture(scope="module")
def results(run, built, faces, tmp_path_factory):
    """A part of the paper, of the zoo of 24 faces."""
    del run  # compiled programs are cached where it says
    out = tmp_path_factory.mktemp("results")
    args = reproduce_paper.Args(zoo=built, out=out, only=("table_2", "leakage"))
    reproduce_paper.main(args)
    return out


def test_every_table_has_its_csv_its_figure_and_its_place_on_the_page(results):
    page = (results / "results.md").read_text()
    for name, title in (("table_2", "## Table 2"), ("leakage", "## Control")):
        assert title in page
        for end in ("csv", "png"):
            assert f"{name}.{end}" in page
            assert (results / f"{name}.{end}").stat().st_size > 100
    assert "- `tiny`: generator, (4, 8, 8), 3 steps" in page
    assert "figure_3" not in page


def test_accuracies_stand_beside_those_read_off_figure_3():
    rows = [
        {"attribute": name, "base_rate": 0.5, "mini-sd15 accuracy": 0.7}
        for name in ("Male", "Smiling", "mean")
    ]
    shown = reproduce_paper._probes({"views": ["mini-sd15", "mini-sd15.x0"], "table": rows})  # fmt: skip
    assert [row["paper: sd15"] for row in shown] == [0.887, 0.857, (0.887 + 0.857) / 2]
    assert "mini-sd15.x0" not in shown[0]


def test_maps_stand_beside_table_2_where_it_is_known():
    rows = [
        {"source": source, "target": "mini-clip-p16", **dict.fromkeys(COLUMNS, 0.5)}
        for source in ("mini-lcm", "mini-sd15-of-mine", "mini-dinov3")
    ]
    kinds = dict.fromkeys(("mini-lcm", "mini-sd15-of-mine"), "generator")
    kinds |= dict.fromkeys(("mini-dinov3", "mini-clip-p16"), "encoder")
    shown = reproduce_paper._alignment({"table": rows}, kinds)
    assert [row["paper's cosine"] for row in shown] == [0.81, None]
    assert [row["source"] for row in shown] == ["mini-lcm", "mini-sd15-of-mine"]


def test_random_projections_stand_beside_table_1_and_other_directions_do_not():
    numbers = dict.fromkeys(
        [f"{t} {what}" for t in ("AD", "DP", "SW") for what in ("%", "ceiling %")]
        + ["AD % (scipy<1.17)", "AD ceiling % (scipy<1.17)"],
        95.0,
    )
    rows = [
        {"data": "mini-dinov3", "directions": directions, **numbers}
        for directions in ("random", "coordinates")
    ]
    shown = reproduce_paper._gaussianity({"table": rows})
    assert [row["paper's AD %"] for row in shown] == [84.48, None]


def test_the_paper_has_forty_attributes_in_five_models():
    assert {len(known) for known in published.PROBE_ACCURACY.values()} == {40}
    assert published.PROBE_ACCURACY["sd15"]["5_o_Clock_Shadow"].hidden
