"""Builds 100,000 rows with a tiny model and prints how much memory it had meanwhile.

Run alone by test_worker.py: ``python flat_memory.py FOLDER``. A process of its own has
no other test's memory.
"""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from une_jax import zoo
from une_jax.cli.batches import Output
from une_jax.cli.collection import Collection
from une_jax.cli.job import Job
from une_jax.cli.progress import Progress
from une_jax.cli.worker import Worker

ROWS, SHARD_ROWS, WIDTH = 100_000, 2000, 64
VIEW = zoo.View(
    name="tiny",
    kind="encoder",
    model_id="tiny",
    weights_sha256="0" * 64,
    config={},
    shape=(WIDTH,),
    dtype="float32",
    settings={},
)


class Keys(Sequence):
    """000000.png, ...: made when asked for."""

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(ROWS))]
        if not 0 <= row < ROWS:
            raise IndexError(row)
        return f"{row:06d}.png"


class Synthetic:
    """Every image is one of ten pixels of grey; each hundredth is no image."""

    name, kind, keys, attributes, columns = "synthetic", "folder", Keys(), None, {}

    def __init__(self):
        self.files = []
        for level in range(10):
            file = io.BytesIO()
            Image.new("L", (4, 4), level).save(file, "PNG")
            self.files.append(file.getvalue())

    def read(self, row: int) -> bytes:
        return b"no image" if row % 100 == 99 else self.files[row % 10]


class Tiny:
    """A model that repeats the first pixel."""

    name, views, batch_size = "tiny", (VIEW,), 100

    def prepare(self, image):
        return np.asarray(image)

    def compute(self, pixels, rows, prompts=None):
        level = pixels[:, 0, 0, :1].astype(np.float32) + rows[:, None]
        return Output(arrays={"tiny": np.repeat(level, WIDTH, axis=1).astype("f4")})


def memory() -> int:
    """Bytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages


def main(folder: str) -> None:
    """Prints {"held": bytes after each shard, "ok": ..., "failed": ...}."""
    collection = Collection(
        source=Synthetic(), attribute_names=(), labels=np.zeros((ROWS, 0), bool)
    )
    manifest = zoo.Manifest(
        views=(VIEW,),
        source=collection.describe(None),
        row_count=ROWS,
        shard_rows=SHARD_ROWS,
    )
    writer = zoo.create(folder, manifest)
    held = []
    job, todo = Job(manifest, collection, [Tiny()]), writer.pending()
    with Worker(writer, job, Progress(ROWS, "", quiet=True)) as worker:
        for index, then in zip(todo, [*todo[1:], None], strict=True):
            worker.shard(index, then)
            held.append(memory())
        worker.finish()
    writer.fold()
    shards = writer.manifest.shards
    counts = {"ok": sum(s.ok for s in shards), "failed": sum(s.failed for s in shards)}
    print(json.dumps({"held": held, **counts}))


if __name__ == "__main__":
    main(sys.argv[1])
