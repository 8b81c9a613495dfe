import numpy as np
import pytest

from une_jax.interop import projection


def streamed(x, size=97):
    return lambda: (x[i : i + size] for i in range(0, len(x), size))


def svd(x, k=2):
    """The definition: mean, axes and their shares of the variance."""
    x = x.astype(np.float64)
    centred = x - x.mean(0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    return x.mean(0), axes[:k], s[:k] ** 2 / (s**2).sum()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("width", [2, 5, 300])
def test_axes_are_those_of_pca(width, dtype):
    rng = np.random.default_rng(0)
    scale = 3.0 * 0.7 ** np.arange(width) + 0.1
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    x = (rng.normal(size=(500, width)) * scale @ turn + 2).astype(dtype)
    mean, axes, ratio = svd(x)
    got = projection.principal_axes(streamed(x), width)
    np.testing.assert_allclose(got.mean, mean, atol=1e-6)
    np.testing.assert_allclose(got.ratio, ratio, rtol=1e-4)
    signs = np.sign((got.axes * axes).sum(1))
    np.testing.assert_allclose(got.axes, axes * signs[:, None], atol=2e-3)
    places = got.project(x)
    assert places.shape == (500, 2)
    np.testing.assert_allclose(places, (x - mean) @ got.axes.T, atol=1e-5)


def test_where_no_direction_stands_out_it_finds_nearly_the_best():
    x = np.random.default_rng(0).normal(size=(2000, 400)).astype(np.float32)
    got = projection.principal_axes(streamed(x), 400)
    np.testing.assert_allclose(got.ratio, svd(x)[2], rtol=0.01)
    np.testing.assert_allclose(got.axes @ got.axes.T, np.eye(2), atol=1e-6)


def test_the_same_rows_in_other_parts_give_the_same_axes():
    x = np.random.default_rng(0).normal(size=(500, 40)) * np.arange(1, 41)
    one = projection.principal_axes(streamed(x, 500), 40)
    other = projection.principal_axes(streamed(x, 7), 40)
    np.testing.assert_allclose(one.axes, other.axes, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_of_both_signs_it_takes_the_one_whose_largest_loading_is_positive(seed):
    x = np.random.default_rng(seed).normal(size=(50, 20))
    axes = projection.principal_axes(streamed(x), 20).axes
    np.testing.assert_array_equal(axes.max(1), np.abs(axes).max(1))


def test_a_far_mean_does_not_hide_the_axes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 20)) * np.where(np.arange(20) == 3, 4, 1)
    got = projection.principal_axes(streamed(x + 1000), 20)
    assert np.abs(got.axes[0]).argmax() == 3 and got.axes[0, 3] > 0.9


def test_rows_that_do_not_vary_have_no_axes_but_places():
    x = np.ones((5, 3), np.float32)
    got = projection.principal_axes(streamed(x), 3)
    assert got.ratio.tolist() == [0, 0]
    np.testing.assert_allclose(got.project(x), np.zeros((5, 2)), atol=1e-6)
    got = projection.principal_axes(streamed(x[:1]), 3)
    np.testing.assert_allclose(got.project(x[:1]), np.zeros((1, 2)), atol=1e-6)


def test_rows_on_one_line_have_one_axis():
    t, line = np.random.default_rng(0).normal(size=(50, 1)), np.arange(20) - 3.0
    got = projection.principal_axes(streamed(t * line), 20)
    np.testing.assert_allclose(got.axes[0], line / np.linalg.norm(line), atol=1e-6)
    np.testing.assert_allclose(got.ratio, [1, 0], atol=1e-6)


def test_of_one_number_the_second_axis_is_zero():
    x = np.arange(5, dtype=np.float32)[:, None]
    got = projection.principal_axes(streamed(x), 1)
    assert got.axes.tolist() == [[1], [0]] and got.ratio.tolist() == [1, 0]
    assert got.project(x).tolist() == [[-2, 0], [-1, 0], [0, 0], [1, 0], [2, 0]]


def test_it_reads_the_rows_no_more_often_than_it_must():
    times = []

    def counted(x):
        def parts():
            times.append(1)
            return [x]

        return parts

    x = np.random.default_rng(0).normal(size=(50, 6))
    projection.principal_axes(counted(x), 6)  # a block spans all six
    assert len(times) == 2
    times.clear()
    x = np.random.default_rng(0).normal(size=(900, 600))
    projection.principal_axes(counted(x), 600, passes=3)
    assert len(times) == 4
