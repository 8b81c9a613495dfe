"""The file system's calls, seen one by one, so that a test can make any of them the last.

`watched(hook)` puts itself between Python and the very calls that storage uses. Before
each of them `hook` gets a `Call`; it may raise, kill the process, wait or only count. A
write is made in two halves with the hook before each, so a writer that dies there has
written half.
"""

import builtins
import contextlib
import fcntl
import io
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MOVES = ("replace", "rename", "link", "symlink")
CHANGES = ("mkdir", "rmdir", "unlink", "remove", "truncate")
LOOKS = ("look", "flock")  # these change nothing, but can fail


class Call(NamedTuple):
    """A call that is about to be made.

    Attributes:
        name: "open" (for writing), "write" and "half" (before and amid the bytes),
            "fsync", "replace", "mkdir", "unlink", ...; "look" opens for reading.
        path: of the file or folder; for a move, where it goes.
    """

    name: str
    path: str


Hook = Callable[[Call], None]


@contextlib.contextmanager
def watched(hook: Hook) -> Iterator[None]:
    """Lets `hook` see each call before it is made, as long as this context lasts.

    Calls that `hook` makes itself are not seen.
    """
    hook = _not_within_itself(hook)
    true = {name: getattr(os, name) for name in (*MOVES, *CHANGES)}
    true |= {n: getattr(os, n) for n in ("open", "write", "fsync")}
    true_open, flock = builtins.open, fcntl.flock

    def change(name: str) -> Callable:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            goal = args[0] if name in MOVES else path
            hook(Call(name, os.fsdecode(goal)))
            return true[name](path, *args, **options)

        return call

    def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
        kind = "open" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "look"
        hook(Call(kind, os.fsdecode(path)))
        return true["open"](path, flags, *args, **options)

    def python_open(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        kind = "look" if mode in ("r", "rb") else "open"
        if not isinstance(file, int):  # a descriptor is open already
            hook(Call(kind, os.fsdecode(file)))
        opened = true_open(file, mode, *args, **options)
        return opened if kind == "look" else _File(opened, hook)

    def write(fd: int, data: Any) -> int:
        view = memoryview(data).cast("B")
        hook(Call("write", _path(fd)))
        done = true["write"](fd, view[: len(view) // 2])
        hook(Call("half", _path(fd)))
        return done + true["write"](fd, view[done:])

    def fsync(fd: Any) -> None:
        hook(Call("fsync", _path(fd)))
        true["fsync"](fd)

    def lock(fd: Any, operation: int) -> None:
        hook(Call("flock", _path(fd)))
        flock(fd, operation)

    ours = {name: change(name) for name in (*MOVES, *CHANGES)}
    ours |= {"open": opened, "write": write, "fsync": fsync}
    ours |= {"fdatasync": fsync, "ftruncate": change("truncate")}
    true |= {"fdatasync": os.fdatasync, "ftruncate": os.ftruncate}
    for name, function in ours.items():
        setattr(os, name, function)
    builtins.open = io.open = python_open
    fcntl.flock = lock
    try:
        yield
    finally:
        for name, function in true.items():
            setattr(os, name, function)
        builtins.open = io.open = true_open
        fcntl.flock = flock


def _not_within_itself(hook: Hook) -> Hook:
    inside = False

    def outer(call: Call) -> None:
        nonlocal inside
        if not inside:
            inside = True
            try:
                hook(call)
            finally:
                inside = False

    return outer


class _File:
    """A file open for writing, whose writes are made in halves."""

    def __init__(self, file: Any, hook: Hook) -> None:
        self._file, self._hook = file, hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        view = data if isinstance(data, str) else memoryview(data).cast("B")
        path, half = _path(self._file), len(view) // 2
        self._hook(Call("write", path))
        self._file.write(view[:half])
        self._file.flush()  # what a killed process had buffered would be lost
        self._hook(Call("half", path))
        self._file.write(view[half:])
        return len(view)


def _path(fd: Any) -> str:
    number = fd if isinstance(fd, int) else fd.fileno()
    return os.readlink(f"/proc/self/fd/{number}")


def at(point: int, act: Callable[[Call], None], *, looks: bool = False) -> Hook:
    """A hook that acts before call number `point`, counted from 0; for -1 at none.

    With `looks`, calls that change nothing count as well.
    """
    count = 0

    def hook(call: Call) -> None:
        nonlocal count
        if looks or call.name not in LOOKS:
            count += 1
            if count - 1 == point:
                act(call)

    return hook


def kill(call: Call) -> None:
    """Ends this process as a power switch would: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def failing(code: int) -> Callable[[Call], None]:
    """Makes the call fail with this errno."""

    def act(call: Call) -> None:
        raise OSError(code, os.strerror(code), call.path)

    return act
