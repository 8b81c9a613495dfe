"""Several processes at one dataset. Runs in a light process.

`meet` is exact: one process stops before a call of its own, another does all it has to
do (or waits for the lock), then the first goes on. `crowd` and `rush` leave it to
chance and many rounds.
"""

import contextlib
import fcntl
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kills
import light
import little
import shim

from une_jax import zoo
from une_jax.errors import UneError

Tell = Callable[[str], None]
BEFORE = ("create", "commit 1", "commit 2 3")
READ = "read"
FIRST_BUILD = "create, commit 0, fold"
MEETINGS = {
    "commit 0": ("commit 0 2", "fold", "create", "replace 1", READ),
    "fold": ("commit 0", "fold", "create", "replace 1", READ),
    "replace 1": ("commit 0", "fold", "create", "replace 1 2", "replace 2", READ),
    "create": ("commit 0", "fold", "create", "replace 1", FIRST_BUILD),
    READ: ("commit 0", "fold", "replace 1", "fold, replace 1"),
}


def _do(path: Path, step: str, tell: Tell) -> None:
    """Takes a step, and tells how it ended."""
    try:
        if step == READ:
            little.versions(path)
        else:
            little.run(path, step.split(", "))
    except UneError as error:
        tell(type(error).__name__)
    else:
        tell("done")


def meet(path: Path, first: str, second: str, point: int) -> list[str] | None:
    """How both steps ended, if `first` stops before call `point` until `second` is over.

    Where `second` waits for a lock that `first` holds, `first` goes on at once. None if
    `first` makes no such call.
    """
    gate, release = os.pipe()

    def one(tell: Tell) -> None:
        def pause(call: shim.Call) -> None:
            tell("paused")
            os.read(gate, 1)

        with shim.watched(shim.at(point, pause, looks=True)):
            _do(path, first, tell)

    def other(tell: Tell) -> None:
        def look(call: shim.Call) -> None:
            if call.name == "flock" and _is_locked(call.path):
                tell("blocked")

        with shim.watched(look):
            _do(path, second, tell)

    a = light.Child(one)
    try:
        if a.hear() != "paused":
            a.end()
            return None
        b = light.Child(other)
        heard = b.hear()
        os.write(release, b"1")
        ends = [a.end()[0], [heard, *b.end()[0]]]
        return [next(end for end in lines if end != "blocked") for lines in ends]
    finally:
        os.close(gate)
        os.close(release)


