"""What scripts/bench_science.py compares: one computation, done by us and by a peer."""

from collections.abc import Callable
from typing import Any, NamedTuple

Size = dict[str, int]
Run = Callable[[], dict[str, Any]]
"""Does the work once, to its end, and gives numbers or numpy arrays by name."""


class Case(NamedTuple):
    """``ours`` and ``peer`` make the same data from the size and a fixed seed, and give
    what is to be timed; ``ours`` compiles in its first run, which is not counted.
    """

    name: str
    size: Size
    quick: Size  # for a look, and for tests
    peer_name: str  # with its version: "scipy 1.17"
    ours: Callable[[Size], Run]
    peer: Callable[[Size], Run] | None  # None where there is nobody to compare with
    agree: Callable[[dict[str, Any], dict[str, Any]], str]  # what to print of both
