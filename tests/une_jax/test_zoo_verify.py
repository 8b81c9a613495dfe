import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import KEYS, MANIFEST, SD, arrays_of, build, contents, table_of

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import writer


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
    for name in ["shards/00002.safetensors", "rows/.une-tmp-1", "notes.txt", ".x/y"]:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"")
    before = contents(path)
    assert zoo.verify(path) == [
        "manifest.json: unfinished, 4 of 10 rows (1 of 3 shards) are committed; "
        "run the build again",
        ".x/y: no part of the zoo; move it elsewhere",
        "notes.txt: no part of the zoo; move it elsewhere",
        "rows/.une-tmp-1: left by a killed build; the next one removes it",
        "shards/00002.safetensors: not committed; the next build writes it again",
    ]
    assert contents(path) == before


def test_what_is_no_zoo_is_refused(tmp_path):
    with pytest.raises(UneError, match="no NoiseZoo"):
        zoo.verify(tmp_path)


@pytest.fixture
def unchecked(monkeypatch):
    """Commits whatever it is given, as a faulty program might."""
    monkeypatch.setattr(
        writer, "_checked", lambda manifest, index, arrays, table: table
    )

    def commit_one(path, arrays, table, manifest=MANIFEST):
        made = zoo.create(path, manifest)
        for i in made.pending():
            rows = made.rows_of(i)
            if i == 1:
                made.commit(i, arrays, table)
            else:
                made.commit(i, arrays_of(rows), table_of(rows))
        return zoo.verify(path)

    return commit_one


def rows_with(column, values):
    table = table_of(range(4, 8))
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, table.column(column).type))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows_with("status", ["ok", "ok", "ok", "fine"]), "status is 'fine'"),
        (rows_with("reason", ["", "", "", ""]), "status failed with reason ''"),
        (rows_with("split", ["test"] * 4), "not the paper's split"),
        (rows_with("sha256", ["x"] * 4), "'x' is no sha256"),
        (rows_with("residual/mini-sd", [np.inf] * 4), "has NaN or infinity"),
        (rows_with("key", ["a", "a", "b", "c"]), "a key is there twice"),
        (table_of(range(4, 7)), "3 rows, not 4"),
        (table_of(range(4, 8)).drop_columns("Male"), "columns are"),
    ],
)
def test_inconsistent_rows_are_named(tmp_path, unchecked, table, message):
    problems = unchecked(tmp_path, arrays_of(range(4, 8)), table)
    assert problems[0].startswith("rows/00001.parquet: ")
    assert message in " ".join(problems)


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (0, np.nan, "mini-sd: NaN or infinity in ok rows 0"),
        (1, 1.0, "mini-sd: failed rows 1 are not zero"),
    ],
)
def test_rows_that_contradict_their_status_are_named(
    tmp_path, unchecked, row, value, message
):
    arrays = {name: array.copy() for name, array in arrays_of(range(4, 8)).items()}
    arrays["mini-sd"][row, 0, 0, 0] = value
    problems = unchecked(tmp_path, arrays, table_of(range(4, 8)))
    assert problems == [f"shards/00001.safetensors: {message}"]


def test_tensors_of_another_shape_are_named(tmp_path, unchecked):
    arrays = arrays_of(range(4, 8))
    arrays["mini-sd"] = arrays["mini-sd"].reshape(4, 2, 4, 2)
    problems = unchecked(tmp_path, arrays, table_of(range(4, 8)))
    assert len(problems) == 1
    assert problems[0].startswith("shards/00001.safetensors: mini-sd: shape")


def test_a_key_in_two_shards_is_named(tmp_path, unchecked):
    table = rows_with("key", [KEYS[0], *KEYS[5:8]])
    problems = unchecked(tmp_path, arrays_of(range(4, 8)), table)
    assert problems == ["rows: 1 keys are in more than one row"]


def test_keys_of_other_images_are_named(tmp_path, unchecked):
    table = rows_with("key", ["other.jpg", *KEYS[5:8]])
    problems = unchecked(tmp_path, arrays_of(range(4, 8)), table)
    assert problems == ["rows: the keys are not those of the manifest's source"]


def test_settings_changed_by_hand_are_named(path):
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"steps": 50', b'"steps": 20'))
    assert zoo.verify(path) == [
        "manifest.json: altered: the content does not match its own sha256"
    ]
    assert dataclasses.replace(SD).settings["steps"] == 50
