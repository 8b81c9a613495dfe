"""Edits compared at an equal change of what they should change.

A way that moves less of everything is not a better way: it is a weaker one. So each way
is taken at the step where it has changed its own score by the same amount, between
the steps that were walked, on the means over the images. Both directions count: a change
by -c at step -s is as good as one by c at s.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from une_jax.report.effects import PLAIN, Measured

LEVEL = 0.95


class Numbers(NamedTuple):
    """Of w walks (or ways) at an equal change; NaN where it was not reached.

    step: the needed one; collateral, systematic, kept: changes of the others in
    standard deviations, root mean square (image by image; of the mean over images; image
    by image, of the kept ones only); identity: cosine; outside: mean squared error
    outside the region; distance: LPIPS.
    """

    step: Float[np.ndarray, "*b w"]
    collateral: Float[np.ndarray, "*b w"]
    systematic: Float[np.ndarray, "*b w"]
    kept: Float[np.ndarray, "*b w"]
    identity: Float[np.ndarray, "*b w"]
    outside: Float[np.ndarray, "*b w"]
    distance: Float[np.ndarray, "*b w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Means over images (drawn anew b times, or once) of w walks, against m steps.

    ``change`` is that of every score, its sign turned where the step is negative, and
    ``intended`` of the walk's own; the first step is 0. Both sides are one point.
    """

    sizes: Float[np.ndarray, " m"]
    intended: Float[np.ndarray, "b w m"]
    change: Float[np.ndarray, "b w m a"]
    collateral: Float[np.ndarray, "b w m"]
    kept: Float[np.ndarray, "b w m"]
    identity: Float[np.ndarray, "b w m"]
    outside: Float[np.ndarray, "b w m"]
    distance: Float[np.ndarray, "b w m"]
    systematic: Float[np.ndarray, "b w m"]


def curves(measured: Measured, *, replicates: int = 0, seed: int = 0) -> Curves:
    """The means, or with ``replicates`` those of images drawn with replacement."""
    n = measured.change.shape[1]
    weight = np.full((1, n), 1 / n, np.float32)
    if replicates:
        rng = np.random.default_rng(seed)
        weight = rng.multinomial(n, np.full(n, 1 / n), replicates).astype(np.float32) / n  # fmt: skip
    s = measured.steps
    sizes = np.unique(np.abs(s))
    fold = np.stack([np.where(np.abs(s) == size, 1.0, 0.0) for size in sizes], 1)
    fold = (fold / fold.sum(0)).astype(np.float32)  # (s, m): the mean of both sides
    signed = fold * np.sign(s)[:, None]

    def mean(x: np.ndarray, zero: float = 0.0) -> np.ndarray:
        # Of the images that have the number.
        total, count = (
            np.einsum("bn,wns,sm->bwm", weight, v, fold, optimize=True)
            for v in (np.nan_to_num(x), np.isfinite(x).astype(np.float32))
        )
        m = np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
        return np.concatenate([np.full_like(m[..., :1], zero), m], axis=-1)

    change = np.einsum("bn,wnsa,sm->bwma", weight, measured.change, signed, optimize=True)  # fmt: skip
    change = np.concatenate([np.zeros_like(change[:, :, :1]), change], axis=2)
    own = [measured.names.index(walk.attribute) for walk in measured.walks]
    intended = np.stack([change[:, w, :, a] for w, a in enumerate(own)], axis=1)
    others = np.square(change).sum(-1) - np.square(intended)
    systematic = np.sqrt(np.maximum(others, 0) / (change.shape[-1] - 1))
    far = measured.distance
    nothing = np.full(measured.collateral.shape, np.nan, np.float32)
    return Curves(
        sizes=np.concatenate([[0.0], sizes]),
        intended=intended,
        change=change,
        collateral=mean(measured.collateral),
        kept=mean(measured.kept),
        identity=mean(measured.identity, 1.0),
        outside=mean(measured.missed),
        distance=mean(nothing if far is None else far),
        systematic=systematic,
    )


def at(found: Curves, target: float) -> Numbers:
    """All numbers where the intended change first is ``target``, which is above 0."""
    y = found.intended
    reached = y >= target
    right = np.argmax(reached, axis=-1)  # never 0: nothing has changed there
    known = reached.any(-1)
    right = np.where(known, right, 1)
    left = right - 1

    def pick(x: np.ndarray, i: np.ndarray) -> np.ndarray:
        return np.take_along_axis(x, i[..., None], -1)[..., 0]

    low, high = pick(y, left), pick(y, right)
    t = (target - low) / np.where(high > low, high - low, 1)

    def between(x: np.ndarray) -> np.ndarray:
        x = np.broadcast_to(x, y.shape)
        value = pick(x, left) * (1 - t) + pick(x, right) * t
        return np.where(known, value, np.nan)

    return Numbers(
        step=between(found.sizes),
        collateral=between(found.collateral),
        systematic=between(found.systematic),
        kept=between(found.kept),
        identity=between(found.identity),
        outside=between(found.outside),
        distance=between(found.distance),
    )


def slopes(found: Curves) -> Float[np.ndarray, "b w"]:
    """Intended change per unit of step: a line through 0, by least squares."""
    s = found.sizes
    return (found.intended * s).sum(-1) / np.square(s).sum()


def per_change(found: Curves) -> Float[np.ndarray, "b w a"]:
    """Every score's change per unit of the intended one, by least squares over the
    steps; 1 for the edited attribute itself."""
    y = found.intended[..., None]
    total = np.square(y).sum(2)
    return (found.change * y).sum(2) / np.where(total > 0, total, np.nan)


class Pairs(NamedTuple):
    """One way's walks, and the plain ones of the same attributes: those that reach the
    change in both."""

    here: list[int]
    plain: list[int]


def pairs(measured: Measured, numbers: Numbers) -> dict[str, Pairs]:
    """Of every way."""
    found = {way: Pairs([], []) for way in measured.ways}
    for w, walk in enumerate(measured.walks):
        plain = measured.of(walk.attribute, PLAIN)
        if plain is not None and np.isfinite(numbers.step[0, [w, plain]]).all():
            found[walk.way].here.append(w)
            found[walk.way].plain.append(plain)
    return found


def means(values: Float[np.ndarray, "b w"], pair: Pairs) -> Float[np.ndarray, "2 b"]:
    """Of a way and of the plain one, over the attributes that both have numbers of."""
    here, plain = values[:, pair.here], values[:, pair.plain]
    known = np.isfinite(here) & np.isfinite(plain)
    count = known.sum(1)
    total = np.stack([np.where(known, x, 0).sum(1) for x in (here, plain)])
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def interval(drawn: Float[np.ndarray, " b"]) -> tuple[float, float]:
    """Percentiles of the replicates; NaN where under half of them are known."""
    known = drawn[np.isfinite(drawn)]
    if 2 * len(known) <= len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
