"""Data parallelism: one program, the batch split over devices, no communication.

This is the pmapped loop. Since JAX 0.8 ``jax.pmap`` is itself ``jit(shard_map)`` with a
leading device axis; here the same is written out, without that axis:

=====================  ==================  =======================
per device             ``pmap`` sees       ``data_parallel`` sees
=====================  ==================  =======================
batch leaf             (...)               (b / devices, ...)
caller's array         (devices, ...)      (b, ...)
=====================  ==================  =======================
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool

AXIS = "data"


class Padded(NamedTuple):
    """What :func:`pad_batch` gives."""

    batch: Any  # leaves of shape (size, ...)
    mask: Bool[np.ndarray, " size"]  # True for the rows that were given


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the one axis ``"data"`` over ``devices`` (default: every host's).

    >>> data_mesh(jax.devices()[:1]).shape["data"]
    1
    """
    devices = jax.devices() if devices is None else devices
    # Auto, not make_mesh's default Explicit, which rejects attention's plain reshapes.
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a whole copy of every leaf on every device of the mesh, once.

    >>> replicate({"w": np.ones(3)}, data_mesh())["w"].is_fully_replicated
    True
    """
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits every leaf of this process's batch over this process's devices, on axis 0.

    With several processes the result is the global batch, each process's rows in turn.

    Raises:
        ValueError: if the rows do not divide by the devices (see :func:`pad_batch`).

    >>> shard_batch(np.ones((8, 3)), data_mesh()).shape
    (8, 3)
    """
    devices = len(mesh.local_devices)
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[0] % devices:
            raise ValueError(f"{leaf.shape[0]} rows do not divide by {devices} devices")
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    place = partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(place, batch)


def data_parallel(
    fn: Callable[[Any, Any], Any],
    mesh: Mesh,
    *,
    donate_batch: bool = False,
    compiler_options: dict[str, str] | None = None,
) -> Callable[[Any, Any], Any]:
    """``fn(params, batch) -> out`` on every device at once, compiled.

    ``fn`` is ordinary batch-first code and must treat rows alone. Its params are
    replicated, every leaf of ``batch`` and of ``out`` is split on axis 0. A while loop
    in ``fn`` runs on each device for as long as that device's rows need.

    Args:
        fn: the function; scalars and tables that it needs (a ``Schedule``, a prompt)
            go into params.
        mesh: from :func:`data_mesh`.
        compiler_options: as ``jax.jit`` takes them, such as :func:`memory_schedule`;
            with them the result cannot be called inside another ``jit``.
        donate_batch: let the output reuse the batch's memory; the batch is then gone.

    >>> mesh = data_mesh()
    >>> double = data_parallel(lambda scale, x: scale * x, mesh)
    >>> double(2.0, shard_batch(np.ones((4, 1)), mesh)).sum().item()
    8.0
    """
    split = PartitionSpec(AXIS)
    mapped = jax.shard_map(
        fn, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split
    )
    return jax.jit(
        mapped,
        donate_argnums=(1,) if donate_batch else (),
        compiler_options=compiler_options,
    )


def memory_schedule(platform: str) -> dict[str, str] | None:
    """``compiler_options`` for ``jax.jit`` of a large network at the top level.

    On CPU XLA's default scheduler begins all that can begin, such as the transform of
    every convolution's kernel, and keeps it: more memory, and slower for it. Nothing
    elsewhere.

    >>> memory_schedule("gpu") is None
    True
    """
    if platform != "cpu":
        return None
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def pad_batch(batch: Any, size: int) -> Padded:
    """Fills a short last batch up to ``size`` rows, so that it does not recompile.

    The last row is repeated: a true input, where zeros could be 0/0 to a model. On the
    host (numpy); drop the filling with ``out[mask]``.

    Raises:
        ValueError: if the leaves differ in rows, or have none, or more than ``size``.

    >>> padded = pad_batch({"image": np.ones((3, 2))}, 4)
    >>> padded.batch["image"].shape, padded.mask.tolist()
    ((4, 2), [True, True, True, False])
    """
    rows = {len(leaf) for leaf in jax.tree.leaves(batch)}
    if len(rows) != 1:
        raise ValueError(f"leaves of one batch have {sorted(rows)} rows")
    (n,) = rows
    if not 1 <= n <= size:
        raise ValueError(f"cannot pad {n} rows to {size}")

    def fill(leaf):
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[-1:], size - n, axis=0)])

    return Padded(jax.tree.map(fill, batch), np.arange(size) < n)
