"""A process beside pytest's that has no JAX and no threads of its own, and so may fork.

`Light.call` runs a function of one of the modules here in it; `Child` gives such a
function children that die a real death.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Light:
    """The process; it lives until it is closed."""

    def __init__(self) -> None:
        paths = [str(HERE), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", "import light; light.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)` over there; arguments and result are JSON.

        Raises:
            AssertionError: the function raised, or the process has ended.
        """
        assert self._process.stdin and self._process.stdout
        order = [function.__module__, function.__name__, args]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the light process ended with {self._process.wait()}"
        result = json.loads(answer)
        assert "raised" not in result, result["raised"]
        return result["result"]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve() -> None:
    """The light process itself: one order a line, one answer a line."""
    answers = sys.stdout
    gc.freeze()  # so that a collection does not copy all of this into each child
    for order in sys.stdin:
        module, name, args = json.loads(order)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = getattr(importlib.import_module(module), name)(*args)
            assert "jax" not in sys.modules, "a process with JAX's threads may not fork"
            answer = {"result": result}
        except BaseException:
            answer = {"raised": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Child:
    """A forked process that runs `work(tell)`; what it tells, the parent can read."""

    def __init__(self, work: Callable[[Callable[[str], None]], object]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            self._live(work, write)
        os.close(write)
        self._told = os.fdopen(self._read, "r")

    def _live(self, work: Callable[..., object], write: int) -> None:
        os_write = os.write  # a shim may sit on it later
        code = 3
        try:
            work(lambda line: os_write(write, f"{line}\n".encode()))
            code = 0
        except BaseException:
            os_write(write, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def hear(self) -> str:
        """The next line that the child tells; "" once it has ended."""
        return self._told.readline().rstrip("\n")

    def end(self) -> tuple[list[str], bool]:
        """Waits; gives what it told and was not heard yet, and whether it was killed.

        Raises:
            AssertionError: the child ended by an exception.
        """
        lines = self._told.read().splitlines()
        self._told.close()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return lines, True
        assert os.WEXITSTATUS(status) == 0, "\n".join(lines)
        return lines, False


def scratch() -> tempfile.TemporaryDirectory:
    """A new folder: in memory if the machine can, as we sync some thousand times.

    Nothing is lost by that: what a disk would have lost is for `power` to work out.
    """
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, 7) else None)
