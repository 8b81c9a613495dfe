"""Edited noise brought back to its shell; the way between two noises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import shells

NORMAL = np.random.default_rng(0).standard_normal
A = jnp.asarray(NORMAL((4, 8, 8)), jnp.float32)
B = jnp.asarray(NORMAL((4, 8, 8)), jnp.float32)
MOVED = jnp.asarray(NORMAL((3, 4, 8, 8)) * 2 + 1, jnp.float32)


def test_off_changes_nothing():
    np.testing.assert_array_equal(shells.restore(MOVED, A[None]), MOVED)


def test_sphere_restores_the_norm_and_keeps_the_direction():
    got = shells.restore(MOVED, A[None], "sphere")
    norms = jnp.linalg.norm(got.reshape(3, -1), axis=1)
    np.testing.assert_allclose(norms, jnp.linalg.norm(A), rtol=1e-5)
    ratio = got / MOVED
    np.testing.assert_allclose(ratio.std((1, 2, 3)), 0, atol=1e-6)


def test_channel_restores_each_channels_mean_and_deviation():
    got = shells.restore(MOVED, A[None], "channel")
    for statistic in (jnp.mean, jnp.std):
        want = jnp.broadcast_to(statistic(A, axis=(1, 2))[None], (3, 4))
        np.testing.assert_allclose(statistic(got, axis=(2, 3)), want, atol=1e-5)


def test_an_unknown_control_is_named():
    with pytest.raises(Exception, match="shell"):
        shells.restore(MOVED, A[None], "shell")  # pyright: ignore[reportArgumentType]


def test_slerp_stays_on_the_shell_and_turns_evenly():
    t = jnp.linspace(0, 1, 5)
    path = shells.slerp(A, B, t)
    np.testing.assert_allclose(path[0], A, atol=1e-5)
    np.testing.assert_allclose(path[-1], B, atol=1e-5)
    norms = np.linalg.norm(np.asarray(path).reshape(5, -1), axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 5), rtol=1e-5)
    unit = np.asarray(path).reshape(5, -1) / norms[:, None]
    turns = np.arccos((unit[1:] * unit[:-1]).sum(1))
    np.testing.assert_allclose(turns, turns[0], rtol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_slerp_along_one_direction_is_straight(scale):
    path = shells.slerp(A, scale * A, jnp.array([0.5]))
    np.testing.assert_allclose(path[0], A * (1 + scale) / 2, rtol=1e-5)


def test_opposite_noises_have_no_way():
    assert jnp.isnan(shells.slerp(A, -A, jnp.array([0.5]))).all()


def test_slerp_works_under_vmap():
    many = jax.vmap(shells.slerp, in_axes=(0, None, None))(MOVED, A, jnp.array([0.3]))
    np.testing.assert_allclose(many[1], shells.slerp(MOVED[1], A, jnp.array([0.3])), rtol=1e-5, atol=1e-6)  # fmt: skip
