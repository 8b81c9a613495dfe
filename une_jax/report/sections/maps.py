"""How well each view predicts each other."""

from collections.abc import Callable, Sequence

import numpy as np

from une_jax.report import alignment
from une_jax.report.chapter import Chapter, Finding, two
from une_jax.report.subject import Subject
from une_jax.report.tables import Row

TRAIN = 2000  # rows of maps, whose Gram matrix is decomposed
SHOWN = {
    "source": "from",
    "target": "to",
    "r2": "R²",
    "shuffled pairs r2": "shuffled R²",
    "centred cosine": "centred cosine",
    "top-1": "top-1",
    "chance top-1": "by chance",
}
SHOWN_OF_ATTRIBUTES = {
    "mapped accuracy": "accuracy",
    "accuracy drop from target, pp": "drop, pp",
}
READ = (
    "; accuracy: of the target's attribute probes on mapped latents, and how many "
    "percentage points that is below the target's own."
)


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """Ridge maps between noise and embeddings, beside maps fitted on wrong pairs."""
    chapter = Chapter(key="maps", title="How much of each view the others tell")
    views = subject.names("generator", "encoder")
    if len(views) < 2:
        chapter.say("The zoo has one view only.")
        return chapter
    total, done = len(views) * (len(views) - 1), 0

    def count(_: str) -> None:
        nonlocal done
        done += 1
        tell(done / total)

    attributes = bool(subject.zoo.attribute_names)
    probed = [subject.probed[view] for view in views] if attributes else []
    rows = alignment.table(
        subject.zoo, views, probed=probed, limit=TRAIN, unfitted=False, step=count
    )
    for row in rows:
        chapter.numbers[f"{row['source']} -> {row['target']} r2"] = float(
            row["r2"] or 0
        )
    fitted = min(TRAIN, len(subject.zoo.split("train")))
    chapter.say(
        "If all views are noisy linear looks at one space, each predicts the others. A "
        f"ridge map from each to each, fitted on {fitted} images, says how far: R² is "
        "the part of the target's variance, averaged over its dimensions, that it gets "
        "right on the test images. 0 is as good as the mean, 1 is perfect."
    )
    chapter.chart(
        "maps",
        alignment.figure(rows),
        "Test R² of the map from each view (row) to each other (column). Maps fitted on "
        "shuffled pairs reach 0 at best.",
        f"Heatmap of test R² between {len(views)} views, from 0 (dark) to 1 (bright).",
    )
    chapter.table(
        "maps",
        rows,
        "top-1: how often a mapped test image finds itself among "
        f"{len(subject.zoo.split('test'))}" + (READ if attributes else "."),
        names=SHOWN | (SHOWN_OF_ATTRIBUTES if attributes else {}),
        folded="The same as a table, with shuffled pairs and retrieval",
    )
    kinds = {view.name: view.kind for view in subject.views("generator", "encoder")}
    for source, target, question in (
        ("generator", "encoder", "Does noise predict embeddings?"),
        ("encoder", "generator", "Do embeddings predict noise?"),
    ):
        own = [r for r in rows if (kinds[str(r["source"])], kinds[str(r["target"])]) == (source, target)]  # fmt: skip
        if own:
            chapter.find(finding(question, own))
    return chapter


def finding(question: str, rows: Sequence[Row]) -> Finding:
    """Mean R² of some maps, beside that of the same fitted on shuffled pairs."""
    r2, shuffled = (_mean(rows, c) for c in ("r2", "shuffled pairs r2"))
    found, chance = (_mean(rows, c) for c in ("top-1", "chance top-1"))
    return Finding(
        question=question,
        value=r2,
        shown=two(r2),
        of=f"mean R² of {len(rows)} map{'s' if len(rows) > 1 else ''}",
        beside=shuffled,
        beside_shown=two(shuffled),
        beside_of="maps fitted on shuffled pairs",
        verdict=verdict(r2, shuffled, found, chance),
    )


def verdict(r2: float, shuffled: float, found: float, chance: float) -> str:
    """What R² and the part of images that find themselves say, beside chance.

    >>> verdict(0.31, -0.01, 0.4, 0.01)
    'In part: 31 % of the variance; 40.0 % of images find themselves (chance: 1.0 %).'
    >>> verdict(0.0, 0.0, 0.01, 0.01)
    'No: no better than maps fitted on shuffled pairs.'
    """
    if r2 - shuffled < 0.01 and found < 2 * chance:
        return "No: no better than maps fitted on shuffled pairs."
    how = "Well" if r2 >= 0.6 else "In part" if r2 >= 0.1 else "A little"
    return (
        f"{how}: {100 * r2:.0f} % of the variance; {100 * found:.1f} % of images find "
        f"themselves (chance: {100 * chance:.1f} %)."
    )


def _mean(rows: Sequence[Row], column: str) -> float:
    return float(np.mean([float(r[column] or 0) for r in rows]))
