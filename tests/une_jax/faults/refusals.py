"""File systems that are full, broken or read-only. Runs in a light process."""

import errno
import itertools
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import light
import little
import shim

from une_jax.errors import UneError

CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
NOBODY = 65534


def every_point(name: str, everything: bool) -> dict[str, Any]:
    """Each call fails, alone or with all that follow it, with each of `CODES`.

    Unless `everything`, only every other call does, and each in another way than the
    one before it.
    """
    ways = list(itertools.product(CODES, (False, True)))
    every = 1 if everything else 2
    wrong, refused = [], 0
    with light.scratch() as folder:
        bench = kills.Bench(name, Path(folder))
        for point in range(len(name) % every, bench.looks, every):
            for code, lasting in ways if everything else [ways[point // 2 % 6]]:
                found = _refused(bench, point, code, lasting=lasting)
                refused += found is not None
                wrong += found or []
    return {"refused": refused, "wrong": wrong}


def _refused(
    bench: kills.Bench, point: int, code: int, *, lasting: bool
) -> list[str] | None:
    """What is wrong if a call fails; None if nobody minds that it does."""
    failed: list[shim.Call] = []

    def fail(call: shim.Call) -> None:
        failed.append(call)
        raise OSError(code, os.strerror(code), call.path)

    first = shim.at(point, fail, looks=True)

    def hook(call: shim.Call) -> None:
        if lasting and failed:
            fail(call)
        first(call)

    path, done = bench.start(), []
    message = ""
    with shim.watched(hook):
        try:
            bench.run(path, done.append)
        except UneError as error:
            message = str(error)
        except OSError as error:
            return [f"{failed[0]}: not our error but {error!r}"]
    what = f"{failed[0].name} {os.path.basename(failed[0].path)} fails"
    wrong = bench.after(path, done, what, check=lambda: _left(path, failed))
    if not message:
        return wrong or None
    if "\n" in message or os.strerror(code) not in message or bench.root not in message:
        wrong.append(f"{what}: {message!r} does not say it")
    return wrong


def _left(path: Path, failed: list[shim.Call]) -> None:
    """Nothing half-written is left, unless it could not be removed."""
    left = [
        p
        for p in path.rglob(".une-tmp-*")
        if not any(call.name in ("unlink", "remove") for call in failed)
    ]
    assert not left, f"{left} are left"


def interrupted(name: str) -> list[str]:
    """Ctrl-C before each call: what is wrong then, or when the build goes on."""
    wrong = []
    with light.scratch() as folder:
        bench = kills.Bench(name, Path(folder))
        for point in range(bench.points):
            path, done = bench.start(), []

            def press(call: shim.Call) -> None:
                raise KeyboardInterrupt

            with shim.watched(shim.at(point, press)):
                try:
                    bench.run(path, done.append)
                    wrong.append(f"interrupted at {point}, and it went on")
                except KeyboardInterrupt:
                    pass
            what = f"interrupted at {point}"
            wrong += bench.after(path, done, what, check=lambda p=path: _left(p, []))
    return wrong


def small_disk(sizes: int) -> list[str]:
    """No file may grow beyond a limit that the kernel sets: a refusal that is no fake."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    wrong = []
    with light.scratch() as folder:
        bench = kills.Bench("go on", Path(folder))
        needed = len(bench.expected["rows/00000.parquet"] or b"")
        for size in range(0, needed, max(1, needed // sizes)):
            path = bench.start()
            ends, done = _in_child(bench, path, lambda size=size: limit(size))
            text = f"a disk for {size} bytes: {ends}"
            if not (len(ends) == 1 and "cannot write" in ends[0]):
                wrong.append(text)
            wrong += bench.after(path, done, text, check=lambda p=path: _left(p, []))
    return wrong


def read_only() -> list[str]:
    """Folders that the user may read but not write, in truth and not by a shim."""

    def become_nobody() -> None:
        if os.geteuid() == 0:  # root may write anywhere
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    wrong = []
    with light.scratch() as folder:
        os.chmod(folder, 0o755)
        bench = kills.Bench("go on", Path(folder))
        path = bench.start()
        before = little.tree(path)
        places = [p for p in (path.parent, path, *path.rglob("*")) if p.is_dir()]
        for place in places:
            place.chmod(0o555)
        ends, done = _in_child(bench, path, become_nobody)
        readers, _ = light.Child(
            lambda tell: (become_nobody(), tell(str(little.versions(path))))
        ).end()
        for place in places:
            place.chmod(0o755)
        if not (len(ends) == 1 and "Permission denied" in ends[0]):
            wrong.append(f"{ends}")
        if readers != [str(little.versions(path))]:
            wrong.append(f"a reader found {readers}")
        if little.tree(path) != before:
            wrong.append(f"it changed: {sorted(little.tree(path))}")
        wrong += bench.after(path, done, "read-only")
    return wrong


def _in_child(
    bench: kills.Bench, path: Path, prepare: Callable[[], None]
) -> tuple[list[str], list[str]]:
    """The errors, one line each, and the steps that were over."""

    def work(tell: Callable[[str], None]) -> None:
        prepare()
        try:
            bench.run(path, tell)
        except UneError as error:
            tell(f"UneError: {error}")

    lines, _ = light.Child(work).end()
    errors = [line for line in lines if line.startswith("UneError: ")]
    return errors, [line for line in lines if line not in errors]
