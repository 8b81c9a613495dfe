"""Two ways of known curves, compared where they have changed the score alike."""

import math

import numpy as np
import pytest

from une_jax.miniature import factors
from une_jax.report import effect_figures, effect_tables, equal_change
from une_jax.report.effects import Measured, Walk

STEPS = np.array([-0.4, -0.2, 0.2, 0.4, 0.8], np.float32)
NAMES = factors.NAMES
A = len(NAMES)
SMILING, MALE, HAT = (NAMES.index(n) for n in ("Smiling", "Male", "Wearing_Hat"))
TRUTH = factors.MIXING @ factors.MIXING.T


def walk(attribute, way, keep=("Young",)):
    return Walk(
        attribute=attribute, way=way, keep=keep, move=np.ones(1, np.float32), spread=0.5
    )


def made(walks, change, **more):
    """Measured from (w, n, s, a) changes; who it is fades with the step."""
    change = np.asarray(change, np.float32)
    own = [NAMES.index(w.attribute) for w in walks]
    others = np.stack([np.delete(change[w], a, axis=-1) for w, a in enumerate(own)])
    parts = {
        "collateral": np.sqrt(np.square(others).mean(-1)),
        "identity": np.broadcast_to(1 - np.abs(STEPS) / 2, change.shape[:3]),
        "missed": np.broadcast_to(np.abs(STEPS) / 100, change.shape[:3]),
    } | more
    return Measured(
        walks=tuple(walks),
        steps=STEPS,
        length=2.0,
        judge="by hand",
        names=NAMES,
        change=change,
        **parts,
    )


def linear(gains, n=30, noise=0.0):
    """Every image's change is the gain times the step, and its own disturbance."""
    gains = np.asarray(gains, np.float32)
    rng = np.random.default_rng(0)
    each = 1 + noise * rng.standard_normal((1, n, 1, 1))
    return gains[:, None, None, :] * STEPS[:, None] * each


def along(attribute, per_step, others):
    """Gains of a walk: the attribute's own, and one for all the others."""
    gains = np.full(A, others)
    gains[attribute] = per_step
    return gains


WALKS = (walk("Smiling", "plain"), walk("Smiling", "conditional"), walk("Smiling", "random (control)"))  # fmt: skip
GAINS = (along(SMILING, 2.0, 0.5), along(SMILING, 1.6, 0.2), along(SMILING, 0.1, 0.5))


@pytest.fixture(scope="module")
def two_ways():
    return made(WALKS, linear(GAINS, noise=0.2))


def test_both_sides_of_a_step_are_one_point(two_ways):
    found = equal_change.curves(two_ways)
    np.testing.assert_allclose(found.sizes, [0, 0.2, 0.4, 0.8], rtol=1e-6)
    mean = 2.0 * found.sizes * two_ways.change[0, :, 4, SMILING].mean() / 1.6
    np.testing.assert_allclose(found.intended[0, 0], mean, rtol=1e-5)
    np.testing.assert_allclose(found.identity[0, 0], 1 - found.sizes / 2, rtol=1e-5)


def test_numbers_are_those_between_the_steps_where_the_change_is_reached():
    found = equal_change.at(equal_change.curves(made(WALKS, linear(GAINS))), 0.6)
    np.testing.assert_allclose(found.step[0], [0.3, 0.375, np.nan], rtol=1e-5)
    np.testing.assert_allclose(found.collateral[0, :2], [0.15, 0.075], rtol=1e-5)
    np.testing.assert_allclose(found.systematic[0, :2], [0.15, 0.075], rtol=1e-4)
    np.testing.assert_allclose(found.kept[0, :2], [0.15, 0.075], rtol=1e-5)
    np.testing.assert_allclose(found.identity[0, :2], [0.85, 0.8125], rtol=1e-5)
    assert np.isnan(found.collateral[0, 2]) and np.isnan(found.distance).all()


def test_between_two_steps_a_curve_is_straight_and_no_further():
    """Collateral grows with the square of the step; 0.6 is between 0.4 and 0.8."""
    change = linear(GAINS[:1])
    change[..., MALE] = 10 * STEPS**2
    rms = np.sqrt((18 * 0.25 * STEPS**2 + 100 * STEPS**4) / 19)[1::-1]  # 0.2 and 0.4
    found = equal_change.at(equal_change.curves(made(WALKS[:1], change)), 0.6)
    np.testing.assert_allclose(found.collateral[0, 0], rms.mean(), rtol=1e-4)


