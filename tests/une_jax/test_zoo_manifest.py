import dataclasses
import doctest
import hashlib
import json

import numpy as np
import pytest
from small_zoo import CLIP, KEYS, MANIFEST, SD, build

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo import codec, manifest, sealed
from une_jax.zoo.differences import differences


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    return codec.load(build(tmp_path_factory.mktemp("zoo")))


def test_examples_in_docstrings():
    assert doctest.testmod(zoo).failed == 0
    assert doctest.testmod(manifest).failed == 0
    assert doctest.testmod(sealed).failed == 0


def test_round_trip_through_json(committed):
    data = codec.to_bytes(committed)
    assert codec.from_bytes(data) == committed
    assert codec.to_bytes(codec.from_bytes(data)) == data
    assert codec.to_bytes(committed) == sealed.to_bytes(vars(committed))


def test_the_seal_is_the_sha256_of_what_follows_it(committed):
    data = codec.to_bytes(committed)
    seal, rest = data[: sealed.SEAL_BYTES], data[sealed.SEAL_BYTES :]
    digest = hashlib.sha256(rest).hexdigest()
    assert seal.decode() == f'{{\n "sha256": "{digest}",\n'


def test_a_shard_is_a_line(committed):
    lines = codec.to_bytes(committed).decode().splitlines()
    assert len([line for line in lines if '"tensors"' in line]) == 3


def test_another_spelling_of_the_same_is_refused_though_its_seal_is_right(committed):
    content = json.loads(codec.to_bytes(committed))
    del content["sha256"]
    body = json.dumps(content, indent=2)[2:].encode()
    digest = hashlib.sha256(body).hexdigest()
    with pytest.raises(UneError, match="altered"):
        codec.from_bytes(f'{{\n "sha256": "{digest}",\n'.encode() + body)


def test_the_order_of_settings_does_not_matter_to_the_bytes():
    settings = dict(reversed(SD.settings.items()))
    same = dataclasses.replace(SD, settings=settings)
    views = (same, *MANIFEST.views[1:])
    again = dataclasses.replace(MANIFEST, views=views)
    assert codec.to_bytes(again) == codec.to_bytes(MANIFEST)


def test_settings_are_what_json_gives_back():
    assert SD.config["block_out_channels"] == [32, 64]


def test_flipped_bytes_are_refused(committed):
    data = codec.to_bytes(committed)
    for i in range(0, len(data), 3):
        flipped = data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :]
        with pytest.raises(UneError):
            codec.from_bytes(flipped)


def test_truncations_and_additions_are_refused(committed):
    data = codec.to_bytes(committed)
    for damaged in [
        *(data[:i] for i in range(0, len(data), 17)),
        data + b"\n",
        b" " + data,
    ]:
        with pytest.raises(UneError):
            codec.from_bytes(damaged)


@pytest.mark.parametrize("version", [0, 2, 1.0, True, "1", None])
def test_other_format_versions_are_refused_first(version):
    with pytest.raises(UneError, match="format_version.*use the une-jax that wrote"):
        codec.from_bytes(json.dumps({"format_version": version}).encode())


