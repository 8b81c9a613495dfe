"""One side of a comparison, torch or ours, alone in a process of its own.

There its memory and its threads are its own too. ``Side`` is the parent's handle: it
sends one command at a time and waits for the answer, so that the two sides take turns.
"""

import multiprocessing as mp
import os
import resource
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MATRIX = 2048


class Job(NamedTuple):
    """What a side runs; ``dtype`` is a name such as float32."""

    name: str
    folder: Path
    full: bool
    batch: int
    size: int
    dtype: str = "float32"
    compiled: bool = False


class Side:
    """A process that serves ``torch`` or ``ours``; close it to give its memory back."""

    def __init__(self, kind: str, job: Job):
        here, there = mp.Pipe()
        target = {"torch": _torch_side, "ours": _our_side}[kind]
        context = mp.get_context("spawn")
        self._process = context.Process(target=_serve, args=(target, there, job))
        self._process.start()
        there.close()
        self._pipe = here
        self.opened: dict[str, Any] = self._answer()

    def ask(self, command: str) -> Any:
        """``run``: (seconds, outputs); ``matrix``: FLOP/s; ``memory``: peak bytes."""
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


def _serve(target: Any, pipe: Connection, job: Job) -> None:
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        opened, commands = target(job)
        pipe.send(("ok", opened))
        while True:
            pipe.send(("ok", commands[pipe.recv()]()))
    except EOFError:
        pass
    except Exception:
        pipe.send(("error", traceback.format_exc()))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _timed(run: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def _torch_side(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from scripts import reference_models as ref

    torch.set_grad_enabled(False)
    model = ref.build(job.name, full=job.full)
    if not any(job.folder.glob("*.safetensors*")):
        model.save_pretrained(job.folder)
    row = ref.MODELS[job.name]
    inputs = row.inputs(ref.config_of(model), job.batch, job.size)
    with torch.device("meta"):  # counts without memory
        ghost = (row.full if job.full else row.tiny)().eval()
        # As plain products: the counter does not see inside the CPU's fused kernel.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            row.torch_run(ghost, *inputs)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device, getattr(torch, job.dtype))
    if device == "cuda":
        model = model.to(memory_format=torch.channels_last)
    forward = torch.compile(row.torch_run) if job.compiled else row.torch_run

    def run() -> Any:
        def once() -> Any:
            out = forward(model, *inputs)
            if device == "cuda":
                torch.cuda.synchronize()
            return out

        seconds, out = _timed(once)
        out = out if isinstance(out, tuple) else (out,)
        return seconds, [y.float().cpu().numpy() for y in out]

    a = torch.randn(MATRIX, MATRIX, device=device, dtype=getattr(torch, job.dtype))

    def matrix() -> float:
        def product() -> None:
            torch.mm(a, a)
            if device == "cuda":
                torch.cuda.synchronize()

        product()
        return 2 * MATRIX**3 / min(_timed(product)[0] for _ in range(5))

    opened = {
        "flops": counter.get_total_flops(),
        "version": f"torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }
    return opened, {"run": run, "matrix": matrix, "memory": _peak}


def _our_side(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    import jax
    import jax.numpy as jnp

    from ports.checkpoint import read_json
    from scripts import reference_models as ref
    from une_jax.parallel import memory_schedule

    row = ref.MODELS[job.name]
    jax.block_until_ready(jnp.zeros(8) + 1)  # the runtime itself is not the model's
    before = _peak()
    load_seconds, port = _timed(
        lambda: jax.block_until_ready(ref.load(job.name, job.folder, job.dtype))
    )
    loaded = _peak()
    config = read_json(job.folder / "config.json")
    inputs = row.inputs(config, job.batch, job.size)
    inputs = jax.device_put(ref.for_port(inputs))
    apply = jax.jit(
        port.apply,
        static_argnames="method",
        compiler_options=memory_schedule(jax.default_backend()),
    )
    jax.config.update("jax_compilation_cache_dir", str(job.folder / "compiled"))

    def build() -> Any:
        jax.clear_caches()
        return apply.lower(port.params, *inputs, method=row.method).compile()

    compile_seconds, compiled = _timed(build)
    cached_seconds, _ = _timed(build)

    def run() -> Any:
        seconds, out = _timed(
            lambda: jax.block_until_ready(compiled(port.params, *inputs))
        )
        out = out if isinstance(out, tuple) else (out,)
        return seconds, [np.asarray(y.astype(jnp.float32)) for y in out]

    a = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX), np.dtype(job.dtype))
    product = jax.jit(jnp.matmul)

    def matrix() -> float:
        jax.block_until_ready(product(a, a))
        times = (_timed(lambda: jax.block_until_ready(product(a, a))) for _ in range(5))
        return 2 * MATRIX**3 / min(seconds for seconds, _ in times)

    opened = {
        "load_seconds": load_seconds,
        "load_bytes": loaded - before,
        "compile_seconds": compile_seconds,
        "cached_seconds": cached_seconds,
        "version": f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
    }
    return opened, {"run": run, "matrix": matrix, "memory": _peak}
