"""How much of what probes read from noise is left over from the image."""

from collections.abc import Callable

from une_jax.report import leakage
from une_jax.report.chapter import Chapter, Finding
from une_jax.report.subject import Subject
from une_jax.report.tables import Row


def write(subject: Subject, tell: Callable[[float], None]) -> Chapter:
    """Probes on five kinds of latents, for every generator whose controls are kept."""
    chapter = Chapter(key="leakage", title="Whether the noise only leaks the image")
    views = [
        view
        for view in subject.views("generator")
        if {f"{view.name}.x0", f"{view.name}.forward"} <= set(subject.zoo.views)
    ]
    if not views:
        chapter.say(
            "The zoo has no control views; `une-jax build --controls` keeps them."
        )
        return chapter
    rows, found = leakage.rows_of(subject.zoo), []
    for i, view in enumerate(views):
        found += leakage.stored(subject.zoo, view, rows, None)
        tell((i + 1) / len(views))
    table = leakage.table(found)
    chapter.say(
        "Inversion stops at a timestep where a trace of the clean latent is left, so a "
        "probe on the noise might read the image itself. The same probes are therefore "
        "fitted on: "
        + "; ".join(f"`{kind}`, {what}" for kind, what in leakage.KINDS.items())
        + ". Only what `x_T` has above `forward` was written by inversion."
    )
    chapter.chart(
        "leakage",
        leakage.figure(found),
        "Mean AUC by kind of latents, with 95 % intervals over the test images.",
        "Dots: mean test AUC of five kinds of latents, one row a generator, from chance "
        "(0.5) up.",
    )
    names = ("view", "latents", "t", "signal", "auc", "auc low", "auc high", "linear in x0", "above forward", "above low", "above high")  # fmt: skip
    chapter.table(
        "leakage",
        table,
        "signal: the part of the clean latent's amplitude that is left at t. linear in "
        "x0: R² of the noise by linear regression on the clean latent, held out.",
        names={name: name for name in names},
        folded="The same as a table",
    )
    for row in table:
        if row["latents"] == "x_T":
            key = f"{row['view']} above_forward"
            chapter.numbers[key] = float(row["above forward"] or 0)
    noise = [row for row in table if row["latents"] == "x_T"]
    best = max(noise, key=lambda row: float(row["above forward"] or 0))
    rest = next(
        r for r in table if (r["view"], r["latents"]) == (best["view"], "x_T less x0")
    )
    forward = next(
        r for r in table if (r["view"], r["latents"]) == (best["view"], "forward")
    )
    chapter.find(beyond_leftover(best, forward))
    chapter.find(beyond_linear(best, rest))
    return chapter


def beyond_leftover(noise: Row, forward: Row) -> Finding:
    """The noise's AUC beside that of fresh noise of the same strength."""
    auc, other = float(noise["auc"] or 0), float(forward["auc"] or 0)
    low = float(noise["above low"] or 0)
    return Finding(
        question="Is it more than a leftover of the image?",
        value=auc,
        shown=f"{auc:.2f}",
        of=f"mean AUC in {noise['view']}",
        beside=other,
        beside_shown=f"{other:.2f}",
        beside_of="the same latents under fresh noise",
        verdict=(
            f"Yes: inversion itself writes it there, {auc - other:.2f} above the "
            f"leftover (at least {low:.2f})."
            if low > 0
            else "Not shown: fresh noise over the image gives as much."
        ),
    )


def beyond_linear(noise: Row, rest: Row) -> Finding:
    """What is left of the noise's AUC without what is linear in the clean latent."""
    whole, left = float(noise["auc"] or 0), float(rest["auc"] or 0)
    low = float(rest["auc low"] or 0)
    share = (left - 0.5) / (whole - 0.5) if whole > 0.5 else 0.0
    if low <= 0.5:
        said = "No: with that taken out, nothing is left that a line reads."
    else:
        how = "A little" if share < 0.5 else "Yes"
        said = f"{how}: {100 * share:.0f} % of what is above chance stays."
    return Finding(
        question="Is it more than a linear image of the clean latent?",
        value=left,
        shown=f"{left:.2f}",
        of=f"mean AUC in {noise['view']}, what is linear in x0 regressed out",
        beside=whole,
        beside_shown=f"{whole:.2f}",
        beside_of="before",
        verdict=said,
    )
