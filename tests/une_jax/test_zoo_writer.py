import dataclasses
import os
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
from small_zoo import (
    CLIP,
    MANIFEST,
    SD,
    arrays_of,
    build,
    commit,
    contents,
    latents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import rows


def test_shards_may_be_committed_in_any_order(tmp_path):
    expected = contents(build(tmp_path / "a"))
    assert contents(build(tmp_path / "b", [2, 0, 1])) == expected


def test_pending_are_the_shards_not_committed(tmp_path):
    made = zoo.create(tmp_path, MANIFEST)
    assert made.pending() == [0, 1, 2]
    commit(made, 1)
    assert made.pending() == [0, 2]
    assert zoo.create(tmp_path, MANIFEST).pending() == [0, 2]
    assert made.rows_of(2) == range(8, 10)


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path):
    build(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_other_libraries_read_the_files(tmp_path):
    build(tmp_path)
    with safetensors.safe_open(tmp_path / "shards/00001.safetensors", "np") as file:
        assert sorted(file.keys()) == ["mini-clip", "mini-sd", "mini.dino"]
        np.testing.assert_array_equal(file.get_tensor("mini-sd"), latents(SD)[4:8])
    table = pq.read_table(tmp_path / "rows/00001.parquet")
    assert table.to_pylist() == table_of(range(4, 8)).to_pylist()
    assert table.column_names == [
        "key",
        "sha256",
        "status",
        "reason",
        "split",
        "Male",
        "Smiling",
        "residual/mini-sd",
    ]


def test_neither_strides_nor_chunks_change_the_bytes(tmp_path):
    expected = contents(build(tmp_path / "a", [0]))
    made = zoo.create(tmp_path / "b", MANIFEST)
    span = made.rows_of(0)
    arrays = {
        name: np.asfortranarray(array)
        for name, array in reversed(arrays_of(span).items())
    }
    chunked = pa.concat_tables([table_of(range(0, 3)), table_of(range(3, 4))])
    made.commit(0, arrays, chunked)
    made.fold()
    assert contents(tmp_path / "b") == expected


def test_other_settings_are_refused_and_listed(tmp_path):
    before = contents(build(tmp_path, [0]))
    sd = dataclasses.replace(SD, settings={**SD.settings, "steps": 20})
    asked = dataclasses.replace(MANIFEST, views=(sd, *MANIFEST.views[1:]))
    message = "views.mini-sd.settings.steps: 50 in the zoo, 20 asked"
    with pytest.raises(UneError, match=message):
        zoo.create(tmp_path, asked)
    assert contents(tmp_path) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UneError, match="not empty"):
        zoo.create(tmp_path, MANIFEST)
    assert contents(tmp_path) == {"thesis.tex": b"all my work"}
    with pytest.raises(UneError, match="is a file"):
        zoo.create(tmp_path / "thesis.tex", MANIFEST)
    with pytest.raises(UneError, match="cannot make folder"):
        zoo.create(tmp_path / "thesis.tex" / "zoo", MANIFEST)


def test_a_place_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(UneError, match="cannot use .*File name too long"):
        zoo.create(tmp_path / ("x" * 300), MANIFEST)


def test_a_manifest_that_lists_shards_is_no_new_zoo(tmp_path):
    listing = zoo.open(build(tmp_path / "a")).manifest
    with pytest.raises(UneError, match="a new zoo has no shards"):
        zoo.create(tmp_path / "b", listing)
    assert not (tmp_path / "b").exists()


