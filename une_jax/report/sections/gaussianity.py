"""How Gaussian each view is, beside exactly Gaussian data of the same size."""

from collections.abc import Callable, Sequence

import numpy as np

from une_jax.report import gaussian
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.subject import Subject
from une_jax.report.tables import Row

PROJECTIONS, ROWS = 500, 250  # of the paper's 5000; of its rows, or all there are
TEST = "SW"  # Shapiro and Wilk's, the most powerful of the three
QUESTIONS = {
    ("generator", "random"): "Is noise Gaussian along random directions?",
    ("generator", "principal"): "Is it along its own principal components?",
    ("encoder", "random"): "Are embeddings Gaussian along random directions?",
}


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """Acceptance by three tests along three kinds of directions, with its ceiling."""
    chapter = Chapter(key="gaussianity", title="How Gaussian the views are")
    rows_each = min(ROWS, subject.zoo.rows.num_rows)
    protocol = gaussian.Protocol(projections=PROJECTIONS, rows=rows_each)
    views, total, done = subject.briefly, gaussian.count(subject.briefly), 0

    def count(_: str) -> None:
        nonlocal done
        done += 1
        tell(0.75 * done / total)

    rows = gaussian.table(subject.zoo, views, protocol, done=count)
    joint = gaussian.joint_table(subject.zoo, views, protocol)
    for row in rows:
        if row["directions"] == "random" and row["kind"] != "control":
            chapter.numbers[f"{row['data']} accepted_percent"] = float(row["SW %"] or 0)
    chapter.say(
        f"Each view is projected on {PROJECTIONS} directions, {rows_each} images a "
        "projection, and every projection is tested for normality at the 5 % level. "
        "Exactly Gaussian data would be accepted in about 95 % of cases: that, measured "
        "by the same protocol on Gaussian draws of the same size, is the ceiling. "
        "Nothing can be above it by more than luck."
    )
    for directions, caption in (
        (
            "random",
            "Along random directions. Almost any high-dimensional data pass here: the "
            "control with coordinates of -1 and 1 (Rademacher) does, and no coordinate "
            "of it is normal. Passing is necessary, not sufficient.",
        ),
        (
            "principal",
            "Along the view's own principal components, where its structure is if it "
            "has any. This is the harder test.",
        ),
    ):
        chapter.chart(
            f"gaussianity_{directions}",
            gaussian.figure(rows, directions),
            caption,
            f"Dots: percentage of {directions} projections accepted as normal by three "
            "tests, one row a view, with the level of exactly Gaussian data.",
        )
    chapter.table(
        "gaussianity",
        rows,
        "Accepted as normal, in percent, by Shapiro and Wilk's test; the ceiling is what "
        "exactly Gaussian data give; s.e. is binomial, for independent projections.",
        names={
            "data": "data",
            "directions": "directions",
            "SW %": "accepted %",
            "SW s.e.": "s.e.",
            "SW ceiling %": "ceiling %",
            "AD %": "Anderson-Darling %",
            "DP %": "D'Agostino-Pearson %",
        },
        digits=1,
        folded="All views, directions and tests, as a table",
    )
    chapter.table(
        "gaussianity_joint",
        joint,
        "All directions at once: Mardia's test of the leading components (kurtosis z is "
        "about 0 for a Gaussian), and the spread of the rows' lengths (dispersion 1 for "
        "a Gaussian, more for mixed scales, less on a shell).",
        names={
            "data": "data",
            "components": "components",
            "Mardia skewness p": "skewness p",
            "Mardia kurtosis z": "kurtosis z",
            "mean norm": "mean norm",
            "dispersion": "dispersion",
        },
        folded="Tests of all directions at once, as a table",
    )
    for (kind, directions), question in QUESTIONS.items():
        own = [r for r in rows if (r["kind"], r["directions"]) == (kind, directions)]
        if own:
            chapter.find(finding(question, own))
    return chapter


def finding(question: str, rows: Sequence[Row]) -> Finding:
    """Mean acceptance of some views by Shapiro and Wilk's test, beside the ceiling's."""
    share, ceiling = (_mean(rows, f"{TEST} {what}") for what in ("%", "ceiling %"))
    tests = int(sum(int(r["tests"] or 0) for r in rows))
    names = [str(r["data"]) for r in rows]
    return Finding(
        question=question,
        value=share,
        shown=f"{share:.1f} %",
        of=f"of projections accepted, {_several(names)}",
        beside=ceiling,
        beside_shown=f"{ceiling:.1f} %",
        beside_of="exactly Gaussian data of the same size",
        verdict=verdict(share, ceiling, tests),
    )


def verdict(share: float, ceiling: float, tests: int) -> str:
    """What percentages of so many accepted tests say.

    >>> verdict(95.0, 95.2, 1000)
    'Yes: these tests do not tell it from exactly Gaussian data.'
    >>> verdict(40.0, 95.2, 1000)
    'No: 55.2 points of projections more are rejected than of Gaussian data.'
    """
    gap = ceiling - share
    a, b = share / 100, ceiling / 100
    noise = 100 * np.sqrt((a * (1 - a) + b * (1 - b)) / max(tests, 1))
    if gap <= 2 * noise:
        return "Yes: these tests do not tell it from exactly Gaussian data."
    said = f"{gap:.1f} points of projections more are rejected than of Gaussian data."
    return f"Nearly: {said}" if gap < 10 else f"No: {said}"


def _mean(rows: Sequence[Row], column: str) -> float:
    return float(np.mean([float(r[column] or 0) for r in rows]))


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"mean of {len(names)} views"
