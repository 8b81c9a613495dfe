"""One side of a comparison, torch's or ours, alone in a process of its own.

There its memory and its threads are its own too. ``Side`` is the parent's handle: it
sends one command at a time and waits for the answer, so that the sides take turns.
"""

import multiprocessing as mp
import os
import resource
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Commands = dict[str, Callable[[], Any]]
Target = Callable[[Any], tuple[dict[str, Any], Commands]]
"""A module's function: job -> (what it says of itself, the commands it serves)."""


class Side:
    """A process that serves one target; close it to give its memory back.

    ``opened`` is what the target said of itself. Needs a ``__main__`` that can be
    imported (the process is spawned).
    """

    def __init__(self, target: Target, job: Any):
        here, there = mp.Pipe()
        context = mp.get_context("spawn")
        self._process = context.Process(target=_serve, args=(target, there, job))
        self._process.start()
        there.close()
        self._pipe = here
        self.opened: dict[str, Any] = self._answer()

    def ask(self, command: str) -> Any:
        """The answer to one of the target's commands. RuntimeError where it failed."""
        self._pipe.send(command)
        return self._answer()

    def _answer(self) -> Any:
        try:
            status, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the side's process died (out of memory?)") from None
        if status == "error":
            raise RuntimeError(value)
        return value

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.terminate()


def _serve(target: Target, pipe: Connection, job: Any) -> None:
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Sides share a GPU: JAX would take three quarters of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        opened, commands = target(job)
        pipe.send(("ok", opened))
        while True:
            pipe.send(("ok", commands[pipe.recv()]()))
    except EOFError:
        pass
    except Exception:
        pipe.send(("error", traceback.format_exc()))


def resident_peak() -> int:
    """The most memory that this process has held, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gave."""
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def torch_matrix(device: str, dtype: Any, *, full: bool) -> float:
    """FLOP/s of torch's square matrix product, the best of five."""
    import torch

    n = _edge(device, full)
    a = torch.randn(n, n, device=device, dtype=dtype)

    def product() -> None:
        torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()

    product()
    return 2 * n**3 / min(timed(product)[0] for _ in range(5))


def our_matrix(dtype: Any, *, full: bool) -> float:
    """FLOP/s of JAX's square matrix product, the best of five."""
    import jax
    import jax.numpy as jnp

    n = _edge(jax.default_backend(), full)
    a = jax.random.normal(jax.random.key(0), (n, n), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = (timed(lambda: jax.block_until_ready(product(a, a))) for _ in range(5))
    return 2 * n**3 / min(seconds for seconds, _ in times)


def _edge(device: str, full: bool) -> int:
    if not full:  # beside a tiny model
        return 256
    return 2048 if device == "cpu" else 8192  # enough to show what the device can do
