"""The analyses' speed beside the libraries that people use for them; prints Markdown.

    python scripts/bench_science.py

Each side has a process of its own and makes the same data from the same seed; they take
turns after one run of ours that is not counted: it compiles. Wall is the median of
``--runs``; CPU is the median of the process's seconds on all cores, which is what a
library that uses more threads cannot win by; memory is the process's peak, data
included. The last column says how the results agree. A case without a peer is run once,
and what it prints includes the compilation.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.science import gaussianity, gcca, maps, probes, similarity  # noqa: E402
from scripts.science.case import Case, Size  # noqa: E402
from scripts.side import Side, resident_peak  # noqa: E402

ROOMS = {
    "gaussianity": gaussianity.CASES,
    "probes": probes.CASES,
    "maps": maps.CASES,
    "gcca": gcca.CASES,
    "similarity": similarity.CASES,
}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time our analyses and their peers in turns."""

    room: tuple[str, ...] = tuple(ROOMS)
    """which analyses"""
    case: tuple[str, ...] = ()
    """only cases with one of these words in their name"""
    runs: int = 3
    """rounds, after the one that is not counted"""
    quick: bool = False
    """small sizes, to try this script"""


class Job(NamedTuple):
    """One side of one case, for the process that runs it."""

    room: str
    index: int
    ours: bool
    size: Size


class Timed(NamedTuple):
    """One run: seconds by the clock and of all cores, and what came out."""

    wall: float
    cpu: float
    out: dict[str, Any]


def main(args: Args) -> None:
    print(
        "| analysis | size | peer | peer, wall (CPU) | une-jax, wall (CPU) | ratio, wall "
        "| ratio, CPU | memory (peer) | agreement |\n"
        "|---|---|---|---:|---:|---:|---:|---:|---|",
        flush=True,
    )
    for room in args.room:
        for index, case in enumerate(ROOMS[room]):
            if not args.case or any(word in case.name for word in args.case):
                print(row(room, index, case, args), flush=True)


def row(room: str, index: int, case: Case, args: Args) -> str:
    """One line of the table."""
    size = case.quick if args.quick else case.size
    named = ", ".join(f"{k} {v:,}" for k, v in size.items())
    with Side(serve, Job(room, index, True, size)) as ours:
        if case.peer is None:
            alone, memory = ours.ask("run"), ours.ask("memory")
            return (
                f"| {case.name} | {named} |  |  | {_spent(alone)} |  |  "
                f"| {memory / 2**30:.1f} GB | {case.agree(alone.out, {})} |"
            )
        with Side(serve, Job(room, index, False, size)) as peer:
            rounds = [(peer.ask("run"), ours.ask("run")) for _ in range(args.runs)]
            memories = ours.ask("memory"), peer.ask("memory")
    theirs, mine = (_median([r[i] for r in rounds]) for i in (0, 1))
    said = case.agree(rounds[0][1].out, rounds[0][0].out)
    return (
        f"| {case.name} | {named} | {case.peer_name} | {_spent(theirs)} "
        f"| {_spent(mine)} | **{theirs.wall / mine.wall:.1f}x** "
        f"| **{theirs.cpu / mine.cpu:.1f}x** "
        f"| {memories[0] / 2**30:.1f} GB ({memories[1] / 2**30:.1f} GB) | {said} |"
    )


def serve(job: Job) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """In the side's process: makes the data, compiles, then serves ``run``."""
    from une_jax.cli.devices import configure_jax

    case = ROOMS[job.room][job.index]
    make = case.ours if job.ours else case.peer
    assert make is not None
    if job.ours:
        configure_jax()
    run = make(job.size)
    if job.ours and case.peer is not None:
        run()

    def timed() -> Timed:
        before, start = _cpu(), time.perf_counter()
        out = run()
        return Timed(time.perf_counter() - start, _cpu() - before, out)

    return {}, {"run": timed, "memory": resident_peak}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _median(runs: list[Timed]) -> Timed:
    return Timed(
        statistics.median(r.wall for r in runs),
        statistics.median(r.cpu for r in runs),
        {},
    )


def _spent(run: Timed) -> str:
    return f"{_seconds(run.wall)} ({_seconds(run.cpu)})"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