HOSTILE = [
    (["row_count"], -1, "row_count"),
    (["row_count"], 10**30, "row_count"),
    (["row_count"], "10", "row_count"),
    (["row_count"], 10.0, "row_count"),
    (["row_count"], True, "row_count"),
    (["shard_rows"], 0, "shard_rows"),
    (["shard_rows"], 5, "shards.0 does not fit"),
    (["views"], [], "views"),
    (["views"], {}, "views is .*not list"),
    (["views", 0], None, "views is not an object"),
    (["views", 0, "name"], "../sd", "name"),
    (["views", 0, "name"], "mini-clip", "one name twice"),
    (["views", 0, "kind"], "decoder", "kind"),
    (["views", 0, "kind"], [], "kind"),
    (["views", 0, "dtype"], "object", "dtype"),
    (["views", 0, "dtype"], "O", "dtype"),
    (["views", 0, "shape"], "444", "shape"),
    (["views", 0, "shape"], [4, -2, 2], "shape"),
    (["views", 0, "shape"], [4, 2.0, 2], "shape"),
    (["views", 0, "shape"], [16], "shape"),
    (["views", 0, "shape"], [], "shape"),
    (["views", 0, "weights_sha256"], "Z" * 64, "weights_sha256"),
    (["views", 0, "model_id"], "", "model_id"),
    (["views", 0, "model_id"], "\ud800", "UTF-8"),
    (["views", 0, "config"], [], "config is .*not dict"),
    (["views", 0, "extra"], 1, "unknown.*extra"),
    (["shards", 0, "index"], 1, "names 'shards/00000"),
    (["shards", 0, "index"], -1, "index"),
    (["shards", 0, "rows"], 3, "shards.0 has 3 rows, but 3 ok . 1 failed . 0 skipped"),
    (["shards", 0, "ok"], 4, "shards.0 has 4 rows, but 4 ok . 1 failed . 0 skipped"),
    (["shards", 0, "skipped"], -1, "shards.0.skipped is -1"),
    (["shards", 0, "failed"], 1.0, "failed is 1.0, not int"),
    (["shards", 2, "index"], 3, "names 'shards/00002"),
    (["shards", 0, "tensors", "name"], "../../etc/passwd", "names"),
    (["shards", 0, "tensors", "name"], "/etc/passwd", "names"),
    (["shards", 0, "tensors", "name"], "shards/./00000.safetensors", "names"),
    (["shards", 0, "table", "name"], "rows\\00000.parquet", "names"),
    (["shards", 0, "table", "bytes"], -1, "bytes"),
    (["shards", 0, "table", "bytes"], "9", "bytes"),
    (["shards", 0, "table", "sha256"], "0" * 63, "sha256"),
    (["shards", 0, "table"], [], "table is .*not dict"),
    (["shards", 0], 3, "shards is not an object"),
    (["attribute_names", 0], "key", "another column's name"),
    (["attribute_names", 0], "residual/mini-sd", "another column's name"),
    (["attribute_names", 0], "Smiling", "one name twice"),
    (["attribute_names", 0], 3, "attribute_names"),
    (["source", "images"], 11, "source.images"),
    (["source", "keys_sha256"], "", "keys_sha256"),
    (["source", "size"], -64, "source.size"),
    (["source"], {}, "source lacks folder"),
    (["source", "kind"], 3, "source.kind"),
    (["source", "hashed"], "no", "source.hashed is neither"),
    (["source", "prompts_sha256"], "x", "source.prompts_sha256"),
    (["source", "columns"], ["identity"], "source.columns is not an object"),
    (["source", "columns"], {"identity": "int"}, "source.columns.identity is 'int'"),
    (["source", "columns"], {"identity": []}, "source.columns.identity"),
    (["source", "columns"], {"key": "string"}, "source.columns have 'key'"),
    (["source", "columns"], {"prompt": "string"}, "source.columns have 'prompt'"),
    (["source", "columns"], {"psnr/x": "float32"}, "source.columns have 'psnr/x'"),
    (["source", "columns"], {"Male": "bool"}, "source.columns have one name twice"),
    (["source", "columns"], {"": "bool"}, "source.columns is empty"),
    (["attribute_names", 0], "round_trip/mini-sd", "another column's name"),
    (["more"], 1, "unknown.*more"),
]


@pytest.mark.parametrize(("place", "value", "message"), HOSTILE)
def test_hostile_fields_are_refused_by_name(committed, place, value, message):
    content = json.loads(codec.to_bytes(committed))
    target = content
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    data = json.dumps(content).encode()
    with pytest.raises(UneError, match=message) as caught:
        codec.from_bytes(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["views", "source", "row_count", "shards"])
