"""Manifests, records and shards that were made to do harm: the error is ours.

All that can be sealed is sealed again, so that it is not the seal alone that holds.
"""

import io
import json
import struct

import hostile
import light
import little
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st

from une_jax.zoo.manifest import record_name, table_name, tensors_name

with light.scratch() as _folder:
    _path = little.Path(_folder, "zoo")
    hostile.build(_path)
    FILES = {n: data for n, data in little.tree(_path).items() if data is not None}


@pytest.fixture(scope="module")
def path():
    """A dataset, which `planted` puts right again."""
    with light.scratch() as folder:
        path = little.Path(folder, "zoo")
        hostile.build(path)
        yield path


@pytest.fixture(scope="module")
def survives(path):
    """Puts files in place of the dataset's and tells what is said of it then."""

    def attack(**files: bytes):
        try:
            hostile.plant(path, **files)
            return hostile.survive(path)
        finally:
            for name, data in FILES.items():
                (path / name).write_bytes(data)

    return attack


def body(name):
    content = json.loads(FILES[name])
    del content["sha256"]
    return json.dumps(content)


@pytest.mark.parametrize("name", ["manifest.json", record_name(1)])
@settings(max_examples=effort(40, 10_000))
@given(data=st.data())
def test_altered_and_sealed_again(path, name, data):
    content = data.draw(hostile.altered(body(name)))
    try:
        (path / name).write_bytes(hostile.spelt(content))
        hostile.survive(path)
    finally:
        (path / name).write_bytes(FILES[name])


def test_what_is_not_altered_says_nothing(survives):
    assert survives() == []
    files = {"tensors": FILES[tensors_name(1)], "table": FILES[table_name(1)]}
    assert survives(**files) == []


HEADER_BYTES = struct.unpack("<Q", FILES[tensors_name(1)][:8])[0]
HEADER = FILES[tensors_name(1)][8:][:HEADER_BYTES].decode()
DATA = FILES[tensors_name(1)][8 + HEADER_BYTES :]


@settings(max_examples=effort(40, 10_000))
@given(data=st.data())
def test_tensors_with_another_header(survives, data):
    header = json.dumps(data.draw(hostile.altered(HEADER))).encode()
    length = data.draw(st.just(len(header)) | st.integers(0, 2**64 - 1))
    said = survives(tensors=struct.pack("<Q", length) + header + DATA)
    assert said or json.loads(header[:length]) == json.loads(HEADER)


def entry(**changes):
    """A header whose tensor "clip" has other fields; tensors are (1, 2) float32."""
    header = json.loads(HEADER)
    header["clip"] |= changes
    return json.dumps(header).encode()


@pytest.mark.parametrize(
    "header",
    [
        entry(data_offsets=[4, 12]),  # overlaps
        entry(data_offsets=[4, 8]),
        entry(data_offsets=[-8, 0]),
        entry(data_offsets=[8, 0]),
        entry(data_offsets=[2**63, 2**63 + 8]),
        entry(data_offsets=[0, 2**64]),
        entry(data_offsets=[0.0, 8.0]),
        entry(data_offsets=[False, 8]),
        entry(data_offsets=[0, 8, 8]),
        entry(dtype="F64"),
        entry(dtype="F16"),
        entry(dtype=["F32"]),
        entry(shape=[2, 1]),
        entry(shape=[1, 2, 1]),
        entry(shape=[True, 2]),
        entry(shape=[1, 2.0]),
        entry(shape=[2**63, 2**63]),
        entry(shape=[]),
        entry(more=0),
        HEADER.encode().replace(b'"sd"', b'"clip"'),  # one name twice
        HEADER.encode().replace(b'"sd"', b'"../sd"'),
        b'{"__metadata__":{}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"null",
        b"\xff\xfe",
        b"",
    ],
)
def test_tensors_that_lie_about_their_place(survives, header):
    assert survives(tensors=struct.pack("<Q", len(header)) + header + DATA)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 50, 107, -13, -12, -11, -1])
def test_tensors_that_are_cut(survives, size):
    assert survives(tensors=FILES[tensors_name(1)][:size])


@pytest.mark.parametrize("rest", [b"\0", DATA, FILES[tensors_name(1)]])
def test_tensors_with_something_behind_them(survives, rest):
    assert survives(tensors=FILES[tensors_name(1)] + rest)


def parquet(table, **options):
    """A Parquet file of `table`."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@settings(max_examples=effort(50, 20_000))
@given(data=st.data())
def test_rows_with_other_bytes(survives, data):
    """Parquet's own reader gets all that a hash would have kept from it."""
    content = bytearray(FILES[table_name(1)])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 0, 1, 4, 100]))
        content[start : start + length] = data.draw(st.binary(max_size=8))
    survives(table=bytes(content))


SOUND = little.table((3, 2), 1)
columns = st.one_of(
    [
        st.just(pa.array(["ok"], kind))
        for kind in (pa.string(), pa.large_string(), pa.binary(), pa.string_view())
    ]
    + [
        st.just(pa.array(["ok"]).dictionary_encode()),
        st.just(pa.array([b"\xff\xfe"])),
        st.just(pa.array([None], pa.string())),
        st.just(pa.array([None], pa.null())),
        st.just(pa.array([["ok"]])),
        st.just(pa.array([{"ok": "ok"}])),
        st.just(pa.array([1e400, 2.0][:1])),
        st.just(pa.array([float("nan")], pa.float32())),
        st.just(pa.array([1], pa.int8())),
        st.just(pa.array([0], pa.timestamp("ns"))),
        st.just(pa.array([True])),
        st.text().map(lambda text: pa.array([text.encode(errors="ignore").decode()])),
    ]
)


@settings(max_examples=effort(40, 10_000))
@given(data=st.data())
def test_rows_with_other_columns(survives, data):
    table = SOUND
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, table.num_columns - 1))
        name = data.draw(
            st.just(table.column_names[place])
            | st.sampled_from([*hostile.TRICKS, *SOUND.column_names])
        )
        match data.draw(st.sampled_from(["set", "set", "add", "remove"])):
            case "set":
                table = table.set_column(place, name, data.draw(columns))
            case "add":
                table = table.add_column(place, name, data.draw(columns))
            case "remove" if table.num_columns > 1:
                table = table.remove_column(place)
    repeats = data.draw(st.sampled_from([1, 1, 1, 0, 2]))
    try:
        file = parquet(
            pa.concat_tables([table] * repeats) if repeats else table.slice(1),
            compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
            use_dictionary=data.draw(st.booleans()),
        )
    except pa.ArrowException:  # not all can be written
        return
    said = survives(table=file)
    assert said or pq.read_table(io.BytesIO(file)).to_pylist() == SOUND.to_pylist()