def _is_locked(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def meetings(first: str, second: str, every: int) -> dict[str, Any]:
    """`meet` at every `every`-th point; what was wrong afterwards."""
    wrong, points = [], 0
    with light.scratch() as folder:
        for point in range(len(first + second) % every, 1000, every):
            path = Path(folder, str(point))
            if FIRST_BUILD not in (first, second):
                little.run(path, BEFORE)
            try:
                ends = meet(path, first, second, point)
                if ends is None:
                    break
                points += 1
                _is_right(path, first, second, ends)
            except Exception as error:
                wrong.append(f"{first} at {point}: {type(error).__name__}: {error}")
    return {"points": points, "wrong": wrong}


def _is_right(path: Path, first: str, second: str, ends: Sequence[str]) -> None:
    """What must hold once both are over.

    Raises:
        AssertionError: it does not.
    """
    steps = (first, second)
    versions: dict[int, set[int]] = {1: {0}, 2: {3}}
    if second == FIRST_BUILD:
        versions = {0: {0}}
    if second == "commit 0 2":
        assert sorted(ends) == ["AlreadyCommitted", "done"], ends
        versions[0] = {0 if ends[0] == "done" else 2}
    else:
        # A reader may find that a shard is just being replaced.
        unsure = any("replace" in step for step in steps)
        for step, end in zip(steps, ends, strict=True):
            assert end == "done" or (step == READ and unsure), (step, end)
    if "commit 0" in steps and 0 not in versions:
        versions[0] = {0}
    each = [part for step in steps for part in step.split(", ")]
    replaced = [step.split() for step in each if step.startswith("replace")]
    for index in {int(step[1]) for step in replaced}:
        last = [(*map(int, step[1:]), 1)[:2] for step in replaced]
        versions[index] = {version for i, version in last if i == index}
    found = little.versions(path)
    assert found.keys() == versions.keys(), found
    assert all(found[index] in versions[index] for index in found), found
    assert kills.problems(path) == []
    assert not list(path.rglob(".une-tmp-*")), "temporary files are left"


def _at_once(works: Sequence[Callable[[Tell], object]]) -> list[list[str]]:
    """Runs each in a process of its own, all from one moment on; what they told."""
    gate, release = os.pipe()

    def waiting(work: Callable[[Tell], object]) -> Callable[[Tell], object]:
        def run(tell: Tell) -> None:
            os.close(release)
            os.read(gate, 1)  # returns when the last writer closes
            work(tell)

        return run

    children = [light.Child(waiting(work)) for work in works]
    os.close(gate)
    os.close(release)
    return [child.end()[0] for child in children]


def _jitter(seed: int) -> shim.Hook:
    """Makes a process dawdle before some of its calls."""
    chance = random.Random(seed)

    def hook(call: shim.Call) -> None:
        if chance.random() < 0.3:
            time.sleep(chance.random() * 0.002)

    return hook


def rush(workers: int, rounds: int) -> list[str]:
    """Workers commit one shard at once, each its own version; what was wrong."""
    wrong = []
    for turn in range(rounds):
        with light.scratch() as folder:
            path = Path(folder, "zoo")
            little.run(path, ["create"])

            def work(tell: Tell, version: int, path=path, turn=turn) -> None:
                with shim.watched(_jitter(100 * turn + version)):
                    _do(path, f"commit 0 {version}", tell)

            works = [lambda tell, v=v, w=work: w(tell, v) for v in range(workers)]
            ends = [lines[-1] for lines in _at_once(works)]
            found, problems = little.versions(path), kills.problems(path)
            fair = sorted(ends) == ["AlreadyCommitted"] * (workers - 1) + ["done"]
            if problems or not fair or found != {0: ends.index("done")}:
                wrong.append(f"round {turn}: {ends}, {found}, {problems}")
    return wrong


def crowd(rounds: int) -> list[str]:
    """One, four, then two workers, while others fold and read; what was wrong.

    All but the last two are killed on the way.
    """
    size = (24, 1)
    asked = little.manifest(size)
    wrong = []
    with light.scratch() as folder:
        whole = Path(folder, "whole")
        writer = zoo.create(whole, asked)
        for index in writer.pending():
            little.commit(writer, index)
        writer.fold()
        expected = little.tree(whole)
        for turn in range(rounds):
            path = Path(folder, str(turn))
            for number, workers in enumerate((1, 4, 2)):
                seeds = [1000 * turn + 10 * number + i for i in range(workers)]
                works = [_worker(path, asked, s, mortal=number < 2) for s in seeds]
                if number:
                    works += [_folder(path), _reader(path)]
                for lines in _at_once(works):
                    wrong += [f"round {turn}: {line}" for line in lines]
            zoo.create(path, asked).fold()
            if little.tree(path) != expected:
                wrong.append(f"round {turn}: {zoo.verify(path)}")
    return wrong


def _worker(
    path: Path, asked: zoo.Manifest, seed: int, *, mortal: bool
) -> Callable[[Tell], None]:
    chance = random.Random(seed)
    dies_at = chance.randrange(20, 100) if mortal else -1

    def work(tell: Tell) -> None:
        dying, dawdling = shim.at(dies_at, shim.kill), _jitter(seed)
        with shim.watched(lambda call: (dying(call), dawdling(call))[0]):
            writer = zoo.create(path, asked)
            pending = writer.pending()
            chance.shuffle(pending)
            for index in pending:
                with contextlib.suppress(zoo.AlreadyCommitted):
                    little.commit(writer, index)

    return work


def _folder(path: Path) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        for _ in range(10):
            zoo.Writer(path).fold()
            time.sleep(0.005)

    return work


def _reader(path: Path) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        before: set[int] = set()
        for _ in range(10):
            now = set(little.versions(path))
            if before - now:
                tell(f"shards {before - now} were there and are gone")
            before = now

    return work
