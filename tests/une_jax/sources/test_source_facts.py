import doctest
import json

import numpy as np
import pyarrow as pa
import pytest

from une_jax.errors import UneError
from une_jax.sources import celeba, facts, tables
from une_jax.sources.facts import facts_of


def found(table, features=None):
    """Attributes and columns of a table as lists."""
    columns = {name: table[name] for name in table.column_names}
    assert all(map(facts.is_useful, table.schema))
    attributes, others = facts_of(columns, features or {})
    assert all(a.type == pa.bool_() and not a.null_count for a in attributes.values())
    return tuple({k: v.to_pylist() for k, v in d.items()} for d in (attributes, others))


def label(*names):
    return {"_type": "ClassLabel", "names": list(names)}


@pytest.mark.parametrize("module", [facts, tables])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "values",
    [pa.array([True, False, True]), pa.array([1, 0, 1]), pa.array([1, -1, 1], pa.int8()),
     pa.array([1, 0, 1], pa.uint8()), pa.chunked_array([[1], [0, 1]])],
)  # fmt: skip
def test_what_is_yes_or_no_in_every_row_is_an_attribute(values):
    assert found(pa.table({"a": values})) == ({"a": [True, False, True]}, {})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, None]), [True, None]),
        (pa.array([0, 1, 2]), [0, 1, 2]),
        (pa.array([-1, 0, 1]), [-1, 0, 1]),
        (pa.array([1, 1], pa.int8()), [1, 1]),
        (pa.array([0, 1, None]), [0, 1, None]),
        (pa.array([-1.0, 0.5, 1.0]), [-1.0, 0.5, 1.0]),
        (pa.array([0.0, 1.0], pa.float16()), [0.0, 1.0]),
        (pa.array(["a", None, "b"]), ["a", None, "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([2**63 - 1, -(2**63)]), [2**63 - 1, -(2**63)]),
    ],
)
def test_what_is_not_is_a_column_and_keeps_its_nulls(values, expected):
    table = pa.table({"a": values})
    assert found(table) == ({}, {"a": expected})
    types = {int: pa.int64(), float: pa.float32(), str: pa.string(), bool: pa.bool_()}
    assert facts_of({"a": table["a"]}, {})[1]["a"].type == types[type(expected[0])]


def test_labels_of_no_and_yes_are_one_attribute():
    table = pa.table({"a": [0, 1, 1], "b": [1, 1, 1]})
    features = {"a": label("No", "Yes"), "b": label("false", "true")}
    attributes = {"a": [False, True, True], "b": [True, True, True]}
    assert found(table, features) == (attributes, {})


def test_other_labels_are_a_column_of_names_and_an_attribute_each():
    got = found(pa.table({"kind": [2, 0, 0]}), {"kind": label("cat", "dog", "wild")})
    assert got[0] == {
        "cat": [False, True, True],
        "dog": [False, False, False],
        "wild": [True, False, False],
    }
    assert got[1] == {"kind": ["wild", "cat", "cat"]}


def test_many_labels_are_a_column_only():
    few, many = ([str(i) for i in range(n)] for n in (40, 41))
    table = pa.table({"kind": [39, 0]})
    assert len(found(table, {"kind": label(*few)})[0]) == 40
    assert found(table, {"kind": label(*many)}) == ({}, {"kind": ["39", "0"]})


def test_rows_without_a_label_have_null_and_no_row_gets_an_attribute():
    for missing in (-1, None):
        table = pa.table({"kind": [1, missing], "yes": [1, missing]})
        features = {"kind": label("cat", "dog"), "yes": label("no", "yes")}
        columns = {"kind": ["dog", None], "yes": [True, None]}
        assert found(table, features) == ({}, columns)


@pytest.mark.parametrize("wrong", [2, -2, 10**12])
def test_labels_without_a_name_are_refused(wrong):
    with pytest.raises(UneError, match=f"'kind': label {wrong} is none of 2 names"):
        found(pa.table({"kind": [0, wrong]}), {"kind": label("cat", "dog")})


@pytest.mark.parametrize(
    "feature", [None, 3, {}, {"_type": "ClassLabel"}, {"_type": "ClassLabel", "names": 7},
                {"_type": "ClassLabel", "names": [1]}, {"names": ["cat", "dog"]}],
)  # fmt: skip
def test_notes_that_are_no_labels_change_nothing(feature):
    assert found(pa.table({"a": [0, 5]}), {"a": feature}) == ({}, {"a": [0, 5]})


def test_structs_are_flattened():
    rows = [{"Male": True, "age": 30}, {"Male": False, "age": None}]
    got = found(pa.table({"attributes": rows}))
    assert got == ({"Male": [True, False]}, {"age": [30, None]})
    labelled = {"s": {"kind": label("cat", "dog")}}
    got = found(pa.table({"s": [{"kind": 1}, {"kind": 0}]}), labelled)
    assert got[1] == {"kind": ["dog", "cat"]}


def test_a_row_without_its_struct_knows_nothing():
    table = pa.table({"s": [{"Male": True}, None]})
    assert found(table) == ({}, {"Male": [True, None]})


def test_forty_attributes_in_a_list_are_those_of_celeba():
    assert len(celeba.ATTRIBUTE_NAMES) == 40
    values = np.random.default_rng(0).integers(0, 2, (5, 40))
    for coded in (values, values * 2 - 1, values.astype(float), values.astype(bool)):
        got, columns = found(pa.table({"attributes": coded.tolist()}))
        assert tuple(got) == celeba.ATTRIBUTE_NAMES and columns == {}
        assert got["Smiling"] == (values[:, 31] == 1).tolist()
        assert got["Young"] == (values[:, 39] == 1).tolist()


