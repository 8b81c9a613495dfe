import dataclasses
import hashlib
import shutil

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import (
    KEYS,
    SD,
    all_ok,
    arrays_of,
    build,
    contents,
    table_of,
)

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import codec, keys, rows, tensors


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def path(built, tmp_path):
    return shutil.copytree(built, tmp_path / "zoo")


def test_a_sound_zoo_has_no_problems(path):
    assert zoo.verify(path) == []
    assert zoo.verify(str(path)) == []


@pytest.mark.parametrize(
    "name", ["manifest.json", "shards/00001.safetensors", "rows/00002.parquet"]
)
def test_a_flipped_byte_is_named(path, name):
    data = (path / name).read_bytes()
    for i in range(0, len(data), 11):
        (path / name).write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        problems = zoo.verify(path)
        assert len(problems) == 1 and problems[0].startswith(f"{name}: "), (i, problems)
    (path / name).write_bytes(data)
    assert zoo.verify(path) == []


@pytest.mark.parametrize("shard", range(3))
def test_a_flipped_byte_of_a_record_is_named(tmp_path, shard):
    path = build(tmp_path, fold=False)
    name = f"commits/{shard:05d}.json"
    data = (path / name).read_bytes()
    for i in range(shard, len(data), 19):
        (path / name).write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        problems = zoo.verify(path)
        assert len(problems) == 1 and problems[0].startswith(f"{name}: "), (i, problems)
        assert "remove it, and the next build" in problems[0]
        with pytest.raises(UneError, match=name):
            zoo.open(path)
    (path / name).unlink()
    assert zoo.verify(build(path)) == []


@pytest.mark.parametrize("name", ["shards/00001.safetensors", "rows/00001.parquet"])
def test_missing_and_cut_files_are_named(path, name):
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:-1])
    assert zoo.verify(path) == [
        f"{name}: {len(data) - 1} bytes, not {len(data)}; restore the file"
    ]
    (path / name).unlink()
    assert zoo.verify(path) == [
        f"{name}: cannot read (No such file or directory); restore the file"
    ]


def test_swapped_shards_are_named(path):
    a, b = path / "shards/00000.safetensors", path / "shards/00001.safetensors"
    a.rename(path / "x")
    b.rename(a)
    (path / "x").rename(b)
    assert [problem.split(":")[0] for problem in zoo.verify(path)] == [
        "shards/00000.safetensors",
        "shards/00001.safetensors",
    ]


def test_strays_are_named_each_by_its_kind(tmp_path):
    path = build(tmp_path, [0])
    for name in [
        "shards/00002.safetensors",
        "shards/00003.safetensors",
        "shards/00001.parquet",
        "rows/.une-tmp-1",
        "commits/x.json",
        "notes.txt",
        ".x/y",
    ]:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"")
    before = contents(path)
    assert zoo.verify(path) == [
        "manifest.json: unfinished, 4 of 10 rows (1 of 3 shards) are committed; "
        "run the build again",
        ".x/y: no part of the zoo; move it elsewhere",
        "commits/x.json: no part of the zoo; move it elsewhere",
        "notes.txt: no part of the zoo; move it elsewhere",
        "rows/.une-tmp-1: left by a killed build; the next one removes it",
        "shards/00001.parquet: no part of the zoo; move it elsewhere",
        "shards/00002.safetensors: not committed; the next build writes it again",
        "shards/00003.safetensors: no part of the zoo; move it elsewhere",
    ]
    assert contents(path) == before


def test_records_that_are_sound_are_no_problem(tmp_path):
    path = build(tmp_path, fold=False)
    assert zoo.verify(path) == []
    records = contents(path / "commits")
    build(path, [])
    (path / "commits").mkdir()
    for name, data in records.items():  # as if killed before they were removed
        (path / "commits" / name).write_bytes(data)
    assert zoo.verify(path) == []


def test_a_record_that_contradicts_the_manifest_is_named(tmp_path):
    path = build(tmp_path)
    shard = codec.load(path).shards[0]
    other = dataclasses.replace(shard, ok=shard.ok - 1, skipped=1)
    (path / "commits").mkdir()
    record = path / "commits/00000.json"
    record.write_bytes(codec.record_to_bytes(other))
    problem = "differs from manifest.json; remove it to keep the manifest's"
    assert zoo.verify(path) == [f"commits/00000.json: {problem}"]
    for ask in (zoo.open, lambda path: build(path, [])):
        with pytest.raises(UneError, match=f"commits/00000.json: {problem}"):
            ask(path)
    record.unlink()
    assert zoo.verify(build(path, [])) == []


@pytest.mark.parametrize("name", ["commits/00001.json", "commits/0.json"])
def test_a_record_under_another_name_is_named(tmp_path, name):
    path = build(tmp_path, [0], fold=False)
    (path / "commits/00000.json").rename(path / name)
    assert (
        f"{name}: is of shard 0; remove it, and the next build computes the shard again"
        in zoo.verify(path)
    )