def test_a_damaged_manifest_is_not_overwritten(tmp_path):
    build(tmp_path, [0])
    (tmp_path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(UneError, match="manifest.json: format_version"):
        zoo.create(tmp_path, MANIFEST)
    assert (tmp_path / "manifest.json").read_bytes() == b"{}"


def test_long_tables_do_not_depend_on_their_chunks():
    size = 30_000  # several pages
    draws = np.random.default_rng(0).random(size)
    whole = pa.table(
        {
            "key": [f"{i:060d}.jpg" for i in range(size)],
            "Male": pa.array(draws < 0.5, mask=draws > 0.9),
        }
    )
    parts = [whole.slice(i, 700) for i in range(0, size, 700)]
    assert rows.encode(pa.concat_tables(parts)) == rows.encode(whole)


def wrong(column, values, type=None):
    """Rows 0 to 3 with one column changed."""
    table = table_of(range(4))
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, type))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of(range(3)), "3 rows, not 4"),
        (table_of(range(4)).drop_columns("Male"), "columns are"),
        (table_of(range(4)).append_column("x", pa.array([1] * 4)), "columns are"),
        (table_of(range(4)).select([1, 0, *range(2, 8)]), "columns are"),
        (wrong("Male", [1, 0, 1, 0]), "column Male is int64, not bool"),
        (wrong("residual/mini-sd", [0.0] * 4), "is double, not float"),
        (wrong("key", ["a", None, "b", "c"]), "column key has nulls"),
        (wrong("key", ["a", "", "b", "c"]), "row 1 .*: its key is empty"),
        (wrong("key", ["a", "b", "c", "d\n"]), "row 3 .*has a line break"),
        (wrong("key", ["a", "b", "b", "c"]), "a key is there twice"),
        (wrong("status", ["ok", "ok", "fine", "ok"]), "row 2 .*status 'fine', none of"),
        (
            wrong("reason", ["why", "", "truncated", ""]),
            "row 0 .*status 'ok' with reason 'why'",
        ),
        (wrong("reason", [""] * 4), "row 2 .*status 'failed' with reason ''"),
        (wrong("status", ["ok"] * 3 + ["skipped"]), "row 2 .*(and 1 more rows)"),
        (wrong("sha256", ["", "", "", ""]), "row 0 .*'' is no sha256"),
        (wrong("split", ["train"] * 4), "not the paper's split"),
        (wrong("residual/mini-sd", [np.nan] * 4, pa.float32()), "has NaN"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_written(tmp_path, table, message):
    made = zoo.create(tmp_path, MANIFEST)
    before = contents(tmp_path)
    with pytest.raises(UneError, match=f"^(shard 0: )?.*{message}"):
        made.commit(0, arrays_of(range(4)), table)
    assert contents(tmp_path) == before


def spoilt(name, change):
    arrays = {name: array.copy() for name, array in arrays_of(range(4)).items()}
    arrays[name] = change(arrays[name])
    return arrays


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mini-sd": latents(SD)[:4]}, "views are"),
        ({**arrays_of(range(4)), "more": latents(CLIP)[:4]}, "views are"),
        (
            spoilt("mini-sd", lambda a: a[:3]),
            r"mini-sd: expected float16 \(4, 4, 2, 2\)",
        ),
        (spoilt("mini-clip", lambda a: a.astype(np.float64)), "got float64"),
        (spoilt("mini-clip", lambda a: a.astype(">f4")), "got >f4"),
        (spoilt("mini-sd", put((1, 0, 0, 0), np.nan)), "mini-sd: NaN .* ok rows 1$"),
        (spoilt("mini.dino", put((3, 0), np.inf)), "mini.dino: .* ok rows 3$"),
        (
            spoilt("mini-sd", put((2, 0, 0, 0), 1)),
            "mini-sd: rows 2 are not ok, yet not zero",
        ),
        (spoilt("mini.dino", put((2, 0), 1)), "mini.dino: rows 2 are not ok"),
    ],
)
def test_wrong_arrays_are_refused_and_nothing_is_written(tmp_path, arrays, message):
    made = zoo.create(tmp_path, MANIFEST)
    before = contents(tmp_path)
    with pytest.raises(UneError, match=message):
        made.commit(0, arrays, table_of(range(4)))
    assert contents(tmp_path) == before


def test_the_papers_split_has_the_papers_counts_and_the_authors_order():
    split = zoo.paper_split(19_867)
    assert (split == "train").sum() == 15_893 and (split == "test").sum() == 3_974
    np.random.seed(42)  # the authors' way
    order = np.arange(19_867)  # of int64
    np.random.shuffle(order)
    assert set(np.flatnonzero(split == "train")) == set(order[:15_893])
    for rows_ in (range(0), range(3, 9), range(19_867), [], [5, 3]):
        assert zoo.paper_split(19_867, rows_).tolist() == split[rows_].tolist()


def test_the_split_of_millions_is_computed_once_and_kept_small():
    zoo.paper_split(1_000_000, range(3))
    tracemalloc.start()
    try:
        zoo.paper_split(1_000_000, range(999_000, 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
