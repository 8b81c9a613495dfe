"""An edit found in one model, taken along a map and made in another."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from une_jax.report.judges import Judge
from une_jax.report.roads.pairs import Stitched
from une_jax.report.roads.pictures import Decoder, read
from une_jax.report.roads.places import ITSELF
from une_jax.report.tables import Row

STEPS = (-2.0, 2.0)  # of the target's own difference of class means
RANDOM = "a random direction"
OWN = "its own"
SHOWN = 8  # images of each origin that are kept to be seen


class Carried(NamedTuple):
    """An attribute's edit in one target: a row for each model that it comes from, and
    images moved up, by origin."""

    rows: list[Row]
    strips: dict[str, UInt8[np.ndarray, "k h w 3"]]


def edits(
    stitched: Sequence[Stitched], decoder: Decoder, judge: Judge, *, shown: int
) -> dict[str, Carried]:
    """By attribute: a target's test images moved along directions of others.

    ``stitched`` are the roads to this target on the same images, its own among them.
    What comes from elsewhere is brought to the length of the target's own direction; so
    is a random one. What it did says the judge, in standard deviations of a score from
    one end of ``STEPS`` to the other.
    """
    own = next(s for s in stitched if s.source == ITSELF)
    start = own.guess[:shown]
    rng = np.random.default_rng(0)
    found = {}
    for name, move in own.moves.items():
        if name not in judge.names:
            continue
        moves = {OWN: move} | {
            s.source: s.moves[name]
            for s in stitched
            if s is not own and name in s.moves
        }
        moves[RANDOM] = rng.standard_normal(move.shape).astype(np.float32)
        length = float(np.linalg.norm(move))
        scaled = {k: _of_length(v, length) for k, v in moves.items()}
        found[name] = _made(start, scaled, own.target, name, decoder, judge)
    return found


def _made(
    start: Float[np.ndarray, "k d"],
    moves: Mapping[str, Float[np.ndarray, " d"]],
    target: str,
    attribute: str,
    decoder: Decoder,
    judge: Judge,
) -> Carried:
    at = judge.names.index(attribute)
    others = np.arange(len(judge.names)) != at
    rows: list[Row] = []
    strips = {"as it is": decoder.decode(start[:SHOWN])}
    for origin, move in moves.items():
        low, high = (decoder.decode(start + amount * move[None]) for amount in STEPS)
        change = read(judge, high) - read(judge, low)
        rows.append(
            {
                "target": target,
                "attribute": attribute,
                "direction of": origin,
                "change, sd": float(change[:, at].mean()),
                "others, sd": float(np.abs(change[:, others].mean(0)).mean()),
                "cosine to own": _cosine(move, moves[OWN]),
            }
        )
        strips[origin] = high[:SHOWN].copy()
    return Carried(rows, strips)


def _of_length(move: Float[np.ndarray, " d"], length: float) -> np.ndarray:
    norm = np.linalg.norm(move)
    return (move * (length / norm if norm > 0 else 0.0)).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm > 0 else float("nan")
