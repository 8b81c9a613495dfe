"""The table of maps between views, on a zoo whose views are planted."""

from pathlib import Path

import numpy as np
import pytest

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.report import alignment, figures, latents, probing


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def rows(built):
    opened = zoo.open(built)
    views = ["tiny", "tiny.x0", "eyes"]
    probed = [probing.probe_view(opened, view) for view in views]
    return {
        (row["source"], row["target"]): row
        for row in alignment.table(opened, views, probed=probed)
    }


def test_a_planted_map_is_found_and_noise_is_not(rng):
    x = rng.standard_normal((300, 10))
    y = x @ rng.standard_normal((10, 4)) + 3 + 0.1 * rng.standard_normal((300, 4))
    predict = alignment.predictor(x[:200], x[200:])
    assert alignment.r2(predict(y[:200]), y[200:]).min() > 0.99
    unrelated = rng.standard_normal((300, 4))
    assert alignment.r2(predict(unrelated[:200]), unrelated[200:]).max() < 0.05


@pytest.mark.parametrize("folds", (None, 4))
def test_the_penalty_is_in_units_of_the_spread(rng, folds):
    x, y = rng.standard_normal((60, 6)), rng.standard_normal((60, 2))
    y += x[:, :2]
    _, alpha = alignment.Source(x).ridge(y, folds=folds)
    _, larger = alignment.Source(10 * x).ridge(y, folds=folds)
    assert larger == pytest.approx(100 * alpha, rel=1e-4)


def test_r2_is_one_for_the_truth_zero_for_the_mean_and_unknown_for_a_constant(rng):
    y = rng.standard_normal((50, 3))
    y[:, 2] = 1
    np.testing.assert_allclose(alignment.r2(y, y)[:2], 1)
    np.testing.assert_allclose(alignment.r2(y * 0 + y.mean(0), y)[:2], 0, atol=1e-12)
    assert np.isnan(alignment.r2(y, y)[2])


def test_each_ordered_pair_of_views_has_its_row(rows):
    views = ["tiny", "tiny.x0", "eyes"]
    assert list(rows) == [(a, b) for a in views for b in views if a != b]
    assert len({tuple(row) for row in rows.values()}) == 1  # the same columns


def test_the_numbers_are_those_of_the_map_called_by_hand(built, rows):
    opened, row = zoo.open(built), rows["eyes", "tiny"]
    train, test = opened.split("train"), opened.split("test")
    x, y = (np.asarray(opened[v][:], np.float64).reshape(24, -1) for v in ("eyes", "tiny"))  # fmt: skip
    mean = y[train].mean(0)
    guess = alignment.predictor(x[train], x[test])(y[train])
    truth = y[test]
    errors = {"": guess, "mean predictor ": np.broadcast_to(mean, truth.shape)}
    for prefix, said in errors.items():
        near = {"rel": 1e-4, "abs": 1e-5}
        assert row[f"{prefix}mse"] == pytest.approx(np.mean((said - truth) ** 2), **near)  # fmt: skip
        cosines = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in zip(said, truth, strict=True)]  # fmt: skip
        assert row[f"{prefix}cosine"] == pytest.approx(np.mean(cosines), **near)
        wanted = np.nanmean(alignment.r2(said, truth))
        assert row[f"{prefix}r2"] == pytest.approx(wanted, **near)
    assert row["mean predictor centred cosine"] == 0
    a, b = guess - mean, truth - mean
    cosine = a @ b.T / np.sqrt((a**2).sum(1)[:, None] * (b**2).sum(1)[None])
    assert row["centred cosine"] == pytest.approx(np.diag(cosine).mean(), abs=1e-4)
    found = (cosine.argmax(axis=1) == np.arange(len(test))).mean()
    assert row["top-1"] == pytest.approx(found)
    assert row["top-5"] == row["chance top-5"] == 1  # of five test rows


def test_drops_are_against_the_targets_probe_and_the_sources(rows):
    there, back = rows["tiny", "eyes"], rows["eyes", "tiny"]
    for name in ("accuracy", "AUC"):
        assert there[f"source {name}"] == back[f"target {name}"]
        for row in (there, back):
            for end in ("source", "target"):
                drop = 100 * (row[f"{end} {name}"] - row[f"mapped {name}"])
                assert row[f"{name} drop from {end}, pp"] == pytest.approx(drop)


@pytest.fixture
def planted(rng):
    """A zoo in memory: two turned views of one space, and one that knows nothing."""
    n = 400
    z = rng.standard_normal((n, 8))
    turns = [np.linalg.qr(rng.standard_normal((8, 8)))[0] for _ in range(2)]
    x, y = z @ turns[0] + 2, 3 * z @ turns[1] - 1
    views = {"x": x, "y": y, "noise": rng.standard_normal((n, 8))}

    class Planted(zoo.Zoo):
        path = Path("planted")

        def __init__(self):
            pass

        def __getitem__(self, view):
            return views[view]

        def split(self, part):
            return np.arange(300) if part == "train" else np.arange(300, n)

        attributes = property(lambda self: z[:, :2] > 0)

    return Planted()


def test_turned_views_of_one_space_find_each_other(planted):
    rows = {
        (row["source"], row["target"]): row
        for row in alignment.table(planted, ["x", "y", "noise"])
    }
    same, other = rows["x", "y"], rows["noise", "y"]
    for prefix in ("", "procrustes "):
        assert same[f"{prefix}r2"] > 0.999 and same[f"{prefix}top-1"] == 1
        assert other[f"{prefix}r2"] < 0.02 and other[f"{prefix}top-5"] < 0.15
    assert same["relative top-1"] > 0.95 and other["relative top-5"] < 0.15
    assert abs(same["shuffled pairs r2"]) < 0.05 and same["shuffled pairs top-5"] < 0.15
    assert "mapped accuracy" not in same  # nobody was asked


def test_the_figure_has_a_cell_for_each_pair(rows, monkeypatch):
    drawn = {}

    def heatmap(values, names, columns, **labels):
        drawn.update(values=values, names=names, columns=columns)
        return figures.Drawing(b"png", b"svg")

    monkeypatch.setattr(alignment.figures, "heatmap", heatmap)
    assert alignment.figure(list(rows.values())) == (b"png", b"svg")
    assert drawn["names"] == drawn["columns"] == ["tiny", "tiny.x0", "eyes"]
    assert np.isnan(np.diag(drawn["values"])).all()
    assert drawn["values"][2, 0] == rows["eyes", "tiny"]["r2"]


def test_says_what_it_needs(built, monkeypatch):
    opened = zoo.open(built)
    with pytest.raises(UneError, match="two views or more; there is eyes"):
        alignment.table(opened, ["eyes"])
    with pytest.raises(UneError, match="folds is 1; use 2 to 9"):
        alignment.table(opened, ["eyes", "tiny"], folds=1)
    with pytest.raises(UneError, match="2 train and 5 test rows: too few"):
        alignment.table(opened, ["eyes", "tiny"], limit=2)

    flat = latents.flat

    def broken(of):
        x = flat(of)
        x[1, 3] = np.nan
        return x

    monkeypatch.setattr(latents, "flat", broken)
    with pytest.raises(UneError, match="view 'eyes' has values .* column 3"):
        alignment.table(opened, ["eyes", "tiny"])
