"""A sample of a zoo is a zoo of fewer rows."""

import numpy as np
import pytest

from une_jax import zoo
from une_jax.report import latents
from une_jax.report.sample import sample


@pytest.fixture(scope="module")
def whole(built):
    return zoo.open(built)


def test_a_zoo_that_is_small_enough_is_itself(whole):
    assert sample(whole, 24) is whole


def test_its_rows_are_the_zoo_s_and_stay_in_their_split(whole):
    some = sample(whole, 10)
    assert some.rows.num_rows == len(some.keys) == 10
    at = [whole.keys.index(key) for key in some.keys]
    assert at == sorted(at)
    np.testing.assert_array_equal(some.attributes, whole.attributes[at])
    for part in ("train", "test"):
        wanted = {whole.keys[i] for i in whole.split(part)} & set(some.keys)
        assert {some.keys[i] for i in some.split(part)} == wanted
    for view in whole.views:
        assert some[view].shape == (10, *whole[view].shape[1:])
        np.testing.assert_array_equal(some[view][:], whole[view][at])
    np.testing.assert_array_equal(some["tiny"][3], whole["tiny"][at[3]])
    np.testing.assert_array_equal(some["tiny"][-2:], whole["tiny"][at[-2:]])
    assert len(latents.read(some, "eyes", some.split("train"))) == len(
        some.split("train")
    )


def test_another_seed_draws_others(whole):
    drawn = {tuple(sample(whole, 10, seed=s).keys) for s in range(4)}
    assert len(drawn) > 1
    assert sample(whole, 10).keys == sample(whole, 10).keys
