"""Every test runs typed, strict and on four fake CPU devices."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook  # noqa: E402

hook = install_import_hook(["ports", "une_jax"], "beartype.beartype")

import gc  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis.configuration import set_hypothesis_home_dir  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples each time, and no folder of them; `make test-faults` seeks new ones.
set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "une-jax-hypothesis"))
hypothesis.settings.register_profile(
    "une-jax",
    derandomize=os.environ.get("UNE_FAULTS") != "all",
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("une-jax")


@pytest.fixture
def key():
    return jax.random.key(0)


MAPS = Path("/proc/self/maps")
MANY = 20_000


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Compiled programs are thrown away when they are many.

    Each takes some memory maps, of which Linux gives a process 65,530
    (vm.max_map_count); beyond, the compiler crashes.
    """
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MANY:
        jax.clear_caches()
        gc.collect()
