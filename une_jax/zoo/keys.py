"""Whether the rows are those of the manifest's source, told without keeping them all."""

import array
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from une_jax.zoo.manifest import Manifest, prompt_line


class Rows:
    """What is seen of the rows of all shards, in order; eight bytes are kept of each."""

    def __init__(self) -> None:
        self._hashes = array.array("q")
        self._keys, self._prompts = hashlib.sha256(), hashlib.sha256()

    def add(self, table: pa.Table) -> None:
        """Takes in the rows of the next shard."""
        keys = table.column("key").to_pylist()
        self._keys.update(("\n" if self._hashes else "").encode())
        self._keys.update("\n".join(keys).encode())
        self._hashes.extend(map(hash, keys))
        if "prompt" in table.column_names:
            for prompt in table.column("prompt").to_pylist():
                self._prompts.update(prompt_line(prompt))

    def problems(
        self, manifest: Manifest, read: Callable[[], Iterable[str]]
    ) -> list[str]:
        """Keys that are there twice, or keys and prompts that are not the source's.

        Args:
            manifest: of the zoo. Its source is compared once all rows were seen.
            read: gives all keys once more, should some look repeated.
        """
        hashes, counts = np.unique(np.array(self._hashes, np.int64), return_counts=True)
        if suspects := set(hashes[counts > 1].tolist()):
            times = Counter(key for key in read() if hash(key) in suspects)
            repeated = sorted(key for key, count in times.items() if count > 1)
            if repeated:
                first = ", ".join(map(repr, repeated[:3]))
                return [f"rows: {len(repeated)} keys are in more than one row: {first}"]
        if len(self._hashes) < manifest.row_count:
            return []
        found, source = [], manifest.source
        if self._keys.hexdigest() != source["keys_sha256"]:
            found.append("rows: the keys are not those of the manifest's source")
        if self._prompts.hexdigest() != source.get(
            "prompts_sha256", hashlib.sha256().hexdigest()
        ):
            found.append("rows: the prompts are not those of the manifest's source")
        return found
