"""Directions that keep others' scores, likeliest first; labels erased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import edits, keeping

RNG = np.random.default_rng(0)
D, N = 20, 3000
MIX = RNG.standard_normal((D, D)) * np.linspace(2, 0.2, D)[:, None]
X = (RNG.standard_normal((N, D)) @ MIX.T + 5).astype(np.float32)
COV = np.cov(X.T.astype(np.float64), bias=True)
W = RNG.standard_normal((4, D)).astype(np.float32)


def closed_form(w, against):
    """argmax of w.v - v' inv(cov) v / 2 with against @ v = 0, by Lagrange, in float64."""
    pattern, patterns = COV @ w, COV @ against.T
    inner = np.linalg.solve(against @ patterns, against @ pattern)
    return pattern - patterns @ inner


@pytest.mark.parametrize("m", [1, 3])
def test_conditional_is_the_likeliest_move_that_keeps_the_scores(m):
    got = keeping.conditional(jnp.asarray(W[0]), jnp.asarray(W[1 : 1 + m]), jnp.asarray(X))  # fmt: skip
    want = closed_form(W[0].astype(np.float64), W[1 : 1 + m].astype(np.float64))
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())
    kept = np.abs(np.asarray(got, np.float64) @ W[1 : 1 + m].T.astype(np.float64))
    assert kept.max() < 1e-4 * np.linalg.norm(got)


def test_it_is_more_likely_than_the_euclidean_one_for_the_same_gain():
    def length(v):
        v = np.asarray(v, np.float64)
        return np.sqrt(v @ np.linalg.solve(COV, v)) / abs(v @ W[0])

    ours = keeping.conditional(jnp.asarray(W[0]), jnp.asarray(W[1:]), jnp.asarray(X))
    plain = edits.orthogonalize(jnp.asarray(W[0]), jnp.asarray(W[1:]))
    assert length(ours) < 0.9 * length(plain)


def test_more_dimensions_than_rows_keep_the_scores_too():
    x = jnp.asarray(RNG.standard_normal((30, 200)), jnp.float32)
    w = jnp.asarray(RNG.standard_normal((3, 200)), jnp.float32)
    got = keeping.conditional(w[0], w[1:], x)
    assert jnp.abs(w[1:] @ got).max() < 1e-4 * jnp.linalg.norm(got)
    assert w[0] @ got > 0


def test_a_direction_in_the_span_of_the_kept_ones_gives_zeros():
    w = jnp.asarray(W)
    got = keeping.conditional(2 * w[1] - w[2], w[1:3], jnp.asarray(X))
    np.testing.assert_array_equal(got, 0)


def test_conditional_works_under_vmap_jit_and_grad():
    w, x = jnp.asarray(W), jnp.asarray(X)
    many = jax.jit(jax.vmap(keeping.conditional, in_axes=(0, None, None)))(w[:2], w[2:], x)  # fmt: skip
    for i in range(2):
        want = keeping.conditional(w[i], w[2:], x)
        np.testing.assert_allclose(many[i], want, rtol=1e-3, atol=1e-4)
    grad = jax.grad(lambda w0: keeping.conditional(w0, w[2:], x).sum())(w[0])
    assert jnp.isfinite(grad).all() and jnp.abs(grad).max() > 0


# erasure


def labels():
    return np.stack([X @ W[1] > (X @ W[1]).mean(), X @ W[2] > 3], axis=1)


def test_after_erasure_no_label_has_a_linear_trace():
    """The cross-covariance of the rows with every label is zero (LEACE, Theorem 3.1)."""
    z = labels()
    out = keeping.eraser(jnp.asarray(X), jnp.asarray(z))
    centred = jnp.asarray(X - X.mean(0))
    rows = np.asarray(jax.vmap(keeping.erase, (None, 0))(out, centred), np.float64)
    before = (X - X.mean(0)).T.astype(np.float64) @ (z - z.mean(0)) / N
    after = rows.T @ (z - z.mean(0)) / N
    assert np.abs(after).max() < 1e-4 * np.abs(before).max()


def test_the_projection_is_leaces_formula():
    """I - W^-1 P W with W = cov^-1/2 and P onto W cov_xz (Theorem 4.3), in float64."""
    z = labels()
    values, vectors = np.linalg.eigh(COV)
    white = (vectors / np.sqrt(values)) @ vectors.T
    u, _ = np.linalg.qr(white @ ((X - X.mean(0)).T.astype(np.float64) @ (z - z.mean(0))))  # fmt: skip
    want = np.eye(D) - np.linalg.solve(white, u @ u.T @ white)
    out = keeping.eraser(jnp.asarray(X), jnp.asarray(z))
    got = np.asarray(jax.vmap(keeping.erase, (None, 0))(out, jnp.eye(D))).T
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_repeated_and_constant_labels_are_erased_once():
    z = labels()
    more = np.concatenate([z, z[:, :1], np.ones((N, 1), bool)], axis=1)
    x, v = jnp.asarray(X), jnp.asarray(W[0])
    want = keeping.erase(keeping.eraser(x, jnp.asarray(z)), v)
    got = keeping.erase(keeping.eraser(x, jnp.asarray(more)), v)
    np.testing.assert_allclose(got, want, atol=1e-4)


# cost
