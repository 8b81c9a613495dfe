"""The whole science where the truth is known: Z ~ N(0, I), seen as C_i Z + noise.

In such a Universal Normal Embedding every claim of the paper holds by construction, and
the best that any method can reach has a formula. Each room must reach it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import edits, gaussianity, gcca, maps, probes, projections

# Compiled once a shape.
fit_probe = jax.jit(probes.fit, static_argnames=("components", "max_iter"))
fit_shared = jax.jit(gcca.fit, static_argnames="k")
every_test = jax.jit(gaussianity.every_test)
project = jax.jit(projections.random, static_argnames=("projections", "rows"))

K, DIMS, NOISE = 6, (24, 40, 30), 0.3
TRAIN, TEST = 4000, 2000


class Une:
    """Three views of one z, and two attributes linear in it (and correlated)."""

    def __init__(self, noise=NOISE, seed=0):
        rng = np.random.default_rng(seed)
        self.noise = noise
        self.z = rng.standard_normal((TRAIN + TEST, K))
        self.c = [rng.standard_normal((d, K)) for d in DIMS]
        self.views = [
            (self.z @ c.T + noise * rng.standard_normal((len(self.z), len(c)))).astype(
                np.float32
            )
            for c in self.c
        ]
        self.w = np.stack([np.eye(K)[0], (np.eye(K)[0] + np.eye(K)[1]) / np.sqrt(2)])
        self.y = self.z @ self.w.T > np.array([0.0, 0.5])

    def posterior(self, i):
        """(d, k): E[z | x_i] = x_i @ this."""
        c = self.c[i]
        return np.linalg.solve(c @ c.T + self.noise**2 * np.eye(len(c)), c)


@pytest.fixture(scope="module")
def une():
    return Une()


@pytest.fixture(scope="module")
def probe(une):
    return fit_probe(jnp.asarray(une.views[0][:TRAIN]), jnp.asarray(une.y[:TRAIN]))


@pytest.mark.parametrize("i", range(3))
def test_every_view_is_as_gaussian_as_gaussian_data(une, i, key):
    """5 % of the projections of exactly Gaussian rows are refused, and no more here."""
    x = jnp.asarray(une.views[i])
    tests = every_test(project(key, x, projections=1000, rows=250))
    error = np.sqrt(0.05 * 0.95 / 1000)
    for test in tests:
        refused = np.asarray(test.pvalue) < 0.05
        assert abs(refused.mean() - 0.05) < 4 * error


def test_probes_decide_as_the_bayes_rule(une, probe):
    x, y = une.views[0][TRAIN:], une.y[TRAIN:]
    bayes = x @ une.posterior(0) @ une.w.T - np.array([0.0, 0.5])
    ours = np.asarray(probes.scores(probe, jnp.asarray(x)))
    for a in range(2):
        agree = (ours[:, a] > 0) == (bayes[:, a] > 0)
        assert agree.mean() > 0.98
        lost = (bayes[:, a] > 0) == y[:, a]
        assert ((ours[:, a] > 0) == y[:, a]).mean() > lost.mean() - 0.01


@pytest.mark.parametrize("source, target", [(0, 1), (1, 2), (2, 0)])
def test_ridge_finds_the_map_between_views(une, source, target):
    """x_j = C_j z + noise, so the best linear map from x_i is C_j E[z | x_i]."""
    x, y = jnp.asarray(une.views[source]), jnp.asarray(une.views[target])
    m = maps.ridge(x[:TRAIN], y[:TRAIN], 1.0)
    got = np.asarray(maps.apply(m, x[TRAIN:]))
    best = np.asarray(x[TRAIN:]) @ une.posterior(source) @ une.c[target].T
    off = np.square(got - best).mean() / np.square(best).mean()
    assert off < 0.01


@pytest.mark.parametrize("noise, angle", [(0.3, 0.1), (0.01, 0.003)])
def test_gcca_recovers_the_span_of_z(noise, angle, quick_compiles):
    """The sine of the largest angle between the shared codes and z goes with the noise."""
    une = Une(noise)
    views = [jnp.asarray(x[:TRAIN]) for x in une.views]
    shared = np.asarray(fit_shared(views, K, 1e-3).shared)
    z = une.z[:TRAIN] - une.z[:TRAIN].mean(0)
    q, _ = np.linalg.qr(z)
    ours, _ = np.linalg.qr(shared)
    sines = np.linalg.norm(ours - q @ (q.T @ ours), 2)
    assert sines < angle


def test_an_orthogonalised_edit_leaves_the_other_attribute_alone(une, probe):
    """Plain, the other attribute's score follows: their directions are correlated."""
    w = probe.weight
    x = jnp.asarray(une.views[0][TRAIN : TRAIN + 50])
    strengths = jnp.array([-3.0, 3.0])

    def change(direction):
        unit = edits.unit(direction)
        scale = edits.projection_std(x, unit)
        place = jax.vmap(edits.displace, in_axes=(None, None, 0))
        grid = jax.vmap(place, in_axes=(0, None, None))
        moved = grid(x, unit[None], scale * strengths[:, None])
        now = jax.vmap(probes.scores, in_axes=(None, 1))(probe, moved)
        return np.asarray(now - probes.scores(probe, x)[None])

    plain, held = change(w[0]), change(edits.orthogonalize(w[0], w[1]))
    spread = float(probes.scores(probe, x)[:, 1].std())
    assert np.abs(plain[..., 1]).min() > 0.2 * spread
    assert np.abs(held[..., 1]).max() < 1e-4 * spread
    assert np.abs(held[..., 0]).min() > 0.2 * spread
