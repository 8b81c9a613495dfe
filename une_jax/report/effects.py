"""What edits do, as a judge sees it: every attribute, way of moving and step.

Each attribute is edited in these ways (``WAYS``), on the same images:

================  ==============================================================
plain             along its own direction
euclidean         with the entangled attributes left alone, by each of
conditional       :data:`une_jax.report.teaching.KEEPINGS`
erasure
pattern           nothing kept, but along what the data do when the score rises
                  (covariance times direction, Haufe et al. 2014): what of
                  ``conditional`` is its covariance, and what its keeping
random (control)  as far as plain, in a direction of chance
================  ==============================================================

Steps are compared by their length, in mean lengths of the training rows: standard
deviations along the move, in which the commands count, differ tenfold between ways.

What is kept are the up to three attributes whose directions have a cosine above 0.1 with
the edited one's. Where there is none, there are no kept ways.
"""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from une_jax import edits, effect, keeping
from une_jax.errors import UneError
from une_jax.report.judges import Judge
from une_jax.report.teaching import KEEPINGS, Keeping, Teacher, random_like

PLAIN, PATTERN, RANDOM = "plain", "pattern", "random (control)"
WAYS = (PLAIN, *KEEPINGS, PATTERN, RANDOM)
# An edit's own region: as much of the image, of the pixels that it changes most.
REGION = 0.25
BUDGET = 2**28  # bytes of decoded images at once

Images = UInt8[np.ndarray, "n h w 3"]
Distance = Callable[[Images, Images], Float[np.ndarray, " n"]]
Regions = Callable[[np.ndarray, str], Bool[np.ndarray, "n h w"]]

_measure = jax.jit(jax.vmap(effect.measure, (0, 0, None, None)), static_argnums=2)
_spread = jax.jit(edits.projection_std)
_pattern = jax.jit(keeping.conditional)


@runtime_checkable
class Edit(Protocol):
    """Images of some rows (their numbers), moved: (n, s, m) amounts of (m, d) moves."""

    def __call__(
        self,
        rows: np.ndarray,
        moves: Float32[np.ndarray, "m d"],
        amounts: Float32[np.ndarray, "n s m"],
        /,
    ) -> UInt8[np.ndarray, "n s h w 3"]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """One way to edit one attribute, and how the training rows lie along it.

    Attributes:
        keep: what the kept ways leave alone; the others name it too, to be compared.
        move: of length 1; None where it is no line in the noise (a text, a network).
        spread: standard deviation of the training rows along it; the control has that
            of the plain move.
    """

    attribute: str
    way: str
    keep: tuple[str, ...] = ()
    move: Float32[np.ndarray, " d"] | None = None
    spread: float = float("nan")


@runtime_checkable
class Strips(Protocol):
    """Images of some rows (their numbers): as they are, then by each of w walks at s
    steps, walk by walk."""

    def __call__(
        self, rows: np.ndarray, walks: Sequence[Walk], steps: np.ndarray, /
    ) -> UInt8[np.ndarray, "n columns h w 3"]: ...


