"""The rows of richer zoos: what is measured, prompts, further columns, no hashes."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import CLIP, SD

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import rows

KEYS = ["a.jpg", "b.jpg", "c.jpg"]
PROMPTS = ["", "a face\nwith a hat", "ein Gesicht – \N{SLIGHTLY SMILING FACE}"]
COLUMNS = {
    "partition": "string",
    "identity": "int64",
    "age": "float32",
    "adult": "bool",
}


def view(name, kind="generator", **settings):
    return dataclasses.replace(SD, name=name, kind=kind, settings=settings)


VIEWS = (
    view("plain"),
    view("none", round_trip="none"),
    view("latent", round_trip="latent"),
    view("pixels", round_trip="pixels"),
    view("pixels.before", "code", round_trip="pixels"),
    view("pixels.x0", "control"),
    CLIP,
)
MANIFEST = zoo.Manifest(
    views=VIEWS,
    source=zoo.describe_source(
        "faces", KEYS, 64, kind="parquet", columns=COLUMNS, prompts=PROMPTS
    ),
    row_count=3,
    shard_rows=2,
    attribute_names=("Male",),
)
MEASURED = (
    "residual/plain",
    "residual/none",
    "residual/latent",
    "round_trip/latent",
    "residual/pixels",
    "round_trip/pixels",
    "psnr/pixels",
)


def table_of(span, manifest=MANIFEST, **changed):
    n = len(span)
    columns = {
        "key": KEYS[span.start : span.stop],
        "sha256": ["0" * 64] * n,
        "status": ["ok"] * n,
        "reason": [""] * n,
        "split": zoo.paper_split(3, span),
        "Male": [None] * n,
        "partition": ["train", None, "test"][span.start : span.stop],
        "identity": [None, 2**40, -1][span.start : span.stop],
        "age": [None, 0.5, 99.0][span.start : span.stop],
        "adult": [None, False, True][span.start : span.stop],
        "prompt": PROMPTS[span.start : span.stop],
        **{name: [None, 0.25, 1e-9][span.start : span.stop] for name in MEASURED},
        **changed,
    }
    schema = zoo.schema(manifest)
    return pa.table({name: columns[name] for name in schema.names}, schema)


def build(path, manifest=MANIFEST, **changed):
    made = zoo.create(path, manifest)
    for i in made.pending():
        span = made.rows_of(i)
        arrays = {
            v.name: np.ones((len(span), *v.shape), zoo.manifest.DTYPES[v.dtype])
            for v in manifest.views
        }
        made.commit(i, arrays, table_of(span, manifest, **changed))
    made.fold()
    return path


def test_the_columns_come_in_their_order_with_their_types():
    assert [(f.name, str(f.type), f.nullable) for f in zoo.schema(MANIFEST)] == [
        *((name, "string", False) for name in ("key", "sha256", "status")),
        *((name, "string", False) for name in ("reason", "split")),
        ("Male", "bool", True),
        ("adult", "bool", True),
        ("age", "float", True),
        ("identity", "int64", True),
        ("partition", "string", True),
        ("prompt", "string", False),
        *((name, "float", True) for name in MEASURED),
    ]
    assert MANIFEST.measures == MEASURED and list(MANIFEST.columns.items()) == sorted(
        COLUMNS.items()
    )


def test_what_is_written_comes_back(tmp_path):
    opened = zoo.open(build(tmp_path))
    assert zoo.verify(tmp_path) == []
    assert opened.rows.to_pylist() == table_of(range(3)).to_pylist()
    assert opened["pixels.before"].shape == (3, 4, 2, 2)


def test_other_prompts_are_named(tmp_path):
    source = {**MANIFEST.source, "prompts_sha256": "0" * 64}
    build(tmp_path, dataclasses.replace(MANIFEST, source=source))
    problem = "rows: the prompts are not those of the manifest's source"
    assert zoo.verify(tmp_path) == [problem]


def test_prompts_that_differ_in_line_breaks_alone_differ():
    one, two = (
        zoo.describe_source("faces", ["a", "b"], 64, prompts=prompts)
        for prompts in (["x\ny", ""], ["x", "y"])
    )
    assert one["prompts_sha256"] != two["prompts_sha256"]


def test_a_source_says_only_what_there_is_to_say():
    assert zoo.describe_source("faces", KEYS, None) == {
        "folder": "faces",
        "images": 3,
        "keys_sha256": zoo.manifest.keys_sha256(KEYS),
        "kind": "folder",
        "size": None,
    }
    assert zoo.describe_source("faces", KEYS, 64, hashed=False)["hashed"] is False


def test_ok_rows_have_no_hash_only_where_there_were_no_files(tmp_path):
    whole = dataclasses.replace(MANIFEST, shard_rows=3)
    with pytest.raises(UneError, match="row 0 .*: '' is no sha256 .and 1 more"):
        build(tmp_path / "a", whole, sha256=["", "", "0" * 64])
    source = {**MANIFEST.source, "hashed": False}
    imported = dataclasses.replace(whole, source=source)
    build(tmp_path / "b", imported, sha256=["", "0" * 64, ""])
    assert zoo.verify(tmp_path / "b") == []
    with pytest.raises(UneError, match="row 1 .*: 'x' is no sha256"):
        build(tmp_path / "c", imported, sha256=["", "x", ""])


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_measured_is_finite(tmp_path, name, value):
    whole = dataclasses.replace(MANIFEST, shard_rows=3)
    with pytest.raises(UneError, match=f"column {name} has NaN or infinity"):
        build(tmp_path, whole, **{name: [0.5, None, value]})


def test_a_column_of_another_type_is_refused(tmp_path):
    table = table_of(range(2))
    place = table.column_names.index("identity")
    wrong = table.set_column(place, "identity", pa.array(["1", "2"]))
    with pytest.raises(UneError, match="column identity is string, not int64"):
        rows.conform(wrong, MANIFEST)
