"""Where images come from: folders and the layouts that data sets are handed round in.

`open` tells what lies at a path, lists it, and gives a `Source`: sorted keys, what is
known of each row, and `read(row)` for the encoded file. Nothing is decoded here.

>>> import pathlib, tempfile
>>> from une_jax import sources
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = pathlib.Path(folder, "a.png").write_bytes(b"...")
...     source = sources.open(folder)
...     source.kind, list(source.keys), source.read(0)
('folder', ['a.png'], b'...')
"""

from une_jax.sources.base import Source as Source
from une_jax.sources.opening import open as open
