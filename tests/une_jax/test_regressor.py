"""The shipped regressor reads faces as well as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import effect
from une_jax.miniature import factors, regressor, render

N = 512


@pytest.fixture(scope="module")
def params():
    return regressor.load()


@pytest.fixture(scope="module")
def truth():
    return factors.draw(jax.random.key(41), N)


def seen(params, truth):
    return regressor.apply(params, render.faces(truth.scores, truth.nuisance))


def test_its_stated_r2_is_what_other_faces_give(params, truth):
    said = np.concatenate(seen(params, truth), axis=1)
    true = np.concatenate([truth.scores, truth.nuisance], axis=1)
    r2 = 1 - np.square(said - true).mean(0) / true.var(0)
    stated = regressor.held_out()
    assert tuple(stated) == (*factors.NAMES, *factors.NUISANCES)
    # 512 faces: the standard error of an R² is at most about 0.04 here.
    np.testing.assert_allclose(r2, list(stated.values()), atol=0.12)
    assert np.mean(list(stated.values())) > 0.6


def test_a_change_of_one_score_is_read_as_that_one(params, truth):
    before = seen(params, truth)
    for name in ("Smiling", "Eyeglasses", "Wearing_Hat"):
        i = factors.NAMES.index(name)
        at = float(factors.THRESHOLDS[i])  # to either side of the threshold
        low, high = (
            seen(params, truth._replace(scores=truth.scores.at[:, i].set(at + d)))
            for d in (-0.7, 0.7)
        )
        found = effect.measure(effect.Reading(*low), effect.Reading(*high), i)
        assert float(found.intended.mean()) > 0.8, name
        others = np.delete(np.abs(np.asarray(found.change).mean(0)), i)
        assert others.max() < 0.35 * float(found.intended.mean()), name
        assert float(found.identity.mean()) > 0.8, name
    assert before.scores.shape == (N, len(factors.NAMES))


def test_it_is_small(params):
    assert sum(jnp.size(w) for w in params.values()) < 150_000
