"""A GCCA of sums over blocks is the GCCA of the rows, wherever the sums were made."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from une_jax import gcca, grams
from une_jax.errors import UneError
from une_jax.parallel import data_mesh

N, WIDTHS, K = 120, (10, 15), 4

of, add = jax.jit(grams.of), jax.jit(grams.add)
fit = jax.jit(grams.fit, static_argnames="k")
fit_rows = jax.jit(gcca.fit, static_argnames="k")
principal = jax.jit(grams.principal, static_argnames=("components", "view"))


pytestmark = pytest.mark.usefixtures("compiling_fast")


def une(mean=5.0):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, K)) * (1 + np.arange(K))
    views = [
        z @ rng.standard_normal((K, d)) + 0.5 * rng.standard_normal((N, d)) + mean
        for d in WIDTHS
    ]
    return [jnp.asarray(v, jnp.float32) for v in views]


def float64_gram(views):
    x = np.concatenate([np.asarray(v, np.float64) for v in views], axis=1)
    return (x - x.mean(0)).T @ (x - x.mean(0))


def blocks(views, ends=(0, 30, 60, 90, N)):
    return [of([v[a:b] for v in views]) for a, b in zip(ends, ends[1:], strict=False)]


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_blocks_add_up(mean):
    """Also far from the origin, where sums of squares would leave nothing."""
    views = une(mean)
    total = ft.reduce(add, blocks(views))
    want = float64_gram(views)
    np.testing.assert_allclose(total.gram, want, atol=2e-6 * np.abs(want).max())
    for got, view in zip(total.means, views, strict=True):
        np.testing.assert_allclose(got, np.asarray(view, np.float64).mean(0), rtol=1e-6, atol=1e-5)  # fmt: skip
    assert total.count == N


def test_the_order_of_blocks_does_not_matter():
    a, b, c, d = blocks(une())
    one, other = add(add(a, b), add(c, d)), add(d, add(c, add(b, a)))
    np.testing.assert_allclose(one.gram, other.gram, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_devices_add_up(mean):
    views = une(mean)
    mesh = data_mesh(jax.devices()[:4])
    everywhere = jax.jit(
        jax.shard_map(
            lambda views: grams.psum(grams.of(views), "data"),
            mesh=mesh,
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )
    total, want = everywhere(views), float64_gram(views)
    np.testing.assert_allclose(total.gram, want, atol=2e-6 * np.abs(want).max())
    assert total.count == N


def test_the_fit_is_that_of_the_rows():
    views, ridge = une(), jnp.array([2.0, 5.0])
    weights = jnp.array([1.0, 0.5])
    got = fit(ft.reduce(add, blocks(views)), K, ridge, weights=weights)
    want = fit_rows(views, K, ridge, weights=weights)
    for name in ("eigenvalues", "agreement", "r2", "explained"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(want, name), atol=1e-5, err_msg=name
        )
    codes = np.asarray(gcca.transform(got, views))
    shared = np.asarray(want.shared)
    np.testing.assert_allclose(codes @ codes.T, shared @ shared.T, atol=2e-5)
    # Close eigenvalues leave vectors to turn among each other: A X^T does not.
    for a, b in zip(got.maps, want.maps, strict=True):
        both = np.asarray(a) @ codes.T, np.asarray(b) @ shared.T
        np.testing.assert_allclose(*both, atol=1e-4 * np.abs(both[1]).max())
    assert got.shared.shape == (0, K) and got.residual.max() < 1e-5


def test_principal_is_pca_and_standardisation():
    views = une()
    total = of(views)
    basis = principal(total, 4, view=1)
    z = np.asarray((views[1] - total.means[1][None]) @ basis)
    np.testing.assert_allclose(z.T @ z / N, np.eye(4), atol=1e-4)
    x = np.asarray(views[1], np.float64)
    u = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :4]
    np.testing.assert_allclose(z @ z.T / N, u @ u.T, atol=1e-4)


def test_projected_grams_are_those_of_projected_rows():
    views = une()
    total = of(views)
    bases = [principal(total, 5, view=i) for i in (0, 1)]
    got = grams.project(total, bases)
    want = of([v @ b for v, b in zip(views, bases, strict=True)])
    np.testing.assert_allclose(got.gram, want.gram, atol=2e-3)
    np.testing.assert_allclose(got.means[1], want.means[1], atol=1e-4)


def test_constant_columns_stay_out():
    a, b = une()
    wide = jnp.concatenate([a[:, :8], jnp.full((N, 2), 3.0)], axis=1)
    none, weights = jnp.zeros(2), jnp.ones(2)
    got = fit(of([wide, b]), K, none, weights=weights)
    want = fit_rows([wide, b], K, none, weights=weights)
    np.testing.assert_allclose(got.eigenvalues, want.eigenvalues, atol=2e-5)
    np.testing.assert_array_equal(got.maps[0][-2:], 0)


def test_under_vmap():
    views = [v.reshape(4, 30, -1) for v in une()]
    got = jax.vmap(grams.of)(views)
    np.testing.assert_allclose(got.gram[2], blocks(une())[2].gram, rtol=1e-4, atol=1e-3)


def test_bad_input_is_named():
    total = grams.of(une())
    with pytest.raises(UneError, match="k is 26; 25 columns share 1 to 25"):
        grams.fit(total, 26, 1.0)
    with pytest.raises(UneError, match="1 bases for 2 views"):
        grams.project(total, [jnp.eye(10)])
