"""Recovery counts the dimensions of z that linear views hold, and no more than those."""

import hashlib

import jax
import numpy as np
import pyarrow as pa
import pytest

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.miniature import factors, truth
from une_jax.report import recovered, recovery

pytestmark = pytest.mark.usefixtures("quick_compiles")
N, WIDTH, SEEN = 600, 40, 16
NOISE = 0.7


def written(folder, drawn):
    """A zoo whose three views look at the first 16 coordinates of z, each with noise."""
    keys, z = [truth.key(i) for i in range(N)], np.asarray(drawn.z)
    rng = np.random.default_rng(0)
    views = tuple(
        zoo.View(
            name=f"v{i}",
            kind="encoder",
            model_id="linear",
            weights_sha256=str(i) * 64,
            config={},
            shape=(WIDTH,),
            dtype="float32",
            settings={},
        )
        for i in range(3)
    )
    looks = rng.standard_normal((3, SEEN, WIDTH)) / np.sqrt(SEEN)
    arrays = {
        view.name: (z[:, :SEEN] @ look + NOISE * rng.standard_normal((N, WIDTH)) + 2)
        for view, look in zip(views, looks, strict=True)
    }
    columns = {
        "key": keys,
        "sha256": [hashlib.sha256(key.encode()).hexdigest() for key in keys],
        "status": ["ok"] * N,
        "reason": [""] * N,
        "split": [str(part) for part in zoo.paper_split(N)],
    }
    attributes = dict(zip(factors.NAMES, np.asarray(drawn.attributes).T, strict=True))
    manifest = zoo.Manifest(
        views=views,
        source=zoo.describe_source("faces", keys, 64),
        row_count=N,
        shard_rows=N,
        attribute_names=factors.NAMES,
    )
    writer = zoo.create(folder, manifest)
    writer.commit(
        0,
        {name: x.astype(np.float32) for name, x in arrays.items()},
        pa.table(columns | attributes),
    )
    writer.fold()
    return zoo.open(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The zoo, and the file of its truth."""
    folder = tmp_path_factory.mktemp("linear")
    drawn = factors.draw(jax.random.key(1), N)
    truth.write(folder / truth.FILE, drawn)
    return written(folder / "zoo", drawn), folder / truth.FILE


@pytest.fixture(scope="module")
def study(made):
    return recovery.prepare(*made, ("v0", "v1", "v2"))


def test_views_recover_what_they_look_at_and_chance_nothing(study):
    found = {r.space: r for r in recovery.by_view(study)}
    assert set(found) == {"v0", "v1", "v2", recovered.SIDE_BY_SIDE, recovered.CONTROL}
    alone, both = found["v0"], found[recovered.SIDE_BY_SIDE]
    assert alone.r2[:SEEN].mean() > 0.6
    assert both.r2[:SEEN].mean() > alone.r2[:SEEN].mean() + 0.05
    for r in found.values():
        assert r.r2[SEEN:].max() < 0.1
        assert (np.diff(r.correlations) <= 0).all()
    assert both.correlations[SEEN - 1] > 0.85 and both.correlations[SEEN] < 0.35
    assert abs(found[recovered.CONTROL].r2.mean()) < 0.05


def test_a_shared_space_holds_them_from_k_equal_to_their_number_on(study):
    found = recovery.by_k(study, (8, 16, 32))
    shared = {r.k: r for r in found if r.space == recovered.SHARED}
    assert [*shared] == [8, 16, 32]
    seen = {k: r.r2[:SEEN].mean() for k, r in shared.items()}
    assert seen[8] < 0.6 < 0.85 < seen[16]
    assert abs(seen[32] - seen[16]) < 0.03
    # Eight codes have eight canonical pairs.
    assert shared[8].correlations[7] > 0.9 and shared[8].correlations[8] == 0
    one = next(r for r in found if r.space == "v1 PCA" and r.k == 16)
    assert one.r2[:SEEN].mean() < seen[16] - 0.05


def test_more_views_and_more_rows_recover_more(made, study):
    found = recovery.by_views(study, k=SEEN)
    assert sorted({r.views for r in found}) == [2, 3]
    mean = {
        v: np.mean([r.r2[:SEEN].mean() for r in found if r.views == v]) for v in (2, 3)
    }
    assert mean[3] > mean[2] + 0.01
    sizes = recovery.sizes_of(study)
    assert sizes[-1] == len(study.z) and sizes == sorted(sizes)
    found = recovery.by_n(study, made[0], (150, sizes[-1]), k=SEEN)
    few, all_ = (r for r in found if r.space == recovered.SHARED)
    assert (few.n, all_.n) == (150, sizes[-1])
    assert few.r2.mean() < all_.r2.mean()


def test_the_table_counts_dimensions_and_the_figure_draws(study):
    found = recovery.by_view(study) + recovery.by_k(study, (16, 32))
    row = next(
        r for r in recovered.table(found) if r["space"] == recovered.SIDE_BY_SIDE
    )
    r = next(r for r in found if r.space == recovered.SIDE_BY_SIDE)
    assert row["R2"] == pytest.approx(r.r2.mean())
    assert row["dimensions"] == pytest.approx(np.maximum(r.r2, 0).sum())
    assert row["R2 attributes"] == pytest.approx(r.r2[:20].mean())
    assert row["R2 nuisances"] == pytest.approx(r.r2[20:].mean())
    assert np.cos(np.radians(row["angle 1"])) == pytest.approx(r.correlations[0])
    assert row["angle 1"] < row["angle 16"] < 40 < 60 < row["angle 32"]
    assert recovered.figure(found).png.startswith(b"\x89PNG")


def test_held_out_correlations_are_planted_ones_and_chance_is_near_zero():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 3))
    y = x * [1, 0.8, 0] + rng.standard_normal((3000, 3)) * [0, 0.6, 1]
    mixed, old, new = (
        x @ rng.standard_normal((3, 3)) + 4,
        slice(2000),
        slice(2000, None),
    )
    got = recovery.held_out(mixed[old], y[old], mixed[new], y[new])
    np.testing.assert_allclose(got, [1, 0.8, 0], atol=0.06)
    one = recovery.held_out(mixed[old, :1], mixed[old], mixed[new, :1], mixed[new])
    np.testing.assert_allclose(one, [1, 0, 0], atol=1e-6)
    # In sample, 40 columns of chance would reach 0.8 here.
    x, y = rng.standard_normal((2, 300, 40))
    assert abs(recovery.held_out(x[:200], y[:200], x[200:], y[200:]).mean()) < 0.1


def test_another_zoos_truth_is_refused(made, tmp_path):
    opened, _ = made
    truth.write(tmp_path / truth.FILE, factors.draw(jax.random.key(2), N))
    with pytest.raises(UneError, match="is not the truth of"):
        recovery.prepare(opened, tmp_path / truth.FILE, ("v0", "v1"))
