"""The NoiseZoo on disk: paired latents of one image collection, shard by shard.

A folder of safetensors, Parquet and JSON::

    manifest.json              settings, and the committed shards with their sha256
    shards/00000.safetensors   one tensor per view, (rows, *shape)
    rows/00000.parquet         key, sha256, status, reason, split, attributes, residuals
    commits/00000.json         a shard that is committed, but not in the manifest yet

`create` starts or resumes one, `open` reads it lazily, `verify` checks every byte. A
shard is committed by its record, once and for good; `Writer.fold` moves the records
into the manifest. A finished and folded zoo has the same bytes whatever interrupted it.

>>> import tempfile
>>> import numpy as np
>>> import pyarrow as pa
>>> from une_jax import zoo
>>> clip = zoo.View(
...     name="clip", kind="encoder", model_id="a/clip", weights_sha256="0" * 64,
...     config={}, shape=(8,), dtype="float32", settings={},
... )
>>> keys = ["a.jpg", "b.jpg"]
>>> manifest = zoo.Manifest(
...     views=(clip,), source=zoo.describe_source("images", keys, 64), row_count=2,
...     shard_rows=1024,
... )
>>> with tempfile.TemporaryDirectory() as folder:
...     writer = zoo.create(folder, manifest)
...     for i in writer.pending():
...         span = writer.rows_of(i)
...         table = pa.table({
...             "key": keys[span.start : span.stop], "sha256": ["0" * 64] * len(span),
...             "status": ["ok"] * len(span), "reason": [""] * len(span),
...             "split": zoo.paper_split(2, span),
...         })
...         writer.commit(i, {"clip": np.ones((len(span), 8), np.float32)}, table)
...     writer.fold()
...     opened = zoo.open(folder)
...     opened.views, opened.complete, opened["clip"][-1:].shape, zoo.verify(folder)
(('clip',), True, (1, 8), [])
"""

from une_jax.zoo.manifest import File as File
from une_jax.zoo.manifest import Manifest as Manifest
from une_jax.zoo.manifest import Shard as Shard
from une_jax.zoo.manifest import View as View
from une_jax.zoo.manifest import describe_source as describe_source
from une_jax.zoo.reader import Latents as Latents
from une_jax.zoo.reader import Zoo as Zoo
from une_jax.zoo.reader import open as open
from une_jax.zoo.rows import paper_split as paper_split
from une_jax.zoo.rows import schema as schema
from une_jax.zoo.verify import verify as verify
from une_jax.zoo.writer import AlreadyCommitted as AlreadyCommitted
from une_jax.zoo.writer import Writer as Writer
from une_jax.zoo.writer import create as create
