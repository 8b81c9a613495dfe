"""The same images edited in the noise and in h, before the same judge."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from une_jax import hspace_keeping
from une_jax.cli import hspace_given
from une_jax.cli.sections.decoding import Decoding
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.report import contest, effects
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.judges import Judge
from une_jax.report.tables import Row

STEPS = (1.0, 2.0, 4.0)  # standard deviations of h
NOISE, H = "noise", "h"
SHOWN = {
    "way": "edited",
    "reached": "get there",
    "collateral": "collateral",
    "against": "against noise",
    "identity": "identity",
    "most": "largest change",
}


def write(
    chapter: Chapter,
    decoding: Decoding,
    measured: effects.Measured,
    keeping: str,
    judge: Judge,
    target: float,
    done: Callable[[int], None],
) -> None:
    """Adds edits in h of what is ``measured`` in the noise, side by side.

    Args:
        keeping: the noise's way of leaving others alone.
        target: the change at which they are compared.
        done: as of ``effects.measure``.
    """
    inside = decoding.inside
    if inside is None:
        return
    names = [name for name in measured.attributes if name in inside.names]
    if not names:
        chapter.note("Nothing that is edited here has a direction in h.")
        return
    plain = {name: inside for name in names}
    entries = [
        (NOISE, part(measured, names, effects.PLAIN)),
        (f"{NOISE}, others kept", part(measured, names, keeping)),
    ]
    kept = {name: _kept(inside, name) for name in names}
    for way, directions in ((H, plain), (f"{H}, others kept", kept)):
        found = _measured(decoding, measured, way, directions, judge, done)
        entries.append((way, found))
    ranked = [contest.enter(name, found, target) for name, found in entries]
    first, *others = contest.rows(ranked)
    told = [first | {"against": ""}]
    rows = told + [row | {"against": against(row)} for row in others]
    chapter.say(
        f"Noise is one place to edit in, the output of the UNet's middle block (h) another. "
        f"Below, {len(names)} attributes are edited in both, in the same images. A step in "
        "one has no length in the other: so all are taken where the edited score has "
        f"changed by {target:g} sd, walked up to {max(STEPS):g} standard deviations of h. "
        "They are those that the noise knows best, not h. Others are kept in h by "
        "projecting their directions out."
    )
    chapter.table(
        "spaces",
        rows,
        f"At a change of {target:g} sd of the edited score, over the attributes that get "
        "there. Against noise: the difference in collateral over those that get there in "
        "both, with a 95 % interval over images. Largest change: of the edited score at "
        "any step, over all of them.",
        names=SHOWN,
        digits=2,
    )
    chapter.keep("spaces_by_attribute", contest.by_attribute(ranked))
    finding = beside_noise(first, rows[2])
    if finding is not None:
        chapter.find(finding)


def count(decoding: Decoding, names: Sequence[str], images: int) -> int:
    """How many images ``write`` will decode."""
    if decoding.inside is None:
        return 0
    there = sum(name in decoding.inside.names for name in names)
    return 2 * there * images * (1 + len(STEPS))


def part(
    measured: effects.Measured, names: Sequence[str], way: str
) -> effects.Measured:
    """One walk for each name: in this way, or plain where it has nothing to keep."""
    at = []
    for name in names:
        found = measured.of(name, way)
        found = measured.of(name, effects.PLAIN) if found is None else found
        assert found is not None
        at.append(found)
    return replace(
        measured,
        walks=tuple(measured.walks[w] for w in at),
        change=measured.change[at],
        collateral=measured.collateral[at],
        identity=measured.identity[at],
        missed=measured.missed[at],
    )


def against(row: Row) -> str:
    """A row's collateral beside the first one's, in words; a dash where no attribute
    gets there in both.

    >>> against({"vs first": 0.164, "low": -0.016, "high": 0.347})
    '+16 % [-2, +35]'
    """
    change, low, high = (100 * float(row[k] or 0) for k in ("vs first", "low", "high"))
    if change != change:
        return "–"
    return f"{change:+.0f} %" + (f" [{low:+.0f}, {high:+.0f}]" if low == low else "")


def beside_noise(noise: Row, h: Row) -> Finding | None:
    """What edits in h change besides, against those in the noise; None where no
    attribute gets there in both."""
    change, low, high = (100 * float(h[k] or 0) for k in ("vs first", "low", "high"))
    if change != change:
        return None
    if high < 0:
        verdict = f"Yes: others change {-change:.0f} % less."
    elif low > 0:
        verdict = f"No: others change {change:.0f} % more."
    else:
        within = f" ({low:+.0f} to {high:+.0f})" if low == low else ""
        verdict = f"Not shown: {change:+.0f} %{within} is within chance."
    return Finding(
        question="Do edits in the bottleneck change less besides than in the noise?",
        value=change / 100,
        shown=f"{change:+.0f} %",
        of=f"collateral in h; {h['reached']} attributes get there",
        beside=0.0,
        beside_shown="0 %",
        beside_of=f"as in the noise, where {noise['reached']} do",
        verdict=verdict,
    )


def _kept(inside: Directions, name: str) -> Directions:
    try:
        return hspace_keeping.held(inside, [name], inside.entangled(name))
    except UneError:  # nothing of it is left
        return inside


def _measured(
    decoding: Decoding,
    like: effects.Measured,
    way: str,
    directions: dict[str, Directions],
    judge: Judge,
    done: Callable[[int], None],
) -> effects.Measured:
    g = decoding.generators[0]
    test = decoding.test[: like.change.shape[1]]

    def strips(
        rows: np.ndarray, walks: Sequence[effects.Walk], steps: np.ndarray
    ) -> UInt8[np.ndarray, "n s h w 3"]:
        (walk,) = walks
        at = test[rows]
        return hspace_given.strip(
            g,
            directions[walk.attribute],
            walk.attribute,
            [0.0, *map(float, steps)],
            decoding.origin(g, at)[g.name],
            decoding.prompts(g, at),
        )

    walks = [effects.Walk(attribute=name, way=way) for name in directions]
    block = effects.block_of(g.size, walks, len(STEPS))
    return effects.measure(
        strips, judge, walks, STEPS, len(test), block=block, done=done
    )
