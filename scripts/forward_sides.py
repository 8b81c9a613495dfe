"""One forward pass of a published model, by torch and by ours: targets of ``Side``."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts import reference_models as ref
from scripts.side import Commands, our_matrix, resident_peak, timed, torch_matrix


class Job(NamedTuple):
    """What a side runs; ``dtype`` is a name such as float32."""

    name: str
    folder: Path
    full: bool
    batch: int
    size: int
    dtype: str = "float32"
    compiled: bool = False


def torch_forward(job: Job) -> tuple[dict[str, Any], Commands]:
    """``run``: (seconds, outputs); ``matrix``: FLOP/s; ``memory``: peak bytes."""
    import torch

    torch.set_grad_enabled(False)
    model = ref.build(job.name, full=job.full)
    if not any(job.folder.glob("*.safetensors*")):
        model.save_pretrained(job.folder)
    row = ref.MODELS[job.name]
    inputs = row.inputs(ref.config_of(model), job.batch, job.size)
    flops = ref.count_flops(row.full if job.full else row.tiny, row.torch_run, inputs)
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

        seconds, out = timed(once)
        out = out if isinstance(out, tuple) else (out,)
        return seconds, [y.float().cpu().numpy() for y in out]

    opened = {
        "flops": flops,
        "version": f"torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }

    def matrix() -> float:
        return torch_matrix(device, getattr(torch, job.dtype), full=job.full)

    return opened, {"run": run, "matrix": matrix, "memory": resident_peak}


def our_forward(job: Job) -> tuple[dict[str, Any], Commands]:
    """The same by ours, and what loading and compiling took."""
    import jax
    import jax.numpy as jnp

    from ports.checkpoint import read_json
    from une_jax.parallel import memory_schedule

    row = ref.MODELS[job.name]
    jax.block_until_ready(jnp.zeros(8) + 1)  # the runtime itself is not the model's
    before = resident_peak()
    load_seconds, port = timed(
        lambda: jax.block_until_ready(ref.load(job.name, job.folder, job.dtype))
    )
    loaded = resident_peak()
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

    compile_seconds, compiled = timed(build)
    cached_seconds, _ = timed(build)

    def run() -> Any:
        seconds, out = timed(
            lambda: jax.block_until_ready(compiled(port.params, *inputs))
        )
        out = out if isinstance(out, tuple) else (out,)
        return seconds, [np.asarray(y.astype(jnp.float32)) for y in out]

    opened = {
        "load_seconds": load_seconds,
        "load_bytes": loaded - before,
        "compile_seconds": compile_seconds,
        "cached_seconds": cached_seconds,
        "version": f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
    }

    def matrix() -> float:
        return our_matrix(np.dtype(job.dtype), full=job.full)

    return opened, {"run": run, "matrix": matrix, "memory": resident_peak}