@pytest.mark.parametrize(
    "lists",
    [[[1] * 39, [0] * 39], [[1] * 40, [0] * 41], [[1] * 40, None],
     [[1] * 40, [None] * 40], [[2] * 40, [0] * 40], [[1] * 40, [0] * 39 + [-1]]],
)  # fmt: skip
def test_other_lists_are_left_alone(lists):
    assert found(pa.table({"attributes": lists})) == ({}, {})


@pytest.mark.parametrize(
    "values", [[[1.0]], [b"x"], [{"a": [1]}], pa.array([0], pa.timestamp("s"))]
)
def test_other_types_are_of_no_use(values):
    assert not any(map(facts.is_useful, pa.table({"a": values}).schema))


def test_names_that_would_be_equal_are_given_in_full():
    table = pa.table({"cat": [5, 6], "kind": [0, 1], "other": [1, 0]})
    features = {"kind": label("cat", "dog"), "other": label("dog", "wild")}
    attributes, columns = found(table, features)
    assert list(attributes) == ["kind/cat", "kind/dog", "other/dog", "wild"]
    assert list(columns) == ["cat", "kind", "other"]


def test_names_that_stay_equal_are_refused():
    table = pa.table({"x": [5, 6], "y/x": [7, 8], "y": [0, 1]})
    with pytest.raises(UneError, match="'y/x' is what two columns are called"):
        found(table, {"y": label("x", "z")})


def describe(table, *origins):
    return tables.describe(table, "image", origins or [(None, table.num_rows)])


def paths(*words):
    return [{"path": word} for word in words]


def test_keys_are_the_images_paths_where_these_ascend():
    got = describe(pa.table({"image": paths("a.png", "b.png")}))
    assert got.keys == ["a.png", "b.png"] and got.columns == {}


@pytest.mark.parametrize("name", tables.KEY_COLUMNS)
def test_keys_are_a_column_of_keys_before_paths(name):
    table = pa.table({"image": paths("a.png", "b.png"), name: ["x", "y"]})
    got = describe(table)
    assert got.keys == ["x", "y"]
    assert {k: v.to_pylist() for k, v in got.columns.items()} == {"path": ["a.png", "b.png"]}  # fmt: skip


@pytest.mark.parametrize(
    "words", [("b", "a"), ("a", "a"), ("a", None), ("", "a"), ("/a", "/b"), ("../a", "b")]
)  # fmt: skip
def test_paths_that_do_not_serve_are_a_column_and_keys_are_numbers(words):
    got = describe(pa.table({"image": paths(*words)}))
    assert got.keys == ["000000000", "000000001"]
    assert got.columns["path"].to_pylist() == list(words)


def test_numbers_count_through_each_partition():
    table = pa.table({"image": paths(*"aabbb"), "n": [5, 6, 7, 8, 9]})
    got = describe(table, ("train", 2), ("test", 1), ("test", 2))
    assert got.keys == ["test/000000000", "test/000000001", "test/000000002",
                        "train/000000000", "train/000000001"]  # fmt: skip
    assert got.columns["n"].to_pylist() == [7, 8, 9, 5, 6]
    assert got.columns["partition"].to_pylist() == ["test"] * 3 + ["train"] * 2
    assert got.order.tolist() == [2, 3, 4, 0, 1]


def test_paths_that_two_partitions_share_do_not_serve():
    got = describe(pa.table({"image": paths("a", "a")}), ("train", 1), ("test", 1))
    assert got.keys == ["test/000000000", "train/000000000"]


def test_rows_are_sorted_by_key_with_all_that_is_known_of_them():
    table = pa.table({"image": paths("b", "c", "a"), "Male": [True, False, False]})
    got = describe(table, ("train", 2), ("test", 1))
    assert got.keys == ["a", "b", "c"] and got.order.tolist() == [2, 0, 1]
    assert got.attributes.keys == got.keys
    assert got.attributes.values.tolist() == [[False], [True], [False]]


@pytest.mark.parametrize("name", ["partition", "split"])
def test_a_column_may_say_the_partition_if_no_file_does(name):
    table = pa.table({"image": paths("a", "b", "c"), name: ["val", "train", None]})
    got = describe(table)
    assert {k: v.to_pylist() for k, v in got.columns.items()} == {"partition": ["validation", "train", None]}  # fmt: skip
    got = describe(table, ("test", 3))
    assert got.columns["partition"].to_pylist() == ["test"] * 3


def test_columns_that_a_zoo_has_of_its_own_are_left_out():
    table = pa.table({"image": paths("a"), "sha256": ["x"], "status": ["y"], "split": [7], "partition": [8]})  # fmt: skip
    assert describe(table).columns == {}


def test_repeated_columns_are_refused():
    schema = pa.schema([("image", pa.binary()), ("x", pa.int8()), ("x", pa.int8())])
    with pytest.raises(UneError, match="two columns are named 'x'; rename one"):
        tables.image_column(schema)


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{}", b'{"info": 3}', b'{"info": {"features": []}}', b"\xff",
             b"[" * 10**5, b'{"info": {"features": {"label": [1]}}}'],
)  # fmt: skip
def test_notes_of_strangers_are_ignored_if_they_are_no_notes(note):
    table = pa.table({"image": paths("a", "b"), "label": [0, 5]})
    got = describe(table.replace_schema_metadata({"huggingface": note}))
    assert got.columns["label"].to_pylist() == [0, 5]


def test_the_schema_notes_what_labels_mean():
    note = json.dumps({"info": {"features": {"label": label("cat", "dog")}}})
    table = pa.table({"image": paths("a", "b"), "label": [0, 1]})
    got = describe(table.replace_schema_metadata({"huggingface": note}))
    assert got.columns["label"].to_pylist() == ["cat", "dog"]
    assert got.attributes.names == ("cat", "dog")
