"""What the commands' options have in common."""

from collections.abc import Sequence
from typing import Annotated

import tyro

# For options whose help text says itself what their default is.
OWN_DEFAULT = tyro.conf.arg(help_behavior_hint="")
Json = Annotated[
    bool, tyro.conf.arg(help="machine-readable result", help_behavior_hint="")
]

REPEATABLE = (
    "--generator",
    "--encoder",
    "--preprocess",
    "--view",
    "--source",
    "--target",
    "--keep",
    "--attribute",
    "--prompt",
    "--shape",
    "--directions",
    "--hspace",
)


def join_repeated(args: Sequence[str]) -> list[str]:
    """``--keep a --keep b`` -> ``--keep a b``: of two, tyro would drop the first.

    >>> join_repeated(["edit", "--keep", "Male", "--json", "--keep=Young"])
    ['edit', '--keep', 'Male', 'Young', '--json']
    """
    groups: list[list[str]] = [[]]  # each an option with its values
    for arg in args:
        name, equals, value = arg.partition("=")
        if name in REPEATABLE:
            groups.append([name, *([value] if equals else [])])
        elif arg.startswith("--"):
            groups.append([arg])
        else:
            groups[-1].append(arg)
    first: dict[str, list[str]] = {}
    for group in groups:
        name = group[0] if group else ""
        if name in first:
            first[name] += group[1:]
            group.clear()
        elif name in REPEATABLE:
            first[name] = group
    return [arg for group in groups for arg in group]
