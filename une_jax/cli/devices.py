"""What this process computes on, and how JAX is set up for it."""

import functools as ft
import os
import sys
from pathlib import Path

from jax.sharding import Mesh


def configure_jax() -> None:
    """float32 means float32, and a second run does not compile again."""
    import jax

    # transformers, here for its tokenizer, would remark that there is no torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    jax.config.update("jax_default_matmul_precision", "float32")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "une_jax/xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@ft.cache
def device_mesh() -> Mesh:
    """This process's own devices, whatever others take part; told on stderr, once.

    The first call starts JAX's backends: a command that computes nothing never calls.
    """
    import jax

    from une_jax import parallel

    devices = jax.local_devices()
    names = dict.fromkeys((devices[0].platform, devices[0].device_kind))
    print(f"une-jax: {len(devices)} x {' '.join(names)}", file=sys.stderr)
    return parallel.data_mesh(devices)