def test_missing_fields_are_named(committed, field):
    content = json.loads(codec.to_bytes(committed))
    del content[field]
    with pytest.raises(UneError, match=f"lacks {field}"):
        codec.from_bytes(json.dumps(content).encode())


def test_shards_out_of_order_or_twice_are_refused(committed):
    for order in [(1, 0, 2), (0, 0, 1)]:
        shards = tuple(committed.shards[i] for i in order)
        with pytest.raises(UneError, match="shards are not in order"):
            dataclasses.replace(committed, shards=shards)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"3",
        b"\xff",
        b'{"format_version": 1}',
        b'{"format_version": 1, "format_version": 1}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"format_version": ' + b"9" * 5000 + b"}",
    ],
)
def test_whatever_the_bytes_the_error_is_ours(data):
    with pytest.raises(UneError):
        codec.from_bytes(data)


@pytest.mark.parametrize("value", [np.float32(1), {1: 2}, float("nan"), {"a": {3}}])
def test_settings_that_json_cannot_hold_are_refused(value):
    with pytest.raises(UneError, match="views.mini-clip.settings"):
        dataclasses.replace(CLIP, settings={"x": value})


def test_deeply_nested_settings_are_refused():
    nested = {}
    for _ in range(100):
        nested = {"a": nested}
    with pytest.raises(UneError, match="nested more than"):
        dataclasses.replace(CLIP, settings=nested)


def test_a_shard_that_does_not_fit_is_refused(committed):
    with pytest.raises(UneError, match="shards.0 does not fit row_count"):
        dataclasses.replace(committed, shard_rows=3)
    with pytest.raises(UneError, match="shards.2 does not fit row_count"):
        MANIFEST.require_fit(dataclasses.replace(committed.shards[2], rows=1, ok=0))


def test_shards_are_found_by_their_index(committed):
    some = committed.without_shard(1)
    assert some.shard(2) == committed.shards[2] and some.shard(1) is None
    assert some.with_shards([committed.shards[1]]) == committed
    assert MANIFEST.with_shards(reversed(committed.shards)) == committed
    assert MANIFEST.shard(0) is None and committed.shard(99) is None


def test_records_are_sealed_too(committed):
    shard = committed.shards[2]
    data = codec.record_to_bytes(shard)
    assert codec.record_from_bytes(data) == shard
    for i in range(len(data)):
        flipped = data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :]
        with pytest.raises(UneError):
            codec.record_from_bytes(flipped)
    with pytest.raises(UneError, match="lacks .*index"):
        codec.record_from_bytes(codec.to_bytes(committed))


def test_the_keys_are_told_apart_by_their_sha256():
    same = [zoo.describe_source("x", keys, 1) for keys in (KEYS, tuple(KEYS))]
    assert same[0] == same[1]
    digest = hashlib.sha256("\n".join(KEYS).encode()).hexdigest()
    assert same[0]["keys_sha256"] == digest


def test_rows_are_dealt_to_shards_in_order():
    spans = [MANIFEST.rows_of(i) for i in range(MANIFEST.shard_count)]
    assert spans == [range(0, 4), range(4, 8), range(8, 10)]
    with pytest.raises(IndexError):
        MANIFEST.rows_of(3)


def test_differences_name_each_field_with_both_values():
    sd = dataclasses.replace(
        SD, settings={**SD.settings, "steps": 20, "eval_at": "source"}
    )
    asked = dataclasses.replace(MANIFEST, views=(sd, CLIP), shard_rows=8)
    assert differences(MANIFEST, MANIFEST) == []
    assert differences(MANIFEST, asked) == [
        'views: ["mini-sd", "mini-clip", "mini.dino"] in the zoo, '
        '["mini-sd", "mini-clip"] asked',
        "shard_rows: 4 in the zoo, 8 asked",
        'views.mini-sd.settings.eval_at: not in the zoo, "source" asked',
        "views.mini-sd.settings.steps: 50 in the zoo, 20 asked",
    ]
