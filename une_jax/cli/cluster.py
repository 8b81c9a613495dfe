"""Who does which shards: this process, one of many that JAX joins, or a worker I/N."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from une_jax.cli.options import OWN_DEFAULT
from une_jax.errors import UneError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a build runs. Not part of the zoo: it may change from run to run."""

    engine: Literal["local", "distributed", "ray"] = "local"
    """local: this process, all its devices. distributed: one of several processes that
    jax.distributed joins (found on SLURM, GKE and Cloud TPU by itself). ray: this
    process hands shards to Ray workers (extra: cluster)"""
    worker: Annotated[str | None, OWN_DEFAULT] = None
    """I/N: do every N-th shard from the I-th on (0/4 to 3/4), as one of a SLURM array's
    tasks; they need not know of each other"""
    coordinator: Annotated[str | None, OWN_DEFAULT] = None
    """distributed: HOST:PORT of process 0, where nothing tells it"""
    processes: Annotated[int | None, OWN_DEFAULT] = None
    """distributed: how many there are"""
    process: Annotated[int | None, OWN_DEFAULT] = None
    """distributed: which one this is"""
    ray_address: Annotated[str | None, OWN_DEFAULT] = None
    """ray: of a running cluster (default: RAY_ADDRESS, or a new one on this machine)"""
    ray_workers: Annotated[int | None, OWN_DEFAULT] = None
    """ray: how many at most (default: as many as the cluster has room for)"""
    ray_cpus: float = 1.0
    """ray: cores that a worker asks for"""
    ray_gpus: float = 0.0
    """ray: GPUs that a worker asks for"""
    ray_tpus: float = 0.0
    """ray: TPU chips that a worker asks for"""

    def check(self) -> None:
        """Raises UneError for options that do not go together."""
        told = (self.coordinator, self.processes, self.process)
        if any(value is not None for value in told):
            if self.engine != "distributed" or None in told:
                raise UneError(
                    "--coordinator, --processes and --process go together, with "
                    "--engine distributed"
                )
        if self.worker is not None:
            if self.engine != "local":
                raise UneError("--worker is for --engine local; others share by themselves")  # fmt: skip
            self.share()

    def share(self) -> tuple[int, int]:
        """(i, n) of ``--worker I/N``; (0, 1) without."""
        place, slash, count = (self.worker or "0/1").partition("/")
        right = slash and place.isdecimal() and count.isdecimal()
        if not right or not int(place) < int(count):
            raise UneError(f"--worker {self.worker}: write I/N with I from 0 to N - 1")
        return int(place), int(count)


def join(cluster: Cluster) -> None:
    """Joins the processes of ``--engine distributed``; before JAX's first device.

    Raises UneError where JAX finds no cluster to join.
    """
    import jax

    try:
        jax.distributed.initialize(
            cluster.coordinator, cluster.processes, cluster.process
        )
    except (RuntimeError, ValueError) as error:
        raise UneError(
            f"--engine distributed: {' '.join(str(error).split())}; give --coordinator "
            "HOST:PORT, --processes N and --process I"
        ) from error


def agree(pending: Sequence[int], shard_count: int) -> list[int]:
    """This process's part of what process 0 sees pending: every n-th shard of it.

    Others may commit while this one looks, so that their lists could differ.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    mask = np.zeros(shard_count, np.uint8)
    mask[list(pending)] = 1
    mask = multihost_utils.broadcast_one_to_all(mask)
    todo = np.flatnonzero(np.asarray(mask))
    return todo[jax.process_index() :: jax.process_count()].tolist()


def meet(where: str) -> None:
    """Waits until all processes are here."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(where)


def is_first() -> bool:
    """Whether this process does what only one may do."""
    import jax

    return jax.process_index() == 0