def along(edit: Edit, length: float = 1.0) -> Strips:
    """Walks along their moves, by steps that count in ``length``s."""

    def strips(rows: np.ndarray, walks: Sequence[Walk], steps: np.ndarray) -> Any:
        moves = np.stack([walk.move for walk in walks if walk.move is not None])
        # The images as they are, then all steps of the first walk, of the second...
        every = np.kron(np.eye(len(moves), dtype=np.float32), steps[:, None])
        every = np.concatenate([np.zeros_like(every[:1]), length * every])
        return edit(rows, moves, np.broadcast_to(every, (len(rows), *every.shape)))

    return strips


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Of w walks, n images and s steps; changes in standard deviations of the scores.

    Attributes:
        walks, steps: how far, over ``length``; 0 is not among them: it is what all are
            compared to.
        length: the training rows' mean length.
        judge, names: who said so, and the a scores it gives.
        change: of every score.
        collateral: root mean square change of the scores but the edited one's.
        identity: cosine of who it is before and after.
        missed: mean squared error (of values in [0, 1]) outside the edit's region; NaN
            where the region is everything.
        distance: LPIPS between before and after, where it was given.
    """

    walks: tuple[Walk, ...]
    steps: Float32[np.ndarray, " s"]
    length: float
    judge: str
    names: tuple[str, ...]
    change: Float32[np.ndarray, "w n s a"]
    collateral: Float32[np.ndarray, "w n s"]
    identity: Float32[np.ndarray, "w n s"]
    missed: Float32[np.ndarray, "w n s"]
    distance: Float32[np.ndarray, "w n s"] | None = None

    @property
    def intended(self) -> Float32[np.ndarray, "w n s"]:
        """The change of each walk's own score."""
        own = [self.names.index(walk.attribute) for walk in self.walks]
        return np.stack([self.change[w, :, :, a] for w, a in enumerate(own)])

    @property
    def kept(self) -> Float32[np.ndarray, "w n s"]:
        """Root mean square change of what each walk's ``keep`` names; NaN for none."""
        found = np.full(self.collateral.shape, np.nan, np.float32)
        for w, walk in enumerate(self.walks):
            at = [self.names.index(k) for k in walk.keep if k in self.names]
            if at:
                found[w] = np.sqrt(np.square(self.change[w][..., at]).mean(-1))
        return found

    def of(self, attribute: str, way: str) -> int | None:
        """Which walk this is; None where it was not walked."""
        for w, walk in enumerate(self.walks):
            if (walk.attribute, walk.way) == (attribute, way):
                return w
        return None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Those that were edited."""
        return tuple(dict.fromkeys(walk.attribute for walk in self.walks))

    @property
    def ways(self) -> tuple[str, ...]:
        """Those that any attribute was edited in."""
        there = dict.fromkeys(walk.way for walk in self.walks)
        return tuple(w for w in dict.fromkeys((*WAYS, *there)) if w in there)


def walks_of(
    teacher: Teacher,
    attributes: Sequence[str],
    ways: Sequence[str] = WAYS,
    *,
    seed: int = 0,
) -> tuple[Walk, ...]:
    """Each attribute's walks, plain ones first.

    A way of keeping is left out where there is nothing to keep, or where nothing of the
    attribute is left beside it.

    Raises:
        UneError: an unknown way, or an attribute that has no direction.
    """
    for way in ways:
        if way not in WAYS:
            raise UneError(f"there is no way {way!r}; use {', '.join(WAYS)}")
    key = jax.random.key(seed)
    found: list[Walk] = []
    for name in dict.fromkeys(attributes):
        keep = teacher.entangled(name)
        own = teacher.held([name])
        chance = jax.random.fold_in(key, teacher.directions.index(name))
        for way in dict.fromkeys((PLAIN, *ways)):
            if way in KEEPINGS:
                if not keep:
                    continue
                try:
                    held = teacher.held([name], keep, cast("Keeping", way))
                except UneError:  # nothing of it is left
                    continue
                move, spread = held.moves[0], held.spread[0]
            elif way == PATTERN:
                move, spread = _along(teacher.train, own.readers[0])
            else:
                moved = own if way == PLAIN else random_like(own, chance)
                move, spread = moved.moves[0], own.spread[0]
            walk = Walk(
                attribute=name, way=way, keep=keep, move=move, spread=float(spread)
            )
            found.append(walk)
    return tuple(found)


def measure(
    strips: Strips,
    judge: Judge,
    walks: Sequence[Walk],
    steps: Sequence[float],
    n: int,
    *,
    length: float = 1.0,
    block: int = 16,
    regions: Regions | None = None,
    distance: Distance | None = None,
    done: Callable[[int], None] = lambda walked: None,
) -> Measured:
    """Edits images 0 to n - 1 along every walk and lets the judge say what it did.

    Args:
        strips: the generator; of moves in its noise, :func:`along`.
        judge: it must score all attributes that the walks edit.
        steps: how far to move; 0 is left out.
        length: what a step of 1 is, to be told: e.g. :func:`mean_length` of the rows.
        block: how many images are edited at once, see :func:`block_of`.
        regions: where an attribute's edit may change the images of these rows; without,
            the quarter of the pixels that its first walk changes most.
        distance: between pairs of images, e.g. LPIPS.
        done: called after each attribute of each block of images, with how many images
            were decoded.

    Raises:
        UneError: an attribute that the judge does not know, or no step.
    """
    unknown = {walk.attribute for walk in walks} - set(judge.names)
    if unknown:
        raise UneError(f"{judge.name} cannot judge {', '.join(sorted(unknown))}")
    far = np.array(sorted({s for s in steps if s}), np.float32)
    if not len(far) or not np.isfinite(far).all():
        raise UneError("steps: give one number or more beside 0, all finite")
    groups: dict[str, list[int]] = {}
    for w, walk in enumerate(walks):
        groups.setdefault(walk.attribute, []).append(w)
    shape = (len(walks), n, len(far))
    change = np.zeros((*shape, len(judge.names)), np.float32)
    collateral, identity, missed, apart = np.zeros((4, *shape), np.float32)
    for start in range(0, n, block):
        rows = np.arange(start, min(n, start + block))
        for attribute, at in groups.items():
            grid = strips(rows, [walks[w] for w in at], far)
            before, after = grid[:, 0], grid[:, 1:]
            found = _judged(judge, before, after, attribute)
            squared = _squared(before, after)
            own = squared[:, : len(far)]
            inside = regions(rows, attribute) if regions else changed_most(own)

            place = np.array(at)[:, None], rows[None]
            parts = len(rows), len(at), len(far)
            change[place] = _by_walk(found.change, (*parts, len(judge.names)))
            collateral[place] = _by_walk(found.collateral, parts)
            identity[place] = _by_walk(found.identity, parts)
            missed[place] = _by_walk(_outside(squared, inside), parts)
            if distance:
                each = np.repeat(before, after.shape[1], axis=0)
                said = distance(each, after.reshape(each.shape))
                apart[place] = _by_walk(said, parts)
            done(grid.shape[0] * grid.shape[1])
    return Measured(
        walks=tuple(walks),
        steps=far,
        length=length,
        judge=judge.name,
        names=judge.names,
        change=change,
        collateral=collateral,
        identity=identity,
        missed=missed,
        distance=apart if distance else None,
    )


def block_of(size: int, walks: Sequence[Walk], steps: int) -> int:
    """How many images of this edge to edit at once: what fits into ``BUDGET``."""
    count = collections.Counter(walk.attribute for walk in walks)
    edited = 1 + steps * max(count.values(), default=0)
    return max(1, BUDGET // (edited * size * size * 3))


def mean_length(rows: Float[np.ndarray, "n d"]) -> float:
    """Of the rows: about sqrt(d) where they are noise.

    >>> mean_length(np.array([[3.0, 4.0], [0.0, 1.0]]))
    3.0
    """
    return float(np.linalg.norm(rows, axis=1).mean())


def changed_most(
    squared: Float32[np.ndarray, "n s h w"], share: float = REGION
) -> Bool[np.ndarray, "n h w"]:
    """Of each image, this share of its pixels: those with the largest squared
    differences over all steps, as seen from a little further away.

    >>> squared = np.zeros((1, 1, 8, 8), np.float32)
    >>> squared[..., 2:6, 2:6] = 1
    >>> int((changed_most(squared) & (squared[:, 0] > 0)).sum())
    16
    """
    total = squared.sum(1)
    n, h, w = total.shape
    reach = max(1, h // 32)
    smooth = total
    for axis in (1, 2):
        at = np.arange(smooth.shape[axis])
        shifted = [
            np.take(smooth, at + by, axis, mode="clip")
            for by in range(-reach, reach + 1)
        ]
        smooth = np.mean(shifted, axis=0)
    # Ties are broken by the pixel's own difference, then by its place.
    order = np.lexsort((-total.reshape(n, -1), -smooth.reshape(n, -1)), axis=1)
    inside = np.zeros((n, h * w), bool)
    np.put_along_axis(inside, order[:, : round(share * h * w)], True, axis=1)
    return inside.reshape(n, h, w)


def _along(train: np.ndarray, reader: np.ndarray) -> tuple[np.ndarray, float]:
    nothing = jnp.zeros((1, len(reader)))
    move = edits.unit(_pattern(jnp.asarray(reader), nothing, jnp.asarray(train)))
    return np.asarray(move), float(_spread(jnp.asarray(train), move))


def _judged(
    judge: Judge, before: np.ndarray, after: np.ndarray, attribute: str
) -> effect.Effect:
    """Arrays (n, columns, ...) of all edits beside the image that they are of."""
    n, columns = after.shape[:2]
    every = np.concatenate([before, after.reshape(-1, *after.shape[2:])])
    seen = judge(every)
    old = jax.tree.map(lambda x: jnp.repeat(x[:n, None], columns, axis=1), seen)
    new = jax.tree.map(lambda x: x[n:].reshape(n, columns, -1), seen)
    a = judge.names.index(attribute)
    return _measure(old, new, a, jnp.asarray(judge.own[a]))


def _by_walk(x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(images, walks x steps, ...) -> (walks, images, steps, ...)."""
    return np.asarray(x).reshape(shape).swapaxes(0, 1)


def _squared(before: np.ndarray, after: np.ndarray) -> Float32[np.ndarray, "n s h w"]:
    """Squared differences of values in [0, 1], the mean over the colours."""
    found = np.empty(after.shape[:-1], np.float32)
    for j in range(after.shape[1]):  # one at a time: floats are four times the bytes
        d = after[:, j].astype(np.float32) - before.astype(np.float32)
        found[:, j] = np.square(d / 255).mean(-1)
    return found


def _outside(squared: np.ndarray, inside: np.ndarray) -> Float32[np.ndarray, "n s"]:
    outside = ~inside[:, None]
    count = outside.sum((2, 3))
    total = (squared * outside).sum((2, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
