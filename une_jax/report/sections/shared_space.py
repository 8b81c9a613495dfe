"""What all views share, and, with the truth, how much of it is the faces' own space."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from une_jax.report import recovered, recovery, shared, spaces
from une_jax.report.chapter import Chapter, Finding, two
from une_jax.report.recovered import Recovered
from une_jax.report.subject import Subject
from une_jax.report.tables import Row

KS = (4, 8, 16, 32, 64)
PERMUTATIONS = 19  # the fewest that can reject at the 5 % level
TRAIN = 2000
ALL = "all views"


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """GCCA of noise and embeddings together, beside the same views unpaired."""
    chapter = Chapter(key="shared", title="What all views share")
    views = subject.names("generator", "encoder")
    if len(views) < 2:
        chapter.say("The zoo has one view only.")
        return chapter
    prepared = spaces.prepare(subject.zoo, views, limit=TRAIN)
    widths = [x.shape[1] for x in prepared.train.values()]
    k = min(max(KS), len(prepared.train[views[0]]) - 1, sum(widths))
    paired = spaces.share(prepared, views, k, name=ALL)
    apart = spaces.share(prepared, views, k, name=ALL + spaces.CONTROL, unpaired=True)
    tell(0.3)
    rows = shared.table(prepared, [paired, apart], ks=KS, limit=TRAIN)
    tell(0.5)
    counted = shared.dimensions(
        prepared, [paired], key=jax.random.key(0), permutations=PERMUTATIONS
    )
    tell(0.7)
    fitted = len(prepared.train[views[0]])
    chapter.say(
        f"GCCA finds the few dimensions in which all {len(views)} views agree best, from "
        f"{fitted} images. If one space stands behind them all, those dimensions "
        "hold the attributes. The control pairs the views' images at random: what it "
        "reads is there without sharing."
    )
    chapter.chart(
        "shared",
        shared.figure(rows),
        "Mean AUC of attribute probes on the first k shared dimensions.",
        "Lines: mean AUC against the number of shared dimensions kept, for paired views "
        "and for the unpaired control.",
    )
    chapter.table(
        "shared",
        rows,
        "Attribute probes on the first k dimensions, means over attributes, test images.",
        names={n: n for n in ("space", "k", "AUC", "accuracy", "base rate")},
        folded="The same as a table",
    )
    chapter.table(
        "shared_dimensions",
        counted,
        f"beyond chance: dimensions that agree more than the best of {PERMUTATIONS} "
        "random pairings; test correlation: of the first and the sixteenth, on images "
        "that were not fitted.",
        names={
            "views": "views",
            "beyond chance": "beyond chance",
            "of k": "of",
            "agreement 1": "agreement of the 1st",
            "by chance": "by chance",
            "test correlation 1": "test correlation",
            "test correlation 16": "of the 16th",
        },
        digits=2,
    )
    chapter.find(beyond_chance(counted[0]))
    chapter.find(attributes_kept(rows))
    if subject.truth:
        _against_truth(chapter, subject, views)
    return chapter


def beyond_chance(row: Row) -> Finding:
    """How many dimensions agree more than chance."""
    count, of = int(row["beyond chance"] or 0), int(row["of k"] or 0)
    agreement, chance = (float(row[c] or 0) for c in ("agreement 1", "by chance"))
    said = "dimension agrees" if count == 1 else "dimensions agree"
    return Finding(
        question="Do all views share a space?",
        value=float(count),
        shown=str(count),
        of=f"of {of} dimensions beyond chance; the first agrees to {agreement:.2f}",
        beside=chance,
        beside_shown=f"{chance:.2f}",
        beside_of=f"best agreement of {PERMUTATIONS} random pairings",
        verdict=f"Yes: {count} {said} more than any random pairing."
        if count
        else "No: nothing agrees more than random pairings do.",
    )


def attributes_kept(rows: Sequence[Row]) -> Finding:
    """The AUC of the first shared dimensions, 16 where there are, beside the control's."""
    k = max(int(r["k"] or 0) for r in rows if int(r["k"] or 0) <= 16)
    auc, control = (
        next(
            float(r["AUC"] or np.nan)
            for r in rows
            if r["k"] == k and str(r["space"]).endswith(spaces.CONTROL) == unpaired
        )
        for unpaired in (False, True)
    )
    gap = auc - control
    return Finding(
        question=f"Are the attributes in {k} shared dimensions?",
        value=auc,
        shown=f"{auc:.2f}",
        of=f"mean AUC of {k} numbers an image",
        beside=control,
        beside_shown=f"{control:.2f}",
        beside_of="the same views, unpaired",
        verdict=f"Yes: {gap:.2f} above views that share nothing."
        if gap > 0.02
        else "No: sharing adds nothing to what the views have anyway.",
    )


def _against_truth(chapter: Chapter, subject: Subject, views: Sequence[str]) -> None:
    assert subject.truth is not None
    study = recovery.prepare(subject.zoo, subject.truth, views)
    found = recovery.by_view(study) + recovery.by_k(study, KS)
    rows = recovered.table(found)
    chapter.heading("Is it the space the images came from?")
    chapter.say(
        "The faces were painted from 32 known numbers each. A linear map from a view, or "
        "from the shared space, to those numbers says how much of the true space is in "
        "it: R² on the test images, and R² summed over the 32 as a count of dimensions. "
        "Some can be in no image, such as the hue of a hat that is not worn."
    )
    chapter.chart(
        "recovery",
        recovered.figure(found),
        "R² of the true numbers by dimensions kept; and how well the best linear "
        "combinations are recovered, pair by pair.",
        "Two charts of lines: R² of the true space against dimensions kept, and canonical "
        "correlations with the true space.",
    )
    chapter.table(
        "recovery",
        rows,
        "Angles in degrees, of held-out canonical pairs: 0 is recovered, 90 is not there.",
        names={
            "space": "space",
            "by": "varied",
            "k": "k",
            "R2": "R²",
            "R2 attributes": "of attributes",
            "R2 nuisances": "of the rest",
            "dimensions": "dimensions",
            "angle 1": "angle 1",
            "angle 16": "angle 16",
            "angle 32": "angle 32",
        },
        digits=2,
        folded="The same as a table",
    )
    chapter.find(truth_recovered(found))


def truth_recovered(found: Sequence[Recovered]) -> Finding:
    """How much of z as many shared dimensions as it has recover, beside z unpaired."""
    shared_, pca = (
        max(
            (r for r in found if (r.by, r.space) == ("k", name) and r.k <= recovered.K),
            key=lambda r: r.k,
        )
        for name in (recovered.SHARED, recovered.PCA)
    )
    control = next(r for r in found if r.space == recovered.CONTROL)
    r2, nothing = (float(r.r2.mean()) for r in (shared_, control))
    dimensions = float(np.maximum(shared_.r2, 0).sum())
    if r2 - nothing < 0.02:
        said = "No: it tells nothing of the true space."
    else:
        how = "Yes" if r2 >= 0.6 else "In part" if r2 >= 0.2 else "A little"
        other = float(np.maximum(pca.r2, 0).sum())
        said = (
            f"{how}: it recovers the worth of {dimensions:.1f} of 32 true dimensions; as "
            f"many principal components of all views, {other:.1f}."
        )
    return Finding(
        question="Is it the space the images came from?",
        value=r2,
        shown=two(r2),
        of=f"R² of the 32 true numbers from {shared_.k} shared dimensions",
        beside=nothing,
        beside_shown=two(nothing),
        beside_of="the truth of other images",
        verdict=said,
    )
