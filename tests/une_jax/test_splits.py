"""Splits keep people on one side, and classes even."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import splits
from une_jax.errors import UneError


def test_a_group_is_on_one_side_and_the_sides_have_their_sizes():
    groups = np.random.default_rng(0).integers(0, 300, 3000)
    by_group = jax.jit(splits.by_group, static_argnames="fraction")
    for seed, fraction in ((0, 0.8), (1, 0.8), (0, 0.5)):
        train = np.asarray(
            by_group(jax.random.key(seed), jnp.asarray(groups), fraction=fraction)
        )
        assert not set(groups[train]) & set(groups[~train])
        assert abs(train.mean() - fraction) < 0.01


def test_a_groups_side_is_drawn_by_the_key_alone():
    groups = jnp.repeat(jnp.arange(40), 5)
    one, same, other = (
        splits.by_group(jax.random.key(seed), groups) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    turned = splits.by_group(jax.random.key(0), groups[::-1])
    np.testing.assert_array_equal(turned[::-1], one)


def test_groups_under_vmap():
    groups = jnp.stack([jnp.arange(30) // 3, jnp.arange(30) // 5])
    got = jax.vmap(lambda g: splits.by_group(jax.random.key(0), g))(groups)
    for i in range(2):
        want = splits.by_group(jax.random.key(0), groups[i])
        np.testing.assert_array_equal(got[i], want)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_both_sides_must_be_there(fraction):
    with pytest.raises(UneError, match="more than 0 and less than 1"):
        splits.by_group(jax.random.key(0), jnp.arange(9), fraction=fraction)


def test_balanced_takes_the_first_to_train_and_the_last_to_test():
    rng = np.random.default_rng(0)
    y = rng.random((200, 3)) < [0.1, 0.5, 0.9]
    train, test = (
        np.asarray(part) for part in jax.jit(splits.balanced)(jnp.asarray(y))
    )
    for j in range(3):
        ones, zeros = np.flatnonzero(y[:, j]), np.flatnonzero(~y[:, j])
        m = min(len(ones), len(zeros))
        first = int(0.8 * m)
        for rows in (ones, zeros):
            got = [part[rows, j] for part in (train, test)]
            np.testing.assert_array_equal(np.flatnonzero(got[0]), np.arange(first))
            last = np.arange(len(rows) - (m - first), len(rows))
            np.testing.assert_array_equal(np.flatnonzero(got[1]), last)
    assert not (train & test).any()


def test_nothing_is_balanced_of_one_class():
    train, test = splits.balanced(jnp.ones((9, 1), bool))
    assert not train.any() and not test.any()
