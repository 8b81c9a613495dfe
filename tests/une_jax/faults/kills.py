"""SIGKILL before every call that changes a dataset. Runs in a light process."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import light
import little
import shim

from une_jax import zoo


class Bench:
    """One of `little.HISTORIES`: its start, and the end that nothing has disturbed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.history = little.HISTORIES[name]
        self.root = str(folder)
        self._folder, self._count = folder, 0
        little.run(folder / "before" / "zoo", self.history.before)
        # What Python opens once in its life, such as time zones, is no point of every run.
        little.run(self.start(), self.history.steps)
        whole = self.start()
        calls: list[shim.Call] = []
        with shim.watched(calls.append):
            little.run(whole, self.history.steps)
        self.points = sum(call.name not in shim.LOOKS for call in calls)
        self.looks = len(calls)
        little.finish(whole, self.history)
        assert zoo.verify(whole) == []
        self.expected = little.tree(whole)

    def start(self) -> Path:
        """A new dataset, as the history finds it."""
        path = self.empty()
        if self.history.before:
            shutil.copytree(self._folder / "before" / "zoo", path)
        return path

    def empty(self) -> Path:
        """A place that does not exist yet, in a folder that does."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return folder / "deep" / "zoo"

    def dies(
        self, path: Path, work: Callable[..., object], point: int
    ) -> tuple[list[str], bool]:
        """The steps that were over, and whether the process died at `point`."""

        def die(tell: Callable[[str], None]) -> None:
            with shim.watched(shim.at(point, shim.kill)):
                work(path, tell)

        return light.Child(die).end()

    def run(self, path: Path, tell: Callable[[str], object]) -> None:
        """The steps that faults hit."""
        little.run(path, self.history.steps, tell)

    def resume(self, path: Path, tell: Callable[[str], object]) -> None:
        """What a user does afterwards."""
        little.finish(path, self.history)

    def after(
        self,
        path: Path,
        done: Sequence[str],
        what: str,
        check: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """What is wrong with a dataset that was left behind, and with the resumed."""
        try:
            check()
            is_sound(path, (*self.history.before, *done))
            little.finish(path, self.history)
            assert little.tree(path) == self.expected, sorted(little.tree(path))
        except Exception as error:  # of whatever kind: it is what the test is about
            return [f"{what} after {done}: {type(error).__name__}: {error}"]
        return []


def is_sound(path: Path, done: Sequence[str]) -> None:
    """Readers see whole shards, and all whose commit has returned.

    Raises:
        AssertionError: they do not.
    """
    if not (path / "manifest.json").exists():
        assert not done, f"no manifest, though {done[-1]} is over"
        return
    found = little.versions(path)
    promised: dict[int, set[int | None]] = {}
    for step in done:
        name, _, index = step.partition(" ")
        if name == "commit":
            promised[int(index)] = {0}
        elif name == "replacing":
            promised[int(index)] = {0, 1, None}
        elif name == "replace":
            promised[int(index)] = {1}
    for index, allowed in promised.items():
        assert found.get(index) in allowed, (index, found)
    assert problems(path) == []


def problems(path: Path) -> list[str]:
    """What `verify` finds, but for what a killed build may leave."""
    rests = ("unfinished", "left by a killed build", "not committed")
    return [p for p in zoo.verify(path) if not any(rest in p for rest in rests)]


def every_point(name: str) -> dict[str, Any]:
    """Kills a build at each point in turn; what the next one finds and makes."""
    with light.scratch() as folder:
        bench = Bench(name, Path(folder))
        wrong: list[str] = []
        for point in range(bench.points):
            path = bench.start()
            done, killed = bench.dies(path, bench.run, point)
            assert killed, f"only {point} of {bench.points} points"
            wrong += bench.after(path, done, f"killed at {point}")
        return {"points": bench.points, "wrong": wrong}


def twice(name: str, pairs: int) -> dict[str, Any]:
    """Kills a build, and the one that resumes it, at points drawn by chance."""
    chance = random.Random(pairs)
    killed_twice, wrong = 0, []
    with light.scratch() as folder:
        bench = Bench(name, Path(folder))
        for _ in range(pairs):
            first, second = (chance.randrange(bench.points) for _ in range(2))
            path = bench.start()
            done, _ = bench.dies(path, bench.run, first)
            _, again = bench.dies(path, bench.resume, second)
            killed_twice += again
            what = f"killed at {first}, and at {second} of the resumed run"
            wrong += bench.after(path, done, what)
        return {"killed_twice": killed_twice, "wrong": wrong}