def test_records_that_cannot_be_read_are_named(tmp_path):
    path = build(tmp_path)
    (path / "commits").write_bytes(b"")
    for ask in (zoo.open, zoo.verify, lambda path: build(path, [])):
        with pytest.raises(UneError, match="commits: cannot read .Not a directory"):
            ask(path)


def test_a_record_of_another_zoo_is_named(tmp_path):
    path = build(tmp_path, [0], fold=False)
    record = path / "commits/00000.json"
    shard = codec.load(path).shards[0]
    longer = dataclasses.replace(shard, rows=5, ok=shard.ok + 1)
    record.write_bytes(codec.record_to_bytes(longer))
    assert [p for p in zoo.verify(path) if p.startswith("commits/")] == [
        "commits/00000.json: shards.0 does not fit row_count and shard_rows; "
        "remove it, and the next build computes the shard again"
    ]


def test_what_is_no_zoo_is_refused(tmp_path):
    with pytest.raises(UneError, match="no NoiseZoo"):
        zoo.verify(tmp_path)


def file_at(path, name, data):
    (path / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return zoo.File(name=name, bytes=len(data), sha256=digest)


@pytest.fixture
def unchecked(tmp_path):
    """A zoo whose shard 1 holds whatever is given, as from a faulty program."""

    def commit_one(arrays, table, **counts):
        path = build(tmp_path, [0, 1, 2])
        manifest = codec.load(path)
        shard = dataclasses.replace(
            manifest.shards[1],
            tensors=file_at(path, "shards/00001.safetensors", tensors.encode(arrays)),
            table=file_at(path, "rows/00001.parquet", rows.encode(table)),
            **counts,
        )
        data = codec.to_bytes(manifest.with_shards([shard]))
        (path / "manifest.json").write_bytes(data)
        return zoo.verify(path)

    return commit_one


def rows_with(column, values):
    table = table_of(range(4, 8))
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, table.column(column).type))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            rows_with("status", ["ok", "ok", "ok", "fine"]),
            "status 'fine', none of ok, failed, skipped",
        ),
        (
            rows_with("reason", ["", "", "", ""]),
            "('folder/005.jpg'): status 'failed' with reason ''",
        ),
        (rows_with("split", ["test"] * 4), "not the paper's split"),
        (rows_with("sha256", ["x"] * 4), "'x' is no sha256"),
        (rows_with("residual/mini-sd", [np.inf] * 4), "has NaN or infinity"),
        (rows_with("key", ["a", "a", "b", "c"]), "a key is there twice"),
        (table_of(range(4, 7)), "3 rows, not 4"),
        (table_of(range(4, 8)).drop_columns("Male"), "columns are"),
        (
            all_ok(table_of(range(4, 8))),
            "has 4 ok, 0 failed, 0 skipped; in the manifest 3 ok, 1 failed, 0 skipped",
        ),
    ],
)
def test_inconsistent_rows_are_named(unchecked, table, message):
    problems = unchecked(arrays_of(range(4, 8)), table)
    assert problems[0].startswith("rows/00001.parquet: ")
    assert message in " ".join(problems)


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (0, np.nan, "mini-sd: NaN or infinity in ok rows 0"),
        (1, 1.0, "mini-sd: rows 1 are not ok, yet not zero"),
    ],
)
def test_rows_that_contradict_their_status_are_named(unchecked, row, value, message):
    arrays = {name: array.copy() for name, array in arrays_of(range(4, 8)).items()}
    arrays["mini-sd"][row, 0, 0, 0] = value
    problems = unchecked(arrays, table_of(range(4, 8)))
    assert problems == [f"shards/00001.safetensors: {message}"]


def test_tensors_of_another_shape_are_named(unchecked):
    arrays = arrays_of(range(4, 8))
    arrays["mini-sd"] = arrays["mini-sd"].reshape(4, 2, 4, 2)
    problems = unchecked(arrays, table_of(range(4, 8)))
    assert len(problems) == 1
    assert problems[0].startswith("shards/00001.safetensors: mini-sd: shape")


def test_a_key_in_two_shards_is_named(unchecked):
    table = rows_with("key", [KEYS[0], *KEYS[5:8]])
    problems = unchecked(arrays_of(range(4, 8)), table)
    assert problems == [
        "rows: 1 keys are in more than one row: 'folder/000.jpg'",
    ]


def test_keys_that_only_look_alike_are_no_problem(path, monkeypatch):
    monkeypatch.setattr(keys, "hash", lambda _: 0, raising=False)
    assert zoo.verify(path) == []


def test_keys_of_other_images_are_named(unchecked):
    table = rows_with("key", ["other.jpg", *KEYS[5:8]])
    problems = unchecked(arrays_of(range(4, 8)), table)
    assert problems == ["rows: the keys are not those of the manifest's source"]


def test_settings_changed_by_hand_are_named(path):
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"steps": 50', b'"steps": 20'))
    assert zoo.verify(path) == [
        "manifest.json: altered: the content does not match its own sha256"
    ]
    assert dataclasses.replace(SD).settings["steps"] == 50
