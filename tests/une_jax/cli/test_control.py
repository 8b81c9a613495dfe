"""The forward-noised control's noise must know nothing of the faces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax.cli import programs
from une_jax.cli.generator import CONTROL_SEED
from une_jax.miniature import factors


@pytest.mark.parametrize("seed", [0, 7, 99])
def test_fresh_noise_is_not_the_faces_own_latent(seed):
    blank = jnp.zeros((4, 8, 8, 4))
    keys = programs.row_keys(CONTROL_SEED, jnp.arange(4))
    noise = np.asarray(programs.forward_noised(blank, jnp.float32(0), keys))
    z = np.asarray(factors.draw(jax.random.key(seed), 4).z)
    assert not np.allclose(noise.reshape(4, -1)[:, : factors.DIM], z)