def test_means_are_over_those_that_both_have():
    values = np.array([[1.0, 3.0, np.nan, 8.0], [1.0, np.nan, 3.0, np.nan]])
    pair = equal_change.Pairs(here=[0, 2], plain=[1, 3])
    np.testing.assert_array_equal(
        equal_change.means(values, pair), [[1, np.nan], [3, np.nan]]
    )


def test_changes_that_cancel_over_images_are_collateral_but_not_systematic():
    change = linear(GAINS[:1])
    change[:, ::2, :, HAT] = 0.5 * STEPS
    change[:, 1::2, :, HAT] = -0.5 * STEPS
    found = equal_change.at(equal_change.curves(made(WALKS[:1], change)), 0.4)
    np.testing.assert_allclose(found.collateral[0, 0], 0.1, rtol=1e-5)
    np.testing.assert_allclose(
        found.systematic[0, 0], 0.1 * math.sqrt((A - 2) / (A - 1)), rtol=1e-4
    )


def test_a_score_that_turns_back_counts_where_it_first_was_there():
    change = linear(GAINS[:1])
    change[..., -1, SMILING] = 0.1  # 0.8 after 0.4
    found = equal_change.at(equal_change.curves(made(WALKS[:1], change)), 0.4)
    np.testing.assert_allclose(found.step, 0.2, rtol=1e-5)


def test_slopes_and_changes_per_change(two_ways):
    found = equal_change.curves(made(WALKS, linear(GAINS)))
    np.testing.assert_allclose(equal_change.slopes(found)[0], [2, 1.6, 0.1], rtol=1e-5)
    per = equal_change.per_change(found)[0]
    np.testing.assert_allclose(per[:, SMILING], 1, rtol=1e-5)
    np.testing.assert_allclose(per[:, MALE], [0.25, 0.125, 5], rtol=1e-4)


def test_intervals_are_of_images_drawn_anew(two_ways):
    once = equal_change.curves(two_ways)
    drawn = equal_change.curves(two_ways, replicates=300)
    assert drawn.intended.shape == (300, 3, 4)
    spread = drawn.intended[:, 0, 3].std()
    images = two_ways.change[0, :, 4, SMILING]
    np.testing.assert_allclose(spread, images.std() / math.sqrt(30), rtol=0.15)
    low, high = equal_change.interval(drawn.intended[:, 0, 3])
    assert low < once.intended[0, 0, 3] < high
    half = np.where(np.arange(10) < 5, 1.0, np.nan)
    assert np.isnan(equal_change.interval(half)).all()


def test_images_without_a_region_are_left_out_of_it():
    missed = np.full((1, 30, 5), 0.01, np.float32)
    missed[:, :10] = np.nan
    found = equal_change.curves(made(WALKS[:1], linear(GAINS[:1]), missed=missed))
    np.testing.assert_allclose(found.outside[0, 0], [0, 0.01, 0.01, 0.01], rtol=1e-5)


def test_ways_are_compared_on_the_attributes_that_get_there_in_both():
    """Male gets there plainly only: its collateral must not count against plain."""
    walks = (*WALKS, walk("Male", "plain"), walk("Male", "conditional"))
    gains = (*GAINS, along(MALE, 2.0, 1.9), along(MALE, 0.1, 0.1))
    c = effect_tables.compare(made(walks, linear(gains, noise=0.1)), 0.6, replicates=50)
    assert c.pairs["conditional"] == ([1], [0]) and c.pairs["plain"].here == [0, 3]
    rows = {row["way"]: row for row in effect_tables.by_way(c)}
    row = rows["conditional"]
    assert (row["walked"], row["compared"]) == (2, 1)
    assert row["collateral vs plain"] == pytest.approx(-0.5, abs=0.01)
    assert row["step vs plain"] == pytest.approx(0.25, abs=0.01)
    # Every image is disturbed alike in both: their ratio is sure.
    for end in ("low", "high"):
        assert row[f"collateral vs plain {end}"] == pytest.approx(-0.5, abs=0.01)
    assert rows["random (control)"]["compared"] == 0
    assert row["psnr outside"] == pytest.approx(-10 * math.log10(0.00375), abs=0.2)


