"""What an edit does to a picture, and what is read of it."""

import threading

import numpy as np
import pytest
from tiny import NAMES, NOISE, Judge, make_studio, make_zoo, painted, seen

from une_jax.app.wish import Wish
from une_jax.errors import UneError


@pytest.fixture(scope="module")
def studio(opened):
    return make_studio(opened, judges=(Judge(),))[0]


@pytest.fixture(scope="module")
def picture(studio):
    return studio.pictures.row("sd", 1)


def wished(amounts=(("Round", 2.0),), **how):
    return Wish(view="sd", amounts=dict(amounts), **how)


def test_nothing_asked_gives_the_picture_back(studio, picture):
    for wish in (wished(()), wished([("Round", 0.0)])):
        edited = studio.edit(picture, wish)
        assert edited.after is picture.back
        for reading in (edited.noise, *edited.seen):
            np.testing.assert_array_equal(reading.before, reading.after)


def test_strength_counts_standard_deviations_along_the_direction(studio, picture):
    directions = studio._teacher("sd", "probe").directions
    round_ = directions.index("Round")
    step = 2 * directions.spread[round_] * directions.moves[round_]
    np.testing.assert_array_equal(
        studio.edit(picture, wished()).after, painted((NOISE[1] + step)[None])[0]
    )


def test_several_attributes_are_moved_at_once(studio, picture):
    both = studio.edit(picture, wished([("Round", 1.0), (NAMES[2], -2.0)]))
    directions = studio._teacher("sd", "probe").directions
    scale = directions.spread * np.array([1, 0, -2], np.float32)
    np.testing.assert_array_equal(
        both.after, painted((NOISE[1] + scale @ directions.moves)[None])[0]
    )


def test_a_margin_is_where_the_noise_reads_it(studio, picture):
    edited = studio.edit(picture, wished([("Striped", 3.5)], unit="margin"))
    noise = edited.noise
    assert noise.view == "sd"
    assert noise.after[1] == pytest.approx(3.5, abs=1e-3)


@pytest.mark.parametrize("method", ["probe", "means", "ridge"])
@pytest.mark.parametrize("unit", ["sd", "margin", "raw"])
def test_a_slider_at_rest_changes_nothing_in_any_unit(studio, picture, method, unit):
    wish = wished(unit=unit, method=method)
    space = studio.at(wish)
    rest = space.rest(picture, wish, "Round")
    assert (
        studio.edit(picture, wish.moved("Round", round(rest, 3))).after is picture.back
    )
    assert (rest == 0) == (unit != "margin")
    low, high = space.span(wish, "Round", 4.0)
    assert low < rest < high


@pytest.mark.parametrize("how", ["euclidean", "conditional"])
def test_what_is_kept_reads_the_same_and_the_price_is_told(studio, picture, how):
    plain = studio.edit(picture, wished())
    kept = studio.edit(picture, wished(keep=("Striped",), how=how))
    moved = abs(plain.noise.after - plain.noise.before)
    left = abs(kept.noise.after - kept.noise.before)
    assert moved[1] > 0.5 and left[1] < 1e-3 * moved[1] and left[0] > 0.1
    assert plain.left == {} and 0 < kept.left["Round"] < 1


def test_the_norm_can_be_held(studio, picture):
    wish = wished(control="sphere")
    moved = studio._directions(wish), np.array([9.0], np.float32)
    noise = studio.at(wish).noise(picture, wish, moved)
    assert np.linalg.norm(noise) == pytest.approx(np.linalg.norm(NOISE[1]), rel=1e-5)
    studio.edit(picture, wish)
    assert studio.pictures.coder("sd").edited[-1][1] == "sphere"


def test_a_judge_reads_the_picture_and_not_the_noise(studio, picture):
    edited = studio.edit(picture, wished())
    reading = edited.seen[-1]
    assert reading.view == "clip" and reading.names == NAMES
    meter = studio._meter("clip")
    np.testing.assert_allclose(
        reading.after, meter.read(seen(edited.after[None]))[0], rtol=1e-5
    )
    assert reading.after[0] > reading.before[0]


