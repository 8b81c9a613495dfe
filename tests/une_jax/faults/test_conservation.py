"""Rows in = ok + failed + skipped, whatever became of each of them."""

import dataclasses
import json

import flips
import light
import little
import numpy as np
import pyarrow as pa
import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import sealed
from une_jax.zoo.manifest import STATUSES, record_name, table_name

ASKED = little.manifest()
fates = st.lists(
    st.sampled_from(STATUSES), min_size=ASKED.row_count, max_size=ASKED.row_count
)


def with_fates(index, statuses):
    """A shard whose rows have these statuses."""
    table = little.table(little.SIZE, index, 1)
    for name, values in {
        "status": statuses,
        "reason": ["" if s == "ok" else "so it went" for s in statuses],
    }.items():
        column = pa.array(values, pa.string())
        table = table.set_column(table.column_names.index(name), name, column)
    ok = np.array([s == "ok" for s in statuses])
    arrays = {
        view.name: np.broadcast_to(
            ok.reshape(-1, *(1 for _ in view.shape)), (len(ok), *view.shape)
        ).astype(view.dtype)
        for view in ASKED.views
    }
    return arrays, table


@settings(max_examples=effort(15, 2000))
@given(statuses=fates, again=fates)
def test_every_row_is_counted_once(statuses, again):
    with light.scratch() as folder:
        writer = zoo.create(folder, ASKED)
        for turn in (statuses, again):
            for index in range(ASKED.shard_count):
                span = ASKED.rows_of(index)
                content = with_fates(index, turn[span.start : span.stop])
                writer.commit(index, *content, replace=turn is again)
            shards = zoo.open(folder).manifest.shards
            for shard, index in zip(shards, range(ASKED.shard_count), strict=True):
                span = ASKED.rows_of(index)
                part = turn[span.start : span.stop]
                counted = (shard.ok, shard.failed, shard.skipped)
                assert counted == tuple(part.count(s) for s in STATUSES)
                assert sum(counted) == shard.rows == len(span)
            assert zoo.verify(folder) == []
        opened = zoo.open(folder)
        assert opened.all_rows.column("status").to_pylist() == again
        assert len(opened["sd"]) == len(opened.keys) == again.count("ok")


@pytest.mark.parametrize(
    "counts",
    [
        {"ok": 2, "failed": 0, "skipped": 0},  # of 1, 1, 0
        {"ok": 0, "failed": 0, "skipped": 2},
        {"ok": 1, "failed": 0, "skipped": 1},
        {"ok": 3, "failed": -1, "skipped": 0},
        {"ok": 2, "failed": 1, "skipped": 0, "rows": 3},
    ],
)
def test_a_record_that_counts_otherwise_is_found_out(tmp_path, counts):
    """It may be sealed, and its numbers may add up: the rows say what is true."""
    path = tmp_path / "zoo"
    zoo.create(path, ASKED)
    little.commit(zoo.Writer(path), 0)
    record = json.loads((path / record_name(0)).read_bytes())
    del record["sha256"]
    assert (record["ok"], record["failed"], record["skipped"]) == (1, 1, 0)
    (path / record_name(0)).write_bytes(sealed.to_bytes(record | counts))
    problems = [p for p in zoo.verify(path) if "unfinished" not in p]
    assert len(problems) == 1
    assert problems[0].startswith((f"{record_name(0)}: ", f"{table_name(0)}: "))
    for answer in flips.read(path).values():
        assert not isinstance(answer, str), answer


@pytest.mark.parametrize("field", ["ok", "failed", "skipped", "rows"])
def test_a_shard_whose_counts_do_not_add_up_is_none(tmp_path, field):
    zoo.create(tmp_path, ASKED)
    little.commit(zoo.Writer(tmp_path), 0)
    (shard,) = zoo.open(tmp_path).manifest.shards
    with pytest.raises(UneError, match="shards.0"):
        dataclasses.replace(shard, **{field: getattr(shard, field) + 1})


@pytest.mark.parametrize("change", ["lose", "repeat", "no latents"])
def test_rows_that_are_not_those_asked_for_are_not_committed(tmp_path, change):
    writer = zoo.create(tmp_path, ASKED)
    before = little.tree(tmp_path)
    arrays, table = little.arrays(little.SIZE, 0), little.table(little.SIZE, 0)
    match change:
        case "lose":
            table = table.slice(1)
        case "repeat":
            table = pa.concat_tables([table, table.slice(1)])
        case "no latents":
            arrays = {name: values[:1] for name, values in arrays.items()}
    with pytest.raises(UneError, match="^shard 0: "):
        writer.commit(0, arrays, table)
    assert little.tree(tmp_path) == before


def test_rows_of_another_shard_are_found_out_in_the_end(tmp_path):
    writer = zoo.create(tmp_path, ASKED)
    for index in range(ASKED.shard_count):
        arrays, table = with_fates(index, ["ok"] * len(ASKED.rows_of(index)))
        if index == 2:
            place = table.column_names.index("key")
            keys = little.table(little.SIZE, 1).column("key")
            table = table.set_column(place, "key", keys)
        writer.commit(index, arrays, table)
    assert zoo.verify(tmp_path) == [
        "rows: 2 keys are in more than one row: '002.jpg', '003.jpg'"
    ]
