"""Directions on disk: what was saved comes back, and nothing else is taken for it."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from une_jax import directions, zoo
from une_jax.errors import UneError

VIEW = zoo.View(
    name="sd",
    kind="generator",
    model_id="some/sd",
    weights_sha256="1" * 64,
    config={"a": 1},
    shape=(1, 2, 3),
    dtype="float32",
    settings={"steps": 50, "eval_at": "source"},
)


def made(**changes):
    rng = np.random.default_rng(0)
    moves = rng.standard_normal((2, 6)).astype(np.float32)
    fields = {
        "names": ("Smiling", "Male"),
        "moves": moves,
        "spread": np.array([1.0, 2.0], np.float32),
        "length": np.array([0.1, 0.2], np.float32),
        "readers": moves * 3,
        "bias": np.array([0.5, np.nan], np.float32),
        "view": VIEW,
        "zoo": "2" * 64,
        "method": {"name": "probe", "l2": 1.0},
    }
    return directions.Directions(**fields | changes)


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "new" / "d.safetensors"
    directions.save(path, made())
    got = directions.load(path)
    for name in ("names", "view", "zoo", "method"):
        assert getattr(got, name) == getattr(made(), name)
    for name in ("moves", "spread", "length", "readers", "bias"):
        np.testing.assert_array_equal(getattr(got, name), getattr(made(), name))


def test_the_view_that_taught_them_is_accepted_under_any_name():
    made().require(dataclasses.replace(VIEW, name="mine", config={"b": 2}))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"weights_sha256": "3" * 64}, "weights_sha256 is '3333"),
        ({"shape": (1, 3, 2)}, "shape is"),
        (
            {"settings": {"steps": 20, "eval_at": "source"}},
            "settings.steps is 20, not 50",
        ),  # fmt: skip
        ({"settings": {"steps": 50}}, "settings.eval_at is None, not 'source'"),
        ({"settings": {**VIEW.settings, "prompt": None}}, "settings.prompt is None"),
    ],
)
def test_another_models_latents_are_refused_by_what_differs(change, says):
    with pytest.raises(UneError, match=says):
        made().require(dataclasses.replace(VIEW, **change))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"names": ("Male", "Male")}, "has one twice"),
        ({"names": ("Male",)}, "moves has shape"),
        ({"spread": np.array([np.nan, 1], np.float32)}, "spread holds NaN"),
        ({"zoo": "none"}, "zoo is 'none'"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, says):
    with pytest.raises(UneError, match=says):
        made(**change)


def test_other_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(UneError, match="there is no file"):
        directions.load(tmp_path / "none")
    text, other, cut = (tmp_path / n for n in ("text", "other", "cut"))
    text.write_text("hello")
    save_file({"moves": np.ones(2)}, other)
    directions.save(cut, made())
    cut.write_bytes(cut.read_bytes()[:-5])
    for path in (text, other, cut):
        with pytest.raises(UneError, match=f"{path.name}.*no file of directions"):
            directions.load(path)


def test_strengths_are_deviations_or_the_authors_alpha():
    found = made()
    assert found.amounts({"Male": 1.0}, (-1.0, 0.5)).tolist() == [[[0, -2], [0, 1]]]
    raw = found.amounts({"Male": 0.5, "Smiling": 1}, (-1.0,), "raw", np.zeros((3, 6)))
    np.testing.assert_allclose(raw, [[[-0.1, -0.1]]] * 3, rtol=1e-6)


def test_a_margin_is_the_score_to_end_at_from_wherever_a_row_is():
    found = made(bias=np.array([0.5, -1.0], np.float32))
    x = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    steps = found.amounts({"Smiling": 1.0}, (-2.0, 0.0, 3.0), "margin", x)
    assert steps.shape == (4, 3, 2) and not steps[..., 1].any()
    for row, at in zip(x, steps, strict=True):
        moved = row[None] + at @ found.moves
        np.testing.assert_allclose(found.scores(moved)[:, 0], [-2, 0, 3], atol=1e-4)


def test_several_margins_are_reached_together():
    found = made(bias=np.array([0.5, -1.0], np.float32))
    x = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)
    steps = found.amounts({"Smiling": 1.0, "Male": -2.0}, (3.0,), "margin", x)
    moved = x + steps[:, 0] @ found.moves
    np.testing.assert_allclose(found.scores(moved), [[3, -6]] * 4, atol=1e-3)


def test_a_margin_needs_a_start_and_a_move_that_changes_the_score():
    with pytest.raises(UneError, match="give the latents too"):
        made().amounts({"Smiling": 1.0}, (0.0,), "margin")
    with pytest.raises(UneError, match="Male: the score cannot be brought to a margin"):
        made().amounts(
            {"Male": 1.0}, (0.0,), "margin", np.ones((1, 6))
        )  # its bias is NaN
    readers = made().readers.copy()
    readers[0] = 0
    with pytest.raises(UneError, match="Smiling: the score"):
        made(readers=readers).amounts(
            {"Smiling": 1.0}, (0.0,), "margin", np.ones((1, 6))
        )


def test_an_unknown_direction_is_refused_with_the_closest_name():
    with pytest.raises(UneError, match="'Smilin'; did you mean Smiling"):
        made().amounts({"Smilin": 1.0})
