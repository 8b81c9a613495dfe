"""What was recovered of the true embedding, as a table and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from une_jax.miniature import factors
from une_jax.report import charts
from une_jax.report.figures import Drawing
from une_jax.report.tables import Row

K = factors.DIM  # dimensions kept where something else is varied
SIDE_BY_SIDE, SHARED = "all, side by side", "shared (GCCA)"
PCA = "PCA of all, side by side"
CONTROL = "unpaired (control)"
ATTRIBUTES = slice(0, len(factors.NAMES))
NUISANCES = slice(len(factors.NAMES), factors.DIM)


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a linear map from one space tells of z on the test rows."""

    space: str
    by: str  # what is varied: "view", "k", "views" or "n"
    views: int
    k: int
    n: int  # train rows
    r2: Float[np.ndarray, " 32"]  # of each coordinate of z
    correlations: Float[np.ndarray, " 32"]  # canonical, descending; fitted on train


def table(found: Sequence[Recovered]) -> list[Row]:
    """One row a space; ``dimensions`` is the sum of R² over all of z (negative as 0)."""
    rows: list[Row] = []
    for r in found:
        angles = np.degrees(np.arccos(np.clip(r.correlations, 0, 1)))
        rows.append(
            {
                "space": r.space,
                "by": r.by,
                "views": r.views,
                "k": r.k,
                "n": r.n,
                "R2": float(r.r2.mean()),
                "R2 attributes": float(r.r2[ATTRIBUTES].mean()),
                "R2 nuisances": float(r.r2[NUISANCES].mean()),
                "dimensions": float(np.maximum(r.r2, 0).sum()),
                "angle 1": float(angles[0]),
                "angle 16": float(angles[15]),
                "angle 32": float(angles[31]),
            }
        )
    return rows


def figure(found: Sequence[Recovered]) -> Drawing:
    """R² of z by k, by the number of views, by n; and the canonical correlations."""
    parts = []
    best = _best_view(found)
    by = {name: [r for r in found if r.by == name] for name in ("view", "k", "views", "n")}  # fmt: skip
    whole = [r for r in by["view"] if r.space in (SIDE_BY_SIDE, best, CONTROL)]
    top = [r for r in by["k"] if r.space == SHARED and r.k == K]
    order = np.arange(1, factors.DIM + 1)
    if by["k"]:
        names = (SHARED, PCA, f"{best} PCA")
        parts.append(_panel(by["k"], names, "k", "k: dimensions kept", log_x=True))
    if by["views"]:
        title = "number of views"
        parts.append(_panel(by["views"], (SHARED,), "views", f"views, k = {K}", title))
    if by["n"]:
        names = (SHARED, PCA, SIDE_BY_SIDE)
        title = "number of train rows"
        parts.append(_panel(by["n"], names, "n", "n", title, log_x=True))
    parts.append(
        charts.Panel(
            title="held-out canonical correlations with z",
            x_label="pair",
            x=order,
            series={r.space: r.correlations for r in (*top, *whole)},
        )
    )
    return charts.panels(parts, y_label="R² of z  (correlation)", y_range=(-0.1, 1.0))


def _panel(
    found: Sequence[Recovered],
    names: Sequence[str],
    of: str,
    x_label: str,
    title: str = "dimensions kept",
    *,
    log_x: bool = False,
) -> charts.Panel:
    x = sorted({getattr(r, of) for r in found})
    series = {}
    for name in names:
        own = [
            [float(r.r2.mean()) for r in found if r.space == name and getattr(r, of) == v]
            or [np.nan]
            for v in x
        ]  # fmt: skip
        middle, low, high = (np.array([f(v) for v in own]) for f in (np.mean, min, max))
        several = any(len(v) > 1 for v in own)
        series[name] = charts.Band(middle, low, high) if several else middle
    return charts.Panel(title, x_label, np.array(x), series, log_x)


def _best_view(found: Sequence[Recovered]) -> str:
    alone = [
        r for r in found if r.by == "view" and r.space not in (SIDE_BY_SIDE, CONTROL)
    ]
    return max(alone, key=lambda r: r.r2.mean()).space
