"""Edits in h: the same studio, another space."""

import shlex

import numpy as np
import pytest
from tiny import H_MOVES, H_NAMES, NAMES, NOISE, OUT, Judge, make_studio, painted

from une_jax.app.wish import Wish
from une_jax.errors import UneError

SPREAD = np.array([3.0, 5.0], np.float32)
FLAT = H_MOVES.reshape(2, 12)
UNIT = FLAT / np.linalg.norm(FLAT, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def both(opened):
    return make_studio(opened, judges=(Judge(),), inside=True)


@pytest.fixture(scope="module")
def studio(both):
    return both[0]


@pytest.fixture(scope="module")
def picture(studio):
    return studio.pictures.row("sd", 1)


def wished(amounts=(("Round", 2.0),), **how):
    return Wish(view="sd", space="h", amounts=dict(amounts), **how)


def along(move):
    """Row 1 with this much added to its h."""
    return painted((NOISE[1] + move @ OUT)[None])[0].astype(int)


def near(pixels, wanted):
    """Equal, but for the rounding of a level."""
    assert np.abs(pixels.astype(int) - wanted).max() <= 1


def test_a_zoo_has_as_many_spaces_as_can_be_edited(studio, opened):
    assert list(studio.spaces) == ["sd", "sd.h"]
    assert list(make_studio(opened)[0].spaces) == ["sd"]
    assert studio.spaces["sd.h"].names() == H_NAMES
    assert studio.spaces["sd"].names() == NAMES


def test_strength_counts_standard_deviations_or_whole_directions(studio, picture):
    near(studio.edit(picture, wished()).after, along(2 * SPREAD[0] * UNIT[0]))
    raw = studio.edit(picture, wished(unit="raw"))
    near(raw.after, along(2 * FLAT[0]))


def test_several_are_moved_at_once_by_one_program(both, picture):
    studio, coder = both
    amounts = [("Round", 1.0), (H_NAMES[1], -2.0)]
    edited = studio.edit(picture, wished(amounts))
    near(edited.after, along(np.array([1, -2]) * SPREAD @ UNIT))
    studio.edit(picture, wished())
    studio.strip(picture, wished(amounts), "Round", (-1.0, 0.0, 3.0))
    assert {moves.shape for moves, _, _ in coder.inside} == {(2, 2, 1, 2, 3)}


def test_nothing_moved_gives_the_picture_back(studio, picture):
    for wish in (wished(()), wished([("Round", 0.0)])):
        assert studio.edit(picture, wish).after is picture.back


def test_a_strip_is_the_edits_along_one_slider(studio, picture):
    wish = wished([("Round", 2.0), (H_NAMES[1], 1.0)])
    at = (-1.0, 0.0, 3.0)
    for pixels, amount in zip(
        studio.strip(picture, wish, "Round", at), at, strict=True
    ):
        near(
            pixels, studio.edit(picture, wish.moved("Round", amount)).after.astype(int)
        )


def test_the_noise_stays_and_the_judge_sees_the_picture_change(studio, picture):
    edited = studio.edit(picture, wished())
    assert edited.noise is None
    (seen,) = edited.seen
    assert seen.view == "clip" and np.abs(seen.after - seen.before).max() > 0.1


def test_what_is_kept_is_projected_out_and_the_price_is_told(studio, picture):
    edited = studio.edit(picture, wished(keep=(H_NAMES[1],)))
    cosine = UNIT[0] @ UNIT[1]
    near(edited.after, along(2 * SPREAD[0] * (UNIT[0] - cosine * UNIT[1])))
    assert edited.left["Round"] == pytest.approx(np.sqrt(1 - cosine**2), rel=1e-4)
    assert studio.edit(picture, wished()).left == {}


def test_sliders_reach_as_far_in_both_units(studio, picture):
    space = studio.spaces["sd.h"]
    assert space.span(wished(), "Round", 4.0) == (-4.0, 4.0)
    low, high = space.span(wished(unit="raw"), "Round", 4.0)
    assert high == -low
    assert high * np.linalg.norm(FLAT[0]) == pytest.approx(4 * SPREAD[0], rel=1e-5)
    assert space.rest(picture, wished(), "Round") == 0


@pytest.mark.parametrize("wish, says", [
    (wished([("Striped", 1.0)]), "Striped"),
    (wished(unit="margin"), "in the UNet's bottleneck .h. amounts count in sd, raw, not margin"),
    (wished(control="sphere"), "in the UNet's bottleneck .h. control is not sphere"),
    (wished(method="means"), "method is not means"),
    (Wish(view="clip", space="h", amounts={}), "there is no clip.h to edit in; there is sd, sd.h"),
])  # fmt: skip
def test_what_is_not_there_is_refused(studio, picture, wish, says):
    with pytest.raises(UneError, match=says):
        studio.edit(picture, wish)


def test_the_command_is_that_of_h_and_there_is_none_that_keeps(studio):
    space, wish = studio.spaces["sd.h"], wished([("Round", 2.0), (H_NAMES[1], -1.5)])
    said = "une-jax hspace edit --directions 'my h.safetensors' --image 'my cat.png' --attribute Round=2 'Tall <i>=-1.5' --strength 1 --out edited"  # fmt: skip
    assert space.command(wish, "my cat.png") == said
    raw = shlex.split(space.command(wished(unit="raw"), "i.png", "a cat"))
    assert raw[-6:] == ["--unit", "raw", "--prompt", "a cat", "--out", "edited"]
    assert space.command(wished(keep=(H_NAMES[1],)), "i.png") is None


def test_settings_name_the_space_and_only_what_means_something_there(studio):
    settings = studio.spaces["sd.h"].settings(wished(keep=(H_NAMES[1],)))
    assert settings == {
        "view": "sd",
        "space": "h",
        "amounts": {"Round": 2.0},
        "keep": [H_NAMES[1]],
        "unit": "sd",
        "directions": "my h.safetensors",
        "found by": {"name": "h means", "images": 9},
    }
    noise = studio.spaces["sd"].settings(Wish(view="sd", amounts={"Round": 2.0}))
    assert noise["space"] == "noise" and noise["method"] == "probe"


def test_warm_does_once_all_that_an_edit_in_either_needs(opened):
    studio, coder = make_studio(opened, inside=True)
    studio.warm("sd")
    shapes = {amounts.shape for _, amounts, _ in coder.inside}
    assert shapes == {(1, 1, 2), (1, 3, 2)}
    assert {(1, 1), (1, 3)} <= {amounts.shape[:2] for amounts, _, _ in coder.edited}
