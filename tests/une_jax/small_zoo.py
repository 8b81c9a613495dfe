"""A zoo of ten tiny images in three shards, for the tests of une_jax.zoo."""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa

from une_jax import zoo
from une_jax.zoo.manifest import DTYPES

KEYS = [f"folder/{i:03d}.jpg" for i in range(10)]
FAILED = {2: "truncated", 5: "NaN in sd"}
SKIPPED = {9: "no face in it"}
REASONS = FAILED | SKIPPED
SD = zoo.View(
    name="mini-sd",
    kind="generator",
    model_id="some/mini-sd",
    weights_sha256="1" * 64,
    config={"block_out_channels": (32, 64), "act_fn": "silu"},
    shape=(4, 2, 2),
    dtype="float16",
    settings={"steps": 50, "scheduler": {"beta_start": 0.00085}, "prompt": ""},
)
CLIP = zoo.View(
    name="mini-clip",
    kind="encoder",
    model_id="some/mini-clip",
    weights_sha256="2" * 64,
    config={},
    shape=(8,),
    dtype="float32",
    settings={"mean": [0.5, 0.5, 0.5]},
)
DINO = dataclasses.replace(CLIP, name="mini.dino", shape=(3,), dtype="bfloat16")
MANIFEST = zoo.Manifest(
    views=(SD, CLIP, DINO),
    source=zoo.describe_source("faces", KEYS, 64),
    row_count=10,
    shard_rows=4,
    attribute_names=("Male", "Smiling"),
)
ATTRIBUTES = np.arange(20).reshape(10, 2) % 3 == 0
OK = np.array([i not in REASONS for i in range(10)])


def latents(view):
    """All ten rows of a view as they should come back; zero where not ok."""
    seed = int.from_bytes(view.name.encode(), "little")
    values = np.random.default_rng(seed).normal(size=(10, *view.shape))
    values[~OK] = 0
    return values.astype(DTYPES[view.dtype])


def arrays_of(rows):
    return {view.name: latents(view)[rows.start : rows.stop] for view in MANIFEST.views}


def status(row):
    return "failed" if row in FAILED else "skipped" if row in SKIPPED else "ok"


def table_of(rows):
    split = zoo.paper_split(10)
    return pa.table(
        {
            "key": [KEYS[i] for i in rows],
            "sha256": [hashlib.sha256(KEYS[i].encode()).hexdigest() for i in rows],
            "status": [status(i) for i in rows],
            "reason": [REASONS.get(i, "") for i in rows],
            "split": [str(split[i]) for i in rows],
            "Male": [bool(ATTRIBUTES[i, 0]) for i in rows],
            "Smiling": [bool(ATTRIBUTES[i, 1]) for i in rows],
            "residual/mini-sd": pa.array(
                [None if i in REASONS else i / 100 for i in rows], pa.float32()
            ),
        }
    )


def all_ok(table):
    """The rows as if none had failed or been skipped."""
    for name, value in (("status", "ok"), ("reason", "")):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array([value] * table.num_rows))
    return table


def commit(writer, index):
    rows = writer.rows_of(index)
    writer.commit(index, arrays_of(rows), table_of(rows))


def build(path, shards=None, *, fold=True):
    """Creates or resumes the zoo and commits `shards`, or all that are pending."""
    writer = zoo.create(path, MANIFEST)
    for index in writer.pending() if shards is None else shards:
        commit(writer, index)
    if fold:
        writer.fold()
    return path


def contents(path):
    """Every file below `path` with its bytes."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
