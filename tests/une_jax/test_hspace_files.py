"""Directions of h go through the files of directions, and fit only where they belong."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import directions, hspace_files, zoo
from une_jax.errors import UneError

NOISE = zoo.View(
    name="sd",
    kind="generator",
    model_id="some/sd",
    weights_sha256="1" * 64,
    config={"a": 1},
    shape=(4, 8, 8),
    dtype="float16",
    settings={"steps": 50, "eval_at": "source"},
)
TIMES = np.array([901, 451, 1])
MOVES = np.random.default_rng(0).standard_normal((2, 3, 2, 2, 5)).astype(np.float32)


def made(**changes):
    fields = {
        "names": ("Smiling", "pc 2"),
        "moves": MOVES,
        "view": NOISE,
        "timesteps": TIMES,
        "spread": np.array([1.0, 2.0], np.float32),
        "method": {"name": "h-pca", "samples": 500},
    }
    return hspace_files.pack(**fields | changes)


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "h.safetensors"
    directions.save(path, made())
    got = directions.load(path)
    assert got.names == ("Smiling", "pc 2") and got.method["samples"] == 500
    assert got.view.shape == (3, 5, 2, 2) and got.view.settings["space"] == "h"
    assert got.view.settings["timesteps"] == [901, 451, 1]
    assert got.view.settings["eval_at"] == "source"
    np.testing.assert_allclose(hspace_files.unpack(got), MOVES, rtol=1e-6)
    np.testing.assert_allclose(hspace_files.unpack(got, ["pc 2"]), MOVES[1:], rtol=1e-6)
    assert np.isnan(got.readers).all() and np.isnan(got.bias).all()
    hspace_files.require(got, NOISE, TIMES)


def test_moves_are_stored_as_latents_are_channels_first():
    row = made().moves[0].reshape(3, 5, 2, 2) * made().length[0]
    np.testing.assert_allclose(row[1, 4], MOVES[0, 1, :, :, 4], rtol=1e-6)


def test_a_strength_is_the_papers_scale_or_in_deviations():
    found = made(moves=jnp.asarray(MOVES))
    raw = found.amounts({"Smiling": 1.0}, (2.0,), "raw")[0, 0] @ found.moves
    want = 2 * np.moveaxis(MOVES[0], -1, 1).ravel()
    np.testing.assert_allclose(raw, want, rtol=1e-5)
    assert found.amounts({"pc 2": 1.0}, (3.0,)).tolist() == [[[0, 6]]]


def test_readers_read_h():
    found = made(readers=2 * MOVES, bias=np.array([0.0, 1.0], np.float32))
    h = np.ones((1, 3, 5, 2, 2), np.float32)
    want = 2 * MOVES.sum((1, 2, 3, 4)) + np.array([0, 1])
    np.testing.assert_allclose(found.scores(h.reshape(1, -1))[0], want, rtol=1e-4)


def test_another_number_of_steps_is_refused():
    with pytest.raises(UneError, match="of 3 steps and the sampler has 4.*retime"):
        hspace_files.require(made(), NOISE, [901, 601, 301, 1])


@pytest.mark.parametrize(
    "view, times, says",
    [
        (NOISE, [901, 451, 2], "settings.timesteps is .*2"),
        (dataclasses.replace(NOISE, weights_sha256="3" * 64), TIMES, "weights_sha256"),
        (dataclasses.replace(NOISE, settings={"steps": 50}), TIMES, "settings.eval_at"),
    ],
)
def test_another_models_h_is_refused_by_what_differs(view, times, says):
    with pytest.raises(UneError, match=says):
        hspace_files.require(made(), view, times)


def test_h_and_noise_are_not_taken_for_each_other():
    with pytest.raises(UneError, match="do not fit sd: shape is"):
        made().require(NOISE)
    noise = dataclasses.replace(made(), view=dataclasses.replace(NOISE, shape=(5, 4, 3)))  # fmt: skip
    for use in (hspace_files.unpack, lambda d: hspace_files.require(d, NOISE, TIMES)):
        with pytest.raises(UneError, match="of sd, not of an h"):
            use(noise)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"timesteps": TIMES[:2]}, "3 steps, but there are 2 timesteps"),
        ({"moves": MOVES * np.array([1, 0], "f4")[:, None, None, None, None]}, "pc 2 has a move of length 0"),
        ({"moves": MOVES * np.float32("nan")}, "Smiling has a move of length nan"),
        ({"names": ("one",)}, "moves has shape"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(change, says):
    with pytest.raises(UneError, match=says):
        made(**change)
