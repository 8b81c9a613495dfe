"""Fixtures for the commands: run one, and what they work on, made once a session."""

import contextlib
import functools
import io
import json
import signal
from typing import Any, NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ports import load

FACES, SEED, STEPS = 24, 5, 3


class Ran(NamedTuple):
    """A command that has ended."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """What the command complained about, line by line."""
        lines = self.err.splitlines()
        mark = "une-jax: error: "
        # Devices and progress may be told as well, but nothing after the error.
        assert all(line.startswith(mark) for line in lines[-1:]), self.err
        return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def une_jax(*args: object) -> Ran:
    """``une-jax ARGS`` in this process, which it leaves as it was."""
    from une_jax.cli.main import main

    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    precision = jax.config.jax_default_matmul_precision
    optimize_little = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)  # compiles twice as fast
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(arg) for arg in args])
    except SystemExit as end:
        code = end.code
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
        jax.config.update("jax_disable_most_optimizations", optimize_little)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def quick_compiles():
    """Less optimised programs, in half the time."""
    with _little_optimised():
        yield


@pytest.fixture(scope="module")
def compiling_fast():
    """The same for all of a module, its fixtures too."""
    with _little_optimised():
        yield


@contextlib.contextmanager
def _little_optimised():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Runs a command; what one test traced or compiled, the next one finds cached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "define", functools.cache(load.define))
        folder = str(tmp_path_factory.mktemp("xla"))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        before = jax.config.jax_persistent_cache_min_compile_time_secs
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        compilation_cache.reset_cache()
        yield une_jax
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
        compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A Stable Diffusion pipeline of 16-pixel images, random and tiny."""
    import tiny_models

    return tiny_models.write_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """A CLIP, random and tiny."""
    import tiny_models

    return tiny_models.write_clip(tmp_path_factory.mktemp("models") / "eyes")


@pytest.fixture(scope="session")
def faces(run, tmp_path_factory):
    """What ``une-jax faces`` writes."""
    folder = tmp_path_factory.mktemp("faces") / "faces"
    ran = run("faces", "--out", folder, "--n", FACES, "--seed", SEED)
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="session")
def build_args(tiny, eyes, faces):
    """All options of a small build but --out."""
    return (
        "build",
        *("--images", faces / "img_align_celeba"),
        *("--attributes", faces / "list_attr_celeba.txt"),
        *("--generator", f"tiny={tiny}", "--encoder", f"eyes={eyes}"),
        *("--steps", STEPS, "--shard-rows", 8, "--batch-size", 8, "--controls"),
    )


@pytest.fixture(scope="session")
def built(run, build_args, tmp_path_factory):
    """A NoiseZoo of all faces in three shards, built without interruption."""
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    ran = run(*build_args, "--out", folder)
    assert ran.code == 0, ran.err
    return folder
