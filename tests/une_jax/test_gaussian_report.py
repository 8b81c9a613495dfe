"""What is said about a zoo's views: refused values, and what the controls must show."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from small_zoo import CLIP

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.report import gaussian

PROTOCOL = gaussian.Protocol(projections=200, rows=50)


def build(path, **views):
    """A zoo of encoders that gave these rows."""
    n = len(next(iter(views.values())))
    keys = [f"{i:04d}.jpg" for i in range(n)]
    manifest = zoo.Manifest(
        views=tuple(
            dataclasses.replace(CLIP, name=name, shape=x.shape[1:])
            for name, x in views.items()
        ),
        source=zoo.describe_source("faces", keys, 64),
        row_count=n,
        shard_rows=n,
        attribute_names=(),
    )
    columns = {
        "key": keys,
        "sha256": [hashlib.sha256(key.encode()).hexdigest() for key in keys],
        "status": ["ok"] * n,
        "reason": [""] * n,
        "split": [str(split) for split in zoo.paper_split(n)],
    }
    zoo.create(path, manifest).commit(0, views, pa.table(columns))
    return zoo.open(path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 24)).astype(np.float32)
    heavy = (x * np.exp(rng.standard_normal((300, 1)))).astype(np.float32)
    told = []
    views = build(tmp_path_factory.mktemp("zoo"), plain=x, heavy=heavy)
    table = gaussian.table(views, ["plain", "heavy"], PROTOCOL, done=told.append)
    assert len(told) == len(table) == gaussian.count(["plain", "heavy"])
    return {(row["data"], row["directions"]): row for row in table}


@pytest.mark.parametrize("test", gaussian.SHOWN)
def test_gaussian_rows_are_accepted_at_the_ceiling_and_heavy_ones_are_not(rows, test):
    for directions in gaussian.DIRECTIONS:
        plain, heavy = rows["plain", directions], rows["heavy", directions]
        assert abs(plain[f"{test} %"] - plain[f"{test} ceiling %"]) < 20
        assert heavy[f"{test} %"] < 20
        assert heavy[f"{test} ceiling %"] == plain[f"{test} ceiling %"]
    assert rows["heavy", "random"]["BY rejects %"] > 50
    assert rows["plain", "random"]["BY rejects %"] < 5


def test_errors_are_binomial_and_the_old_table_accepts_more(rows):
    row = rows["plain", "random"]
    p = row["AD %"] / 100
    assert row["tests"] == 200
    assert row["AD s.e."] == pytest.approx(100 * np.sqrt(p * (1 - p) / 200))
    assert row["AD % (scipy<1.17)"] >= row["AD %"]
    assert rows["plain", "coordinates"]["tests"] == 24


def test_what_the_controls_must_show(rows):
    """Signs pass by random directions, not by coordinates; two heaps pass nowhere."""
    signs = "Rademacher coordinates"
    assert rows[signs, "random"]["SW %"] > 60
    assert rows[signs, "coordinates"]["SW %"] == 0
    heaps = [
        rows[name, "random"]["SW %"] for name in gaussian.CONTROLS if "bimodal" in name
    ]
    assert heaps == sorted(heaps, reverse=True) and heaps[-1] < 30
    assert rows["lognormal norms", "random"]["kind"] == "control"


def test_joint_tests_see_the_lengths(tmp_path):
    x = np.random.default_rng(0).standard_normal((300, 24)).astype(np.float32)
    joint = gaussian.joint_table(build(tmp_path, plain=x), ["plain"], PROTOCOL)
    found = {row["data"]: row for row in joint}
    assert abs(found["plain"]["dispersion"] - 1) < 0.4
    assert found["plain"]["Mardia kurtosis p"] > 0.001
    assert found["lognormal norms"]["dispersion"] > 2
    assert found["lognormal norms"]["Mardia kurtosis p"] < 1e-6
    assert found["Rademacher coordinates"]["dispersion"] < 0.5


def test_the_figure_is_drawn(rows):
    assert gaussian.figure(list(rows.values())).png.startswith(b"\x89PNG")


def test_values_without_a_test_are_named(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    unknown, constant = x.copy(), x.copy()
    unknown[7, 2], constant[:, 3] = np.nan, 0.5
    with pytest.raises(
        UneError, match="'eyes' has values that are not finite, .*first in column 2"
    ):
        gaussian.check("eyes", unknown)
    eyes = build(tmp_path, good=x, constant=constant)
    with pytest.raises(UneError, match="view constant: column 3 is constant .of 1 "):
        gaussian.table(eyes, ["constant"], PROTOCOL)
    with pytest.raises(UneError, match="has 40 rows; .*use --rows 40 or fewer"):
        gaussian.table(eyes, ["good"], PROTOCOL)


def test_a_protocol_that_cannot_be_followed_is_named():
    with pytest.raises(UneError, match="subsets of 7 rows; the tests need 8 or more"):
        gaussian.Protocol(rows=7)
    with pytest.raises(UneError, match="0 projections; use 1 or more"):
        gaussian.Protocol(projections=0)


def test_bimodal_rows_are_as_far_apart_as_said():
    x = gaussian.bimodal(jnp.zeros((4, 9)), 2.0)
    lengths = jnp.linalg.norm(x, axis=1)
    np.testing.assert_allclose(lengths, 2 * 3, rtol=1e-6)
    assert jnp.abs(x.mean(axis=0)).max() == 0
    exact = jax.random.normal(jax.random.key(0), (50, 9))
    assert set(np.unique(gaussian.rademacher(exact))) == {-1.0, 1.0}
