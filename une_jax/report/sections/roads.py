"""All roads: does a face survive being mapped from one model's latents to another's?"""

from une_jax.report.chapter import Chapter, Finding, two
from une_jax.report.roads import claims, drawn
from une_jax.report.roads.places import BASELINES, ITSELF, RANDOM
from une_jax.report.roads.study import Study
from une_jax.report.tables import Row

GRIDS = 3  # faces of which a grid is shown
BRIEF = {
    "source": "from",
    "target": "to",
    "images": "images",
    "latent R²": "R²",
    "rmse": "RMSE",
    "ssim": "SSIM",
    "match": "match",
    "chance": "by chance",
    "kappa": "κ",
    "accuracy change, %": "accuracy",
    "factor R²": "factors",
    "rank": "rank",
}


def write(study: Study) -> Chapter:
    """Tables, grids of faces, a heatmap a measure, and what the paper says."""
    chapter = Chapter(key="roads", title="All roads")
    chapter.say(
        "A linear map takes latents of one model to another's, fitted on images that "
        "neither the probes nor the tests have seen; the other model decodes them. "
        "Baselines: a random encoder, which knows only which image it is; the mean of "
        "the target's latents; and the target's own encoder."
    )
    _pictures(chapter, study)
    chapter.heading("Every road")
    for measure in drawn.MEASURES:
        if drawing := drawn.heatmap(study.pairs, measure):
            label = drawn.MEASURES[measure][0]
            chapter.chart(
                f"roads_{measure}",
                drawing,
                f"{label}, from each view (down) to each that decodes (across).",
                f"Heatmap of {label} for every pair of views.",
            )
    known = [{k: row.get(k) for k in BRIEF} for row in study.pairs]
    chapter.table(
        "roads",
        _full(study.pairs),
        "Every pair. κ and match are of the target's probes on mapped and own latents; "
        "`accuracy` is the change of the probes' accuracy in %.",
        names={k: v for k, v in BRIEF.items() if any(r[k] is not None for r in known)},
    )
    _survival(chapter, study)
    _by_way(chapter, study)
    _edits(chapter, study)
    if study.claims:
        chapter.heading("What the paper says")
        chapter.table(
            "roads_claims",
            claims.table(study.claims),
            "Statements of Badrinath et al., “All Roads Lead to Rome?”, about CelebA at "
            "64 pixels, beside these images' numbers.",
        )
    if found := finding(study.pairs):
        chapter.find(found)
    return chapter


def _pictures(chapter: Chapter, study: Study) -> None:
    for name, shown in study.shown.items():
        for i in range(min(GRIDS, len(shown.originals))):
            made = {pair: images[i] for pair, images in shown.made.items()}
            chapter.sheet(
                f"roads_grid_{name}_{i}",
                drawn.grid(made, shown.originals[i]),
                f"{name}: one held-out face, encoded by each (down) and decoded by each "
                "(across). Framed: by its own encoder.",
                f"Grid of one face: {len(made)} roads from encoder to decoder.",
            )


def _survival(chapter: Chapter, study: Study) -> None:
    if study.attributes:
        chapter.heading("Which attributes survive")
        kept = [r for r in study.attributes if r["source"] not in BASELINES]
        means = _mean_by(kept, "attribute", ("match", "chance", "kappa"))
        chapter.table(
            "roads_attributes_mean",
            means,
            "Means over all roads, the best kept first.",
            names={k: k for k in ("attribute", "match", "chance", "kappa")},
        )
        chapter.keep("roads_attributes", study.attributes)
    rows = [r for r in study.factors if r["images"] == "images"]
    if rows:
        names = list(dict.fromkeys(str(r["attribute"]) for r in rows))
        chapter.chart(
            "roads_factors",
            drawn.factors(rows, names),
            "How much of each attribute's score, as it is true or else as it is read off "
            "the original, the decoded image still shows.",
            "Heatmap of roads by attributes.",
        )
        chapter.keep("roads_factors", study.factors)


def _by_way(chapter: Chapter, study: Study) -> None:
    if not study.journeys:
        return
    chapter.heading("By way of a third")
    worst = sorted(study.journeys, key=lambda r: -float(r["lost"] or 0))
    chapter.table(
        "roads_journeys",
        worst,
        "R² of the last model's latents by the straight map and by way of another "
        "model, and what is lost on that way.",
        folded=f"all {len(worst)} ways",
    )


def _edits(chapter: Chapter, study: Study) -> None:
    if not study.carried:
        return
    chapter.heading("An edit taken along")
    rows = [row for result in study.carried.values() for row in result.rows]
    chapter.table(
        "roads_edits",
        rows,
        "Directions of one model's latents, carried by the map and walked in another's, "
        "as far as its own. What a judge reads off the pixels, in standard deviations.",
        names={k: k for k in rows[0]},
    )
    for (target, attribute), result in study.carried.items():
        some = {k: v[:8] for k, v in result.strips.items()}
        chapter.sheet(
            f"roads_edit_{target}_{attribute}",
            drawn.strips(some),
            f"{attribute.replace('_', ' ')} in {target}, along directions of others.",
            f"{len(some)} rows of faces edited in {target}.",
        )


def finding(pairs: list[Row]) -> Finding | None:
    """The mean kappa of all roads beside the random encoder's; None without probes."""
    own, random = [], []
    for row in pairs:
        value = row.get("kappa")
        if row.get("same model") or row["source"] == ITSELF:
            continue
        if value is not None and value == value:
            if row["source"] == RANDOM:
                random.append(float(value))
            elif row["source"] not in BASELINES:
                own.append(float(value))
    if not own or not random:
        return None
    value, beside = sum(own) / len(own), sum(random) / len(random)
    best = "Yes: " if value > beside + 0.2 else "A little: " if value > beside + 0.05 else "No: "  # fmt: skip
    return Finding(
        question="Does a linear map carry attributes between models?",
        value=value,
        shown=two(value),
        of=f"mean kappa over {len(own)} roads",
        beside=beside,
        beside_shown=two(beside),
        beside_of="from a random encoder",
        verdict=best + "the target's probes answer on mapped latents as on its own "
        f"{'far more' if value > beside + 0.2 else 'not much more'} often than by chance.",
    )


def _full(rows: list[Row]) -> list[Row]:
    """All columns in all rows."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k) for k in columns} for row in rows]


def _mean_by(rows: list[Row], key: str, columns: tuple[str, ...]) -> list[Row]:
    """Means of known values, the best first by the last column."""
    found: list[Row] = []
    for name in dict.fromkeys(str(r[key]) for r in rows):
        mean: Row = {key: name}
        for column in columns:
            known = [float(v) for r in rows if r[key] == name and (v := r[column]) is not None and v == v]  # fmt: skip
            mean[column] = sum(known) / len(known) if known else None
        found.append(mean)
    return sorted(found, key=lambda r: -float(r[columns[-1]] or 0))