def test_what_follows_the_planted_correlations_is_told_from_what_does_not():
    gains = 2.0 * (0.5 * TRUTH[SMILING])
    gains[SMILING] = 2.0
    astray = gains.copy()
    free = np.flatnonzero(np.abs(TRUTH[SMILING]) < 0.02)[:2]
    size = np.sqrt(np.square(np.delete(gains, SMILING)).sum())
    astray[free] += size / math.sqrt(2)
    walks = (WALKS[0], walk("Smiling", "conditional", keep=()))
    c = effect_tables.compare(made(walks, linear([gains, astray])), replicates=10)
    rows = effect_tables.by_attribute(c, TRUTH)
    assert rows[0]["planted share"] == pytest.approx(1, abs=1e-4)
    assert rows[0]["planted slope"] == pytest.approx(0.5, abs=1e-4)
    assert rows[1]["planted share"] == pytest.approx(0.5, abs=0.03)
    assert rows[0]["per step"] == pytest.approx(2, rel=1e-4)
    assert rows[0]["per sd"] == pytest.approx(2 * 0.5 / 2.0, rel=1e-4)
    assert rows[1]["keep"] == "" and np.isnan(c.numbers.kept[0, 1])


def test_the_matrix_has_a_row_an_edit_and_says_what_was_planted(two_ways):
    c = effect_tables.compare(two_ways, replicates=10)
    found = effect_tables.matrix(c, "conditional", ("Smiling", "Male"))
    np.testing.assert_allclose(found, [[1, 0.125]], rtol=1e-4)
    assert np.isnan(effect_tables.matrix(c, "erasure")).all()
    rows = effect_tables.matrix_rows(c, TRUTH)
    assert [r["way"] for r in rows] == ["plain", "conditional", "random (control)", "truth"]  # fmt: skip
    assert rows[-1]["Male"] == pytest.approx(TRUTH[SMILING, MALE], rel=1e-6)


def test_what_an_edit_that_moves_nothing_moves_besides_is_not_told():
    gains = (along(SMILING, 2.0, 0.5), along(SMILING, 0.3, 0.5))
    c = effect_tables.compare(made(WALKS[:2], linear(gains)), 1.0, replicates=5)
    assert np.isfinite(effect_tables.matrix(c, "plain")).all()
    assert np.isnan(effect_tables.matrix(c, "conditional")).all()  # 0.24 of 1
    kept = effect_tables.matrix_rows(c)[1]
    assert kept["way"] == "conditional" and np.isnan(float(kept["Male"] or 0))


def test_every_step_has_its_row_in_order(two_ways):
    rows = effect_tables.by_step(two_ways)
    assert len(rows) == 3 * len(STEPS)
    assert [r["step"] for r in rows[:5]] == sorted(float(s) for s in STEPS)
    assert rows[4]["sd"] == pytest.approx(0.8 * 2.0 / 0.5)
    assert rows[4]["psnr outside"] == pytest.approx(-10 * math.log10(0.008), abs=1e-3)


def test_the_verdict_is_made_of_the_numbers(two_ways):
    c = effect_tables.compare(two_ways, 0.6, replicates=100)
    first, kept, control = effect_tables.verdict(c)
    assert "At a change of 0.6 sd" in first and "1 of 1 attributes" in first
    assert "conditional (1 of 1)" in kept and "collateral -50 % [" in kept
    assert "no clear change" not in kept
    assert "random direction" in control
    nowhere = effect_tables.compare(two_ways, 50.0, replicates=10)
    assert (
        "No plain edit reaches a change of 50 sd" in effect_tables.verdict(nowhere)[0]
    )
    same = made(WALKS[:1] + (walk("Smiling", "erasure"),), linear([GAINS[0]] * 2))
    said = effect_tables.verdict(effect_tables.compare(same, 0.6, replicates=20))[1]
    assert "+0 % [+0, +0] (no clear change)" in said


def test_figures_are_drawn_of_what_there_is(two_ways):
    c = effect_tables.compare(two_ways, 0.6, replicates=20)
    for drawing in (
        effect_figures.costs(c),
        effect_figures.matrices(c, ["plain", "conditional"], TRUTH),
        effect_figures.by_attribute(c),
    ):
        assert drawing.png.startswith(b"\x89PNG") and b"<svg" in drawing.svg
    assert b"planted" in effect_figures.matrices(c, ["plain"], TRUTH).svg
    nowhere = effect_tables.compare(two_ways, 50.0, replicates=20)
    assert (
        b"1 more attributes do not get there"
        in effect_figures.by_attribute(nowhere).svg
    )
    assert b"do not get there" not in effect_figures.by_attribute(c).svg
