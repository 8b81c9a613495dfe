"""How much the fault tests try: some of everything, or all with UNE_FAULTS=all."""

import os

EXHAUSTIVE = os.environ.get("UNE_FAULTS") == "all"


def effort(some: int, everything: int) -> int:
    """A number of examples, rounds or steps between points."""
    return everything if EXHAUSTIVE else some