def test_a_strip_is_the_edits_along_one_slider(studio, picture):
    wish = wished([("Round", 2.0), (NAMES[2], 1.0)])
    at = (-1.0, 0.0, 3.0)
    strip = studio.strip(picture, wish, "Round", at)
    for pixels, amount in zip(strip, at, strict=True):
        alone = studio.edit(picture, wish.moved("Round", amount)).after
        np.testing.assert_array_equal(pixels, alone)


def test_a_strip_is_drawn_once_wherever_its_own_slider_stands(opened):
    studio, coder = make_studio(opened)
    picture = studio.pictures.row("sd", 0)
    wish = wished([("Round", 2.0), (NAMES[2], 1.0)])

    def drawn(wish, name="Round"):
        before = len(coder.edited)
        studio.strip(picture, wish, name, (-1.0, 1.0))
        return len(coder.edited) - before

    assert drawn(wish) == 1
    assert drawn(wish.moved("Round", -3.0)) == 0
    assert drawn(wish.moved(NAMES[2], -3.0)) == 1
    assert drawn(wish, NAMES[2]) == 1
    assert drawn(wished(wish.amounts.items(), control="sphere")) == 1
    assert drawn(wished(wish.amounts.items(), keep=("Striped",))) == 1


def test_sliders_reach_as_far_in_every_unit(studio):
    teacher = studio._teacher("sd", "probe")
    directions, m, space = teacher.directions, 1, studio.spaces["sd"]
    assert space.span(wished(), "Striped", 4.0) == (-4.0, 4.0)
    low, high = space.span(wished(unit="raw"), "Striped", 4.0)
    assert high == -low
    assert high * directions.length[m] == pytest.approx(4 * directions.spread[m])
    low, high = space.span(wished(unit="margin"), "Striped", 4.0)
    scores = directions.scores(teacher.train)[:, m]
    assert (low + high) / 2 == pytest.approx(scores.mean(), abs=1e-4)
    assert (high - low) / 8 == pytest.approx(scores.std(), rel=1e-4)


def test_what_an_edit_drags_along_is_known(studio):
    assert studio.spaces["sd"].entangled("Round")[0] == "Striped"


@pytest.mark.parametrize("wish", [
    wished([("Hat", 1.0)]),
    wished(keep=("Hat",)),
    Wish(view="clip", amounts={"Round": 1.0}),
])  # fmt: skip
def test_what_is_not_there_is_refused(studio, picture, wish):
    with pytest.raises(UneError):
        studio.edit(picture, wish)


def test_a_zoo_without_attributes_cannot_be_edited(tmp_path):
    with pytest.raises(UneError, match="no attributes to edit: build it with"):
        make_studio(make_zoo(tmp_path / "zoo", names=()))


def test_warm_does_once_all_that_an_edit_needs(opened):
    studio, coder = make_studio(opened, judges=(Judge(),))
    said = []
    studio.warm("sd", said.append)
    assert said == ["loading sd", "learning directions", "compiling"]
    assert coder.inverted == 1
    shapes = {amounts.shape[:2] for amounts, _, _ in coder.edited}
    assert {(1, 1), (1, 3)} <= shapes  # one picture, and a strip


def test_threads_take_turns(opened):
    studio, coder = make_studio(opened)
    inside, most, real = [0], [0], coder.edit

    def edit(*args, **how):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.01)
        inside[0] -= 1
        return real(*args, **how)

    coder.edit = edit
    threads = [
        threading.Thread(target=lambda i=i: studio.edit(studio.pictures.row("sd", i), wished()))
        for i in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(coder.edited) == 8


def test_the_command_says_all_that_is_not_as_usual(studio):
    def command(**how):
        wish = wished([("Round", 0.0), (NAMES[2], 2.0)], **how)
        return studio.at(wish).command(wish, "i.png")

    usual = f"--view sd --image i.png --attribute Round=0 '{NAMES[2]}=2' --strength 1"
    assert command() == f"une-jax edit --zoo {studio.zoo.path} {usual} --out edited"
    assert command(unit="margin", control="sphere").endswith(
        f"{usual} --norm sphere --unit margin --out edited"
    )
    assert f"{usual} --keep Striped --method means --how erasure --out" in command(
        keep=("Striped",), method="means", how="erasure"
    )
