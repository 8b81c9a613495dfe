"""Distances of images equal their formulas, written out; SSIM window by window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import image_metrics
from une_jax.errors import UneError

METRICS = (image_metrics.rmse, image_metrics.psnr, image_metrics.ssim)


def images(n=3, h=17, w=14, noise=0.2, seed=0):
    """Smooth pictures and noisy versions of them, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w] / max(h, w)
    waves = [np.sin(2 * np.pi * (f * x + g * y)) for f, g in rng.uniform(0, 2, (n * 3, 2))]  # fmt: skip
    a = np.reshape(waves, (n, 3, h, w)).transpose(0, 2, 3, 1) / 2 + 0.5
    b = np.clip(a + noise * rng.standard_normal(a.shape), 0, 1)
    return jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)


def ssim_by_windows(a, b):
    """Equation 13 of the paper at every window, in float64."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            top = (2 * mx * my + c1) * (2 * cov + c2)
            values.append(top / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.mean(values)


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_ssim_is_its_formula_at_every_window(noise):
    a, b = images(noise=noise)
    a, b = a.at[0].set(a[0] * 0.01), b.at[0].set(b[0] * 0.01)  # nearly black
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    wanted = [
        np.mean([ssim_by_windows(p[..., c], q[..., c]) for c in range(3)])
        for p, q in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(jax.jit(image_metrics.ssim)(a, b), wanted, atol=2e-5)


def test_ssim_is_one_for_equal_images_and_symmetric():
    a, b = images()
    np.testing.assert_allclose(image_metrics.ssim(a, a), 1, atol=1e-6)
    forth, back = image_metrics.ssim(a, b), image_metrics.ssim(b, a)
    np.testing.assert_allclose(forth, back, atol=1e-6)
    assert (forth < 0.95).all()


def test_rmse_and_psnr_are_their_formulas():
    a, b = images()
    error = np.square(np.asarray(a, np.float64) - b).mean((1, 2, 3))
    np.testing.assert_allclose(image_metrics.rmse(a, b), np.sqrt(error), rtol=1e-5)
    np.testing.assert_allclose(image_metrics.psnr(a, b), -10 * np.log10(error), rtol=1e-5)  # fmt: skip


def test_equal_images_are_120_decibels_apart():
    a, _ = images()
    np.testing.assert_array_equal(image_metrics.rmse(a, a), 0)
    np.testing.assert_allclose(image_metrics.psnr(a, a), 120, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_each_image_is_scored_by_itself_under_jit_and_vmap(metric):
    a, b = images()
    together = jax.jit(metric)(a, b)
    many = jax.vmap(metric)(jnp.stack([a, b]), jnp.stack([b, a]))
    np.testing.assert_allclose(many, [together, together], rtol=1e-5, atol=1e-6)
    for i in range(len(a)):
        alone = metric(a[i : i + 1], b[i : i + 1])[0]
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_slopes_are_those_of_small_steps(metric):
    a, b = images(n=1)
    way = jax.random.normal(jax.random.key(0), a.shape) / 30

    def along(t):
        return metric(a + t * way, b).sum()

    slope = (along(0.05) - along(-0.05)) / 0.1
    np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=2e-2)
    at_rest = jax.grad(lambda x: metric(x, a).sum())(a)
    np.testing.assert_allclose(at_rest, 0, atol=1e-5)


def test_says_what_images_it_needs():
    a, b = images()
    with pytest.raises(UneError, match="11 x 11 pixels or more; images are 10 x 14"):
        image_metrics.ssim(a[:, :10], b[:, :10])
    for metric in METRICS:
        with pytest.raises(UneError, match=r"images are \(3, 17, 14, 3\) and \(2,"):
            metric(a, b[1:])
        with pytest.raises(UneError, match="images are uint8; give floats"):
            metric(a, (b * 255).astype(jnp.uint8))
