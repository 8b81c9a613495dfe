"""How alike noise and embeddings are by measures that fit nothing."""

from collections.abc import Callable, Sequence

from une_jax.report import similarities
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.subject import Subject
from une_jax.report.tables import Row

ROWS, PERMUTATIONS = 300, 50
SHOWN = "mutual kNN"


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """Eight measures of similarity for every two views, each with its null."""
    chapter = Chapter(key="similarity", title="How alike the views are")
    views = subject.names("generator", "encoder")
    if len(views) < 2:
        chapter.say("The zoo has one view only.")
        return chapter
    latents = similarities.read(subject.zoo, views, rows=ROWS)
    total, found = similarities.count(len(views)), []
    near = min(similarities.NEIGHBOURS, len(latents[views[0]]) - 1)
    for pair in similarities.pairs(latents, permutations=PERMUTATIONS, k=near):
        found.append(pair)
        tell(len(found) / total)
    rows = similarities.table(found, similarities.kinds_of(subject.zoo))
    chapter.say(
        f"Eight measures compare the views on {len(latents[views[0]])} images without "
        "fitting a map. Each is told beside what it gives when the images of one view "
        f"are shuffled ({PERMUTATIONS} times): an excess of 0 is the 95 % quantile of "
        "that, 1 is identical views."
    )
    chapter.chart(
        "similarity",
        similarities.figure(rows),
        "Excess over chance by measure and kind of pair: mean, and from the least alike "
        "pair to the most.",
        "Dots: excess over chance of eight measures, one row a measure.",
    )
    chapter.chart(
        "similarity_pairs",
        similarities.heatmap(rows, SHOWN),
        f"The same by {SHOWN} alone, for every two views.",
        f"Heatmap of the excess over chance of {SHOWN} between {len(views)} views.",
    )
    chapter.table(
        "similarity",
        rows,
        "p, family: how likely chance makes any score of the measure as striking.",
        names={n: n for n in ("measure", "view", "other", "score", "chance", "p, family", "excess")},
        folded="All pairs and measures, as a table",
    )  # fmt: skip
    across = [
        row
        for row in rows
        if row["kind"] == "noise - encoder" and row["measure"] == SHOWN and not row["selected"]
    ]  # fmt: skip
    if across:
        chapter.find(finding(across))
    return chapter


def finding(rows: Sequence[Row]) -> Finding:
    """How many pairs of noise and embedding find neighbours more alike than chance."""
    sure = sum(float(row["p, family"] or 1) <= similarities.LEVEL for row in rows)
    best = max(rows, key=lambda row: float(row["score"] or 0))
    score, chance = (float(best[c] or 0) for c in ("score", "chance"))
    return Finding(
        question="Do noise and embeddings find the same images alike?",
        value=score,
        shown=f"{score:.2f}",
        of=f"of neighbours shared by {best['view']} and {best['other']}, the best pair",
        beside=chance,
        beside_shown=f"{chance:.2f}",
        beside_of="by chance",
        verdict=f"{'Yes' if sure == len(rows) else 'In part' if sure else 'No'}: "
        f"{sure} of {len(rows)} pairs are more alike than chance makes any.",
    )
