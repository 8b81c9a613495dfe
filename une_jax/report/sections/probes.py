"""Which attributes a linear probe reads in which view."""

from collections.abc import Callable, Sequence

import numpy as np

from une_jax.report import figures, probing
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.subject import Subject
from une_jax.report.tables import Row


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """A heatmap of AUC by attribute and view; with the truth, what scores explain."""
    chapter = Chapter(key="probes", title="What is linear in each view")
    names = subject.zoo.attribute_names
    probed = sorted(subject.probed.values(), key=lambda p: p.kind == "control")
    tell(0.6)
    rows = probing.table(names, probed, subject.drawn)
    mean = rows[-1]
    for p in probed:
        chapter.numbers[f"{p.view} mean_auc"] = float(mean[f"{p.view} auc"] or np.nan)
    train, test = (len(subject.zoo.split(part)) for part in ("train", "test"))
    chapter.say(
        f"One linear probe for each attribute and view, fitted on {train} images and "
        f"tested on {test} others. An AUC of 0.5 is a coin, 1 is perfect. The base rate "
        "is the accuracy of always giving the commoner answer."
    )
    if any(p.kind == "control" for p in probed):
        chapter.say(
            "Two views of each generator are controls: `.x0` is the clean latent before "
            "inversion, `.forward` is that latent under fresh noise of the same strength."
        )
    shown = _easiest_first(rows, [p.view for p in probed])
    values = np.array([[r[f"{p.view} auc"] for p in probed] for r in shown], float)
    labels = [f"{r['attribute']}  ({r['base_rate']:.0%})" for r in shown]
    chapter.chart(
        "probes",
        figures.heatmap(
            values,
            labels,
            [p.view for p in probed],
            label="test AUC",
            low=0.5,
            high=1.0,
        ),
        "Test AUC of each attribute's probe, by view; the easiest attributes first, the "
        "mean last. In brackets: the attribute's base rate.",
        f"Heatmap of test AUC, {len(names)} attributes by {len(probed)} views, from 0.5 "
        "(dark) to 1 (bright).",
    )
    auc = {"attribute": "attribute", "base_rate": "base rate"}
    chapter.table(
        "probes",
        rows,
        "Test AUC of every probe. The file also has accuracy, balanced accuracy, average "
        "precision and 95 % intervals over the test images.",
        names=auc | {f"{p.view} auc": p.view for p in probed},
        digits=2,
        total=True,
        folded="The same as a table",
    )
    if subject.scores is not None:
        _against_truth(chapter, subject, probed)
    for kind, question in (
        ("generator", "Does noise know the attributes?"),
        ("encoder", "Do embeddings know them?"),
    ):
        best = _best(mean, [p for p in probed if p.kind == kind])
        if best:
            chapter.find(finding(question, best, mean))
    return chapter


def finding(question: str, view: str, mean: Row) -> Finding:
    """A view's mean AUC, beside that of its latents under fresh noise, or a coin's."""
    auc, low, high = (float(mean[f"{view} auc{end}"] or np.nan) for end in ("", " low", " high"))  # fmt: skip
    forward = mean.get(f"{view}.forward auc")
    beside = 0.5 if forward is None else float(forward)
    return Finding(
        question=question,
        value=auc,
        shown=f"{auc:.2f}",
        of=f"mean AUC in {view}, the best; 95 % interval {low:.2f} to {high:.2f}",
        beside=beside,
        beside_shown=f"{beside:.2f}",
        beside_of="a coin" if forward is None else "its clean latents, freshly noised",
        verdict=verdict(auc, low, beside),
    )


def verdict(auc: float, low: float, beside: float) -> str:
    """What a mean AUC, the low end of its interval and its control's AUC say.

    >>> verdict(0.86, 0.84, 0.52)
    'Yes, well: a line reads them 0.34 above the control.'
    >>> verdict(0.55, 0.49, 0.52)
    'No: what a line reads is no more than the control gives.'
    """
    if not low > beside:
        return "No: what a line reads is no more than the control gives."
    how = "well" if auc >= 0.8 else "in part" if auc >= 0.65 else "a little"
    return f"Yes, {how}: a line reads them {auc - beside:.2f} above the control."


def _against_truth(
    chapter: Chapter, subject: Subject, probed: Sequence[probing.ViewProbe]
) -> None:
    truth = subject.scores
    assert truth is not None
    wanted = truth[subject.zoo.split("test")]
    each = {p.view: probing.truth_r2(p.scores, wanted) for p in probed}
    rows: list[Row] = [
        {"attribute": name, **{view: float(r2[a]) for view, r2 in each.items()}}
        for a, name in enumerate(subject.zoo.attribute_names)
    ]
    means = {view: float(r2.mean()) for view, r2 in each.items()}
    chapter.numbers |= {f"{view} mean_truth_r2": r2 for view, r2 in means.items()}
    chapter.table(
        "probes_truth",
        [*rows, {"attribute": "mean", **means}],
        "R²: squared correlation of a probe's score with the attribute's true, continuous "
        "score, which the painted faces have.",
        digits=2,
        total=True,
        folded="What the probes know of the true scores",
    )


def _easiest_first(rows: Sequence[Row], views: Sequence[str]) -> list[Row]:
    """By the mean over views, unknown ones last; the mean of all stays at the end."""

    def ease(row: Row) -> float:
        known = [v for view in views if (v := float(row[f"{view} auc"] or np.nan)) == v]
        return float(np.mean(known)) if known else -1.0

    return [*sorted(rows[:-1], key=ease, reverse=True), rows[-1]]


def _best(mean: Row, probed: Sequence[probing.ViewProbe]) -> str | None:
    known = {p.view: float(mean[f"{p.view} auc"] or np.nan) for p in probed}
    known = {view: auc for view, auc in known.items() if auc == auc}
    return max(known, key=lambda view: known[view]) if known else None
