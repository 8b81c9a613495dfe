"""What edits do, as a judge sees it: the change that was meant, and all others."""

from collections.abc import Callable, Sequence

import numpy as np

from une_jax.cli.effects import editor
from une_jax.cli.judging import REGRESSOR
from une_jax.cli.sections import spaces
from une_jax.cli.sections.decoding import Decoding
from une_jax.cli.sections.edits import KEEPING, best
from une_jax.report import effect_figures, effect_tables, effects
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.judges import Judge
from une_jax.report.tables import Row

# The best-read attributes, in these ways, on so many images: two thirds of a minute.
ATTRIBUTES, IMAGES = 6, 8
WAYS = (effects.PLAIN, "euclidean", KEEPING, effects.RANDOM)
STEPS = (0.3, 0.9)  # in mean lengths of the noise
TARGET = 1.0


def write(decoding: Decoding, judge: Judge, tell: Callable[[float], None]) -> Chapter:
    """Measures edits of the attributes that the first generator's noise knows best."""
    chapter = Chapter(key="effects", title="What edits do")
    names = [n for n in best(decoding.teacher) if n in judge.names][:ATTRIBUTES]
    if not names:
        chapter.say(f"No attribute has a direction that {judge.name} can judge.")
        return chapter
    test = decoding.test[:IMAGES]
    walks = effects.walks_of(decoding.teacher, names, WAYS)
    done = _counter(
        len(test) * (len(names) + len(walks) * len(STEPS))
        + spaces.count(decoding, names, len(test)),
        tell,
    )
    measured = _measured(decoding, walks, test, judge, done)
    compared = effect_tables.compare(measured, TARGET)
    painted = judge.name == REGRESSOR  # of other images, nothing is known to be planted
    truth = effect_tables.planted(judge.names) if painted else None
    chapter.say(
        f"A judge that had no part in the edits (`{judge.name}`) reads every attribute "
        f"off {len(test)} edited images, for the {len(names)} attributes that the noise "
        "knows best. Collateral is the root mean square change of all scores but the "
        "edited one, in standard deviations. The control goes as far in a random "
        "direction. Kept are up to three attributes whose directions have a cosine above "
        "0.1 with the edited one's."
    )
    ways = effect_tables.by_way(compared)
    by = {str(row["way"]): row for row in ways}
    if by[effects.PLAIN]["compared"]:
        for sentence in effect_tables.verdict(compared):
            chapter.say(sentence)
    else:
        chapter.say(
            f"No plain edit changes its score by {TARGET:g} sd within these steps, so "
            "that ways cannot be compared at an equal change."
        )
    if any(all(measured.of(a, w) is not None for w in measured.ways) for a in names):
        chapter.chart(
            "effects",
            effect_figures.costs(compared),
            "Collateral against the change that was meant, at steps of "
            f"{' and '.join(f'{s:g}' for s in STEPS)} of the noise's length: lower and "
            "further right is better.",
            "Lines: collateral against intended change, one line a way of editing.",
        )
    kept = [KEEPING] if KEEPING in measured.ways else []
    planted = "; last, the correlations that were planted in the faces" if truth is not None else ""  # fmt: skip
    chapter.chart(
        "collateral",
        effect_figures.matrices(compared, [effects.PLAIN, *kept], truth),
        "Who moves with whom: change of every score (columns) for each standard "
        f"deviation of the edited one (rows){planted}.",
        f"Heatmaps, {len(names)} edited attributes by {len(judge.names)} scores: plain "
        f"edits{', edits that keep others' if kept else ''}{planted}.",
    )
    chapter.table(
        "effects",
        effect_tables.by_attribute(compared, truth),
        f"At a change of {TARGET:g} sd of the edited score; a dash: not reached. "
        "Identity: cosine of who it is before and after.",
        names={
            "attribute": "attribute",
            "way": "way",
            "keep": "kept",
            "per sd": "change per sd",
            "step": "step needed",
            "collateral": "collateral",
            "identity": "identity",
            "psnr outside": "PSNR outside, dB",
        },
        digits=2,
        folded="By attribute, as a table",
    )
    chapter.keep("effects_by_way", ways)
    chapter.keep("collateral", effect_tables.matrix_rows(compared, truth))
    chapter.find(reach(by[effects.PLAIN], by[effects.RANDOM]))
    for way in ("euclidean", KEEPING):
        if way in by and by[way]["compared"]:
            chapter.find(keeping(way, by[way]))
    spaces.write(chapter, decoding, measured, KEEPING, judge, TARGET, done)
    return chapter


def reach(plain: Row, control: Row) -> Finding:
    """What a step as long as the noise changes, beside one in a random direction."""
    own, other = (float(row["per step"] or 0) for row in (plain, control))
    works = own > 0.2 and own > 3 * abs(other)
    return Finding(
        question="Do edits change what they should?",
        value=own,
        shown=f"{own:+.1f} sd",
        of="of the edited score for a step as long as the noise, mean of "
        f"{plain['walked']} attributes",
        beside=other,
        beside_shown=f"{other:+.1f} sd",
        beside_of="as far in a random direction",
        verdict="Yes: it is the direction that does it, not the distance."
        if works
        else "Not clearly: a random direction does nearly as much.",
    )


def keeping(way: str, kept: Row) -> Finding:
    """Collateral at an equal change with others kept, beside plain edits."""
    value, beside = (float(kept[c] or 0) for c in ("collateral", "collateral of plain"))
    change, low, high = (
        100 * float(kept[f"collateral vs plain{end}"] or 0)
        for end in ("", " low", " high")
    )
    if high < 0:
        said = f"Yes: others change {-change:.0f} % less."
    elif low > 0:
        said = f"No: others change {change:.0f} % more."
    else:
        within = f" ({low:+.0f} to {high:+.0f})" if low == low else ""
        said = f"Not shown: {change:+.0f} %{within} is within chance."
    return Finding(
        question=f"Does leaving others alone help ({way})?",
        value=value,
        shown=f"{value:.2f} sd",
        of=f"collateral at {TARGET:g} sd of intended change, others kept "
        f"({kept['compared']} of {kept['walked']} attributes get there)",
        beside=beside,
        beside_shown=f"{beside:.2f} sd",
        beside_of="plain edits",
        verdict=said,
    )


def _counter(total: int, tell: Callable[[float], None]) -> Callable[[int], None]:
    """Tells the part of ``total`` images that is done."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        tell(min(1.0, done / total))

    return count


def _measured(
    decoding: Decoding,
    walks: Sequence[effects.Walk],
    test: np.ndarray,
    judge: Judge,
    done: Callable[[int], None],
) -> effects.Measured:
    g = decoding.generators[0]
    length = effects.mean_length(decoding.teacher.train)
    return effects.measure(
        effects.along(editor(g, decoding.zoo, test, "off"), length),
        judge,
        walks,
        STEPS,
        len(test),
        length=length,
        block=effects.block_of(g.size, walks, len(STEPS)),
        done=done,
    )
