"""``build --engine ray``: shards as tasks of Ray workers, which may come, go and die.

Each worker is an actor that loads the models once and then computes whatever shard it
is handed, with the same ``Worker`` as a local build. A shard whose worker died goes to
another; shards are committed by the workers themselves, so that the zoo's folder must be
one that all of them see. Nothing here touches a device: on the machine of a worker it
would take the accelerator away from it.
"""

import contextlib
import os
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from ports.checkpoint import CheckpointError
from une_jax import zoo
from une_jax.cli.cluster import Cluster
from une_jax.cli.devices import configure_jax
from une_jax.cli.progress import Progress
from une_jax.cli.worker import Split, Worker
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax.cli.build import Build

TRIES = 3  # deaths of workers that one shard may cause
POLL_SECONDS = 5.0  # between looks at how large the cluster has become


class ShardWorker:
    """What runs on a Ray worker: models, and shards one at a time."""

    def __init__(self, build: "Build"):
        self.build = build

    def ready(self) -> None:
        """Loads the models and makes the zoo, if it is not there."""
        configure_jax()
        self.job = self.build.prepare()
        self.writer = zoo.create(self.build.out, self.job.manifest)

    def shard(self, index: int) -> Split:
        """Computes and commits a shard; returns when it is on disk."""
        redo = self.build.redo()
        quiet = Progress(0, "", quiet=True)
        with Worker(self.writer, self.job, quiet, redo) as worker:
            return worker.shard(index).result()


def run(build: "Build") -> None:
    """Fills the zoo of ``build``.

    Raises UneError where Ray is missing, a worker raises, or one shard kills them.
    """
    address = build.cluster.ray_address or os.environ.get("RAY_ADDRESS")
    if address is None:  # a Ray of this machine alone listens to nobody else
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise UneError(
            "--engine ray needs Ray: pip install 'une-jax[cluster]'"
        ) from error
    handler = signal.getsignal(signal.SIGTERM)
    started = not ray.is_initialized()
    # Ray talks on stdout, where the command's result goes.
    with contextlib.redirect_stdout(sys.stderr):
        if started:
            dashboard = None if address else False
            ray.init(address, log_to_driver=False, include_dashboard=dashboard)
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place
        try:
            _Pool(ray, build).drain()
        finally:
            if started:
                ray.shutdown()


class _Pool:
    """The workers, what each is at, and the shards that wait."""

    def __init__(self, ray: Any, build: "Build"):
        cluster = build.cluster
        self.ray, self.build = ray, build
        self.actor = ray.remote(
            num_cpus=cluster.ray_cpus,
            num_gpus=cluster.ray_gpus,
            resources={"TPU": cluster.ray_tpus} if cluster.ray_tpus else None,
        )(ShardWorker)
        self.busy: dict[Any, tuple[Any, int | None]] = {}  # answer -> worker, shard
        self.waiting: deque[int] | None = None  # until a worker has made the zoo
        self.deaths: dict[int | None, int] = {}

    def drain(self) -> None:
        """Hands out shards until none is left."""
        with Progress(0, "rows") as progress:
            self._grow()
            while self.busy:
                answers = list(self.busy)
                ready, _ = self.ray.wait(answers, timeout=POLL_SECONDS)
                for answer in ready:
                    self._take(answer, progress)
                self._grow()

    def _take(self, answer: Any, progress: Progress) -> None:
        worker, shard = self.busy.pop(answer)
        try:
            split = self.ray.get(answer)
        except self.ray.exceptions.RayActorError as error:
            self._died(shard, error)
            return
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UneError | CheckpointError):
                raise UneError(f"a worker refused: {error.cause}") from error
            raise
        if self.waiting is None:
            writer = zoo.Writer(self.build.out)
            self.waiting = deque(self.build.todo(writer))
            progress.expect(sum(len(writer.rows_of(i)) for i in self.waiting))
        if shard is not None:
            progress.add(split.rows)
            progress.shard(f"shard {shard} written: {split}")
        if self.waiting:
            following = self.waiting.popleft()
            self.busy[worker.shard.remote(following)] = worker, following

    def _died(self, shard: int | None, error: Exception) -> None:
        what = "while loading" if shard is None else f"with shard {shard}"
        self.deaths[shard] = self.deaths.get(shard, 0) + 1
        if self.deaths[shard] >= TRIES:
            raise UneError(f"{TRIES} workers died {what}: {error}") from error
        print(f"une-jax: a worker died {what}; another takes over", file=sys.stderr)
        if shard is not None and self.waiting is not None:
            self.waiting.appendleft(shard)

    def _grow(self) -> None:
        """As many workers as there is room and work for."""
        work = 1 if self.waiting is None else len(self.waiting)
        loading = sum(shard is None for _, shard in self.busy.values())
        wanted = self.build.cluster.ray_workers or room(
            self.ray.cluster_resources(), self.build.cluster
        )
        for _ in range(min(wanted - len(self.busy), work - loading)):
            worker = self.actor.remote(self.build)
            self.busy[worker.ready.remote()] = worker, None


def room(resources: dict[str, float], cluster: Cluster) -> int:
    """How many workers fit a Ray cluster of these resources; at least one.

    >>> room({"CPU": 64.0, "GPU": 8.0}, Cluster(ray_cpus=4.0, ray_gpus=1.0))
    8
    """
    asked = {
        "CPU": cluster.ray_cpus,
        "GPU": cluster.ray_gpus,
        "TPU": cluster.ray_tpus,
    }
    fits = [resources.get(kind, 0) // n for kind, n in asked.items() if n]
    return max(1, int(min(fits, default=1)))
