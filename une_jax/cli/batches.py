"""Any number of rows through a compiled function of a fixed number."""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from une_jax import parallel
from une_jax.zoo import View

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Half-precision latents are stored in float16: the state of a run is float32, and
# float16 keeps three more bits of it than bfloat16.
STORED = {"float32": "float32", "bfloat16": "float16"}
# Batches on the device: one computes while the next one's rows go there and the last
# one's results come back.
IN_FLIGHT = 2


@dataclass(frozen=True, kw_only=True)
class Output:
    """Rows of each view, and what was measured of them, by the zoo's column.

    Columns are (b,) float32: ``residual/NAME`` of every generator, ``round_trip/NAME``
    and ``psnr/NAME`` where its ``Settings.round_trip`` asks. A row that is not finite
    in an array or a column has failed.
    """

    arrays: dict[str, np.ndarray]
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class Maker(Protocol):
    """A model that makes views of images: what a build runs."""

    @property
    def name(self) -> str: ...

    @property
    def views(self) -> tuple[View, ...]: ...

    @property
    def batch_size(self) -> int: ...

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The pixels that ``compute`` takes; called in many threads."""
        ...

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """Prepared images with their rows' numbers -> latents and measurements."""
        ...

    def seconds_per_image(self) -> dict[str, float]: ...

    def flops_per_image(self) -> dict[str, float]: ...


def batch_size_for(asked: int | None, rows: int | None, pixels: int, mesh: Mesh) -> int:
    """Rows a call, over all devices: asked for, or what keeps a device busy."""
    devices = mesh.size
    if asked is None:
        cpu = mesh.devices.flat[0].platform == "cpu"
        budget, most = (4096, 32) if cpu else (65536, 64)
        asked = max(1, min(most, budget // max(1, pixels))) * devices
    asked = min(asked, rows or asked)  # no larger than what there is to fill it
    return -(-asked // devices) * devices


def batched(run: Callable[[Any], Any], batch: Any, mesh: Mesh, size: int) -> Any:
    """``run`` over all rows, ``size`` at a time, the tail padded: numpy in and out.

    ``run`` starts a batch's work on the devices, by one compiled function or several,
    and does not wait for it. The next batch is started before the last one's results
    are fetched; no more than ``IN_FLIGHT`` are on the devices.
    """
    n = len(jax.tree.leaves(batch)[0])
    running, parts = collections.deque(), []

    def finish():
        out, mask = running.popleft()
        parts.append(jax.tree.map(lambda x: np.asarray(x)[mask], out))

    for start in range(0, n, size):
        part = jax.tree.map(lambda x: x[start : start + size], batch)  # noqa: B023
        padded = parallel.pad_batch(part, size)
        out = run(parallel.shard_batch(padded.batch, mesh))
        for leaf in jax.tree.leaves(out):
            leaf.copy_to_host_async()
        running.append((out, padded.mask))
        if len(running) == IN_FLIGHT:
            finish()
    while running:
        finish()
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
