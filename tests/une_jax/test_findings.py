"""What the report's summary says follows from the numbers, either way."""

import pytest

from une_jax import zoo
from une_jax.report.chapter import Chapter
from une_jax.report.sections import (
    alike,
    gaussianity,
    leakage,
    maps,
    probes,
    shared_space,
    summary,
)
from une_jax.report.subject import Subject


def gaussian_row(share, ceiling=95.0, tests=500):
    return {"data": "v", "SW %": share, "SW ceiling %": ceiling, "tests": tests}


@pytest.mark.parametrize(
    "share, begins", [(94.0, "Yes"), (96.0, "Yes"), (90.0, "Nearly"), (60.0, "No")]
)
def test_gaussian_is_what_is_not_told_from_the_ceiling(share, begins):
    finding = gaussianity.finding("?", [gaussian_row(share)])
    assert finding.verdict.startswith(begins)
    assert (finding.value, finding.beside) == (share, 95.0)


def test_fewer_tests_tell_less():
    few = gaussianity.finding("?", [gaussian_row(90.0, tests=20)])
    assert few.verdict.startswith("Yes")


@pytest.mark.parametrize(
    "auc, low, begins",
    [(0.9, 0.88, "Yes, well"), (0.7, 0.66, "Yes, in part"), (0.55, 0.53, "Yes, a little"), (0.55, 0.49, "No")],
)  # fmt: skip
def test_a_probe_reads_what_is_above_its_control(auc, low, begins):
    mean = {"v auc": auc, "v auc low": low, "v auc high": 1.0, "v.forward auc": 0.51}
    finding = probes.finding("?", "v", mean)
    assert finding.verdict.startswith(begins) and finding.beside == 0.51
    del mean["v.forward auc"]
    assert probes.finding("?", "v", mean).beside == 0.5


def test_leakage_is_what_fresh_noise_has_too():
    noise = {"view": "v", "auc": 0.8, "above low": 0.25}
    forward = {"view": "v", "auc": 0.52}
    assert leakage.beyond_leftover(noise, forward).verdict == (
        "Yes: inversion itself writes it there, 0.28 above the leftover (at least 0.25)."
    )
    unsure = leakage.beyond_leftover(noise | {"above low": -0.01}, forward)
    assert unsure.verdict.startswith("Not shown")


@pytest.mark.parametrize(
    "left, low, said",
    [(0.52, 0.49, "No: with that"), (0.56, 0.53, "A little: 20 %"), (0.74, 0.7, "Yes: 80 %")],
)  # fmt: skip
def test_beyond_linear_is_what_stays(left, low, said):
    noise, rest = {"view": "v", "auc": 0.8}, {"auc": left, "auc low": low}
    assert leakage.beyond_linear(noise, rest).verdict.startswith(said)


def test_a_map_is_held_against_shuffled_pairs():
    row = {"r2": 0.31, "shuffled pairs r2": -0.004, "top-1": 0.4, "chance top-1": 0.01}
    found = maps.finding("?", [row])
    assert found.verdict.startswith("In part: 31 %") and found.beside_shown == "0.00"
    nothing = row | {"r2": 0.0, "top-1": 0.01}
    assert maps.finding("?", [nothing]).verdict.startswith("No")
    # R² near 0 and images found all the same: a little.
    assert maps.finding("?", [row | {"r2": 0.01}]).verdict.startswith("A little")


def test_maps_need_no_attributes(built, monkeypatch):
    own = maps.write(Subject(zoo=zoo.open(built)), lambda fraction: None)
    assert "<span>accuracy</span>" in "".join(own.blocks)
    monkeypatch.setattr(zoo.Zoo, "attribute_names", ())
    bare = maps.write(Subject(zoo=zoo.open(built)), lambda fraction: None)
    assert bare.findings and "accuracy" not in "".join(bare.blocks)


def test_a_shared_space_is_counted_beyond_chance():
    row = {"beyond chance": 5, "of k": 64, "agreement 1": 0.9, "by chance": 0.5}
    assert shared_space.beyond_chance(row).verdict.startswith("Yes: 5 dimensions agree")
    one = shared_space.beyond_chance(row | {"beyond chance": 1}).verdict
    assert one.startswith("Yes: 1 dimension agrees")
    none = shared_space.beyond_chance(row | {"beyond chance": 0}).verdict
    assert none.startswith("No")


def test_attributes_in_a_shared_space_are_held_against_unpaired_views():
    rows = [
        {"space": space, "k": k, "AUC": auc}
        for space, auc in (("all", 0.8), ("all unpaired (control)", 0.6))
        for k in (8, 16, 32)
    ]
    found = shared_space.attributes_kept(rows)
    assert "16" in found.question and found.verdict.startswith("Yes: 0.20 above")
    rows[1]["AUC"] = 0.6
    assert shared_space.attributes_kept(rows).verdict.startswith("No")


def test_likeness_counts_the_pairs_beyond_chance():
    rows = [
        {"view": "n", "other": "e", "score": s, "chance": 0.1, "p, family": p}
        for s, p in ((0.3, 0.01), (0.12, 0.4))
    ]
    found = alike.finding(rows)
    assert found.verdict.startswith("In part: 1 of 2") and found.value == 0.3
    assert alike.finding(rows[:1]).verdict.startswith("Yes")
    assert alike.finding(rows[1:]).verdict.startswith("No")


def test_the_summary_is_in_order_and_links_to_its_sections():
    chapters = [Chapter(key="maps", title="M"), Chapter(key="gaussianity", title="G")]
    row = {"r2": 0.3, "shuffled pairs r2": 0.0, "top-1": 0.4, "chance top-1": 0.01}
    chapters[0].find(maps.finding("Does <it>?", [row]))
    chapters[1].find(gaussianity.finding("Is it?", [gaussian_row(95.0)]))
    made = summary.write(chapters)
    html = "".join(made.blocks)
    assert html.index('href="#maps"') < html.index('href="#gaussianity"')
    assert "Does &lt;it&gt;?" in html
    assert made.files["summary.csv"].startswith(b"section,question,found,what,beside")
    assert "no findings" in "".join(summary.write([]).blocks)
