"""Which images fit the maps, which the probes, and which test both."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from une_jax import pairing
from une_jax.errors import UneError
from une_jax.zoo import Zoo

PART = 2 / 3  # of the train rows, for the maps
LEAST = {"maps": 8, "probes": 4, "tests": 4}


class Rows(NamedTuple):
    """Three sets of a zoo's ok rows that have no image in common."""

    maps: Int[np.ndarray, " n"]
    probes: Int[np.ndarray, " p"]
    tests: Int[np.ndarray, " m"]


def choose(
    zoo: Zoo,
    *,
    maps: int | None = None,
    probes: int | None = None,
    tests: int | None = None,
) -> Rows:
    """Maps and probes from the train part of the paper's split, tests from the other.

    ``maps``, ``probes`` and ``tests`` are how many of each; by default two thirds of the
    train rows are for maps, the others for probes, and all test rows are tests. They are
    drawn at random, always the same; of images whose files are equal to the byte, one.

    Raises:
        UneError: there are too few.
    """
    digests = np.asarray(zoo.rows.column("sha256").to_pylist())
    drawn = np.random.default_rng(0).permutation(len(digests))
    _, first = np.unique(digests[drawn], return_index=True)
    once = drawn[np.sort(first)]
    train, test = (once[np.isin(once, zoo.split(p))] for p in ("train", "test"))
    if maps is None:
        spared = round(len(train) * (1 - PART)) if probes is None else probes
        maps = max(0, len(train) - spared)
    if probes is None:
        probes = len(train) - maps
    wanted = {"maps": maps, "probes": probes, "tests": len(test) if tests is None else tests}  # fmt: skip
    for name, least in LEAST.items():
        if wanted[name] < least:
            raise UneError(
                f"{zoo.path}: {wanted[name]} rows for {name}, where {least} are needed: "
                "build it of more images"
            )
    if maps + probes > len(train) or wanted["tests"] > len(test):
        raise UneError(
            f"{zoo.path} has {len(train)} train and {len(test)} test rows of different "
            f"files, too few for {maps} of maps with {probes} of probes, and "
            f"{wanted['tests']} of tests"
        )
    chosen = Rows(train[:maps], train[maps : maps + probes], test[: wanted["tests"]])
    pairing.disjoint(**{k: digests[v] for k, v in chosen._asdict().items()})
    return chosen
