"""Ways of editing that share nothing but their images and their judge, side by side.

A step in noise, a guidance scale and a trained function have no common unit. So each is
measured on its own (``effects.measure``) at strengths of its own, and all are compared
where the edited score has changed by the same amount (``equal_change``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from une_jax.report import charts, equal_change
from une_jax.report.effect_tables import psnr
from une_jax.report.effects import Measured
from une_jax.report.equal_change import Curves, Numbers, interval
from une_jax.report.figures import Drawing, drawn
from une_jax.report.tables import Row

REPLICATES = 400


class Entry(NamedTuple):
    """One way to edit, measured on every attribute; see :func:`enter`."""

    name: str
    measured: Measured
    curves: Curves
    numbers: Numbers
    drawn: Numbers  # of images drawn anew


def enter(
    name: str,
    measured: Measured,
    target: float = 1.0,
    *,
    replicates: int = REPLICATES,
) -> Entry:
    """A way's edits at a change of ``target`` standard deviations of the edited score.

    ``measured`` has one walk an attribute. Entries with equally many images draw the
    same ones, so that their replicates can be compared in pairs.
    """
    found = equal_change.curves(measured)
    again = equal_change.curves(measured, replicates=replicates)
    return Entry(
        name,
        measured,
        found,
        equal_change.at(found, target),
        equal_change.at(again, target),
    )


def rows(entries: Sequence[Entry]) -> list[Row]:
    """A row a way, at the equal change; the first entry is what others are held against.

    ``reached``: of how many attributes the score could be changed so far. Means are over
    these; ``vs first`` (collateral, relative: -0.2 is a fifth less, with a 95 % interval
    over the images) is over those that both reach; it has no interval where images drawn
    anew often do not reach them all. ``from the data`` is the measured
    ``distance``; ``most``: the largest mean change of the edited score at any strength,
    averaged over all attributes.
    """
    found: list[Row] = []
    for entry in entries:
        numbers = entry.numbers
        there = np.isfinite(numbers.step[0])
        both = _in_both(entry, entries[0])
        once, again = (
            _relative(getattr(entry, kind), getattr(entries[0], kind), both)
            for kind in ("numbers", "drawn")
        )
        low, high = interval(again)
        row: Row = {
            "way": entry.name,
            "reached": f"{there.sum()} of {len(there)}",
            "collateral": _mean(numbers.collateral[0, there]),
            "vs first": float(once[0]),
            "low": low,
            "high": high,
            "systematic": _mean(numbers.systematic[0, there]),
            "identity": _mean(numbers.identity[0, there]),
            "psnr outside": psnr(_mean(numbers.outside[0, there])),
        }
        if entry.measured.distance is not None:
            row["from the data"] = _mean(numbers.distance[0, there])
        row["most"] = float(entry.curves.intended[0].max(-1).mean())
        found.append(row)
    return found


def by_attribute(entries: Sequence[Entry]) -> list[Row]:
    """A row a way and attribute, at the equal change; a step in the way's own unit."""
    found: list[Row] = []
    for entry in entries:
        numbers = entry.numbers
        for w, walk in enumerate(entry.measured.walks):
            low, high = interval(entry.drawn.collateral[:, w])
            row: Row = {
                "attribute": walk.attribute,
                "way": entry.name,
                "step": float(numbers.step[0, w]),
                "collateral": float(numbers.collateral[0, w]),
                "low": low,
                "high": high,
                "identity": float(numbers.identity[0, w]),
                "psnr outside": psnr(float(numbers.outside[0, w])),
            }
            if entry.measured.distance is not None:
                row["from the data"] = float(numbers.distance[0, w])
            row["most"] = float(entry.curves.intended[0, w].max())
            found.append(row)
    return found


def figure(entries: Sequence[Entry], target: float = 1.0) -> Drawing:
    """What each way costs against what it changes: the others' change, identity and the
    distance from the data; a line a way, a mark a strength, means over all attributes."""
    panels = [
        ("collateral", "change of the others, rms, in sd"),
        ("identity", "identity (cosine)"),
    ]
    if all(entry.measured.distance is not None for entry in entries):
        panels.append(("distance", "further from the data"))
    made, axes = plt.subplots(
        1, len(panels), figsize=(4.3 * len(panels), 4.4), layout="constrained"
    )
    for axis, (name, label) in zip(np.atleast_1d(axes), panels, strict=True):
        for i, entry in enumerate(entries):
            axis.plot(
                entry.curves.intended[0].mean(0),
                getattr(entry.curves, name)[0].mean(0),
                color=charts.COLOURS[i % len(charts.COLOURS)],
                marker=charts.MARKS[i % len(charts.MARKS)],
                linestyle="-" if i < len(charts.COLOURS) else "--",
                label=entry.name,
                markersize=4,
                linewidth=1.4,
            )
        axis.axvline(target, color="#777777", linewidth=1, linestyle=":")
        axis.set_xlabel("change of the edited score, in sd")
        axis.set_ylabel(label)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    made.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(6, len(entries)),
        fontsize=8,
        frameon=False,
    )
    return drawn(made)


def _in_both(entry: Entry, first: Entry) -> list[tuple[int, int]]:
    """The places of the attributes that both reach: in the one, in the other."""
    at = {walk.attribute: w for w, walk in enumerate(first.measured.walks)}
    pairs = [
        (w, at[walk.attribute])
        for w, walk in enumerate(entry.measured.walks)
        if walk.attribute in at
    ]
    here, there = entry.numbers.step[0], first.numbers.step[0]
    return [(w, v) for w, v in pairs if np.isfinite([here[w], there[v]]).all()]


def _relative(
    here: Numbers, first: Numbers, both: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " b"]:
    """Of the collateral, relative, over these attributes; NaN where one is unknown, so
    that all replicates are of the same ones."""
    one = here.collateral[:, [w for w, _ in both]].sum(1)
    other = first.collateral[:, [v for _, v in both]].sum(1)
    return one / np.where(other > 0, other, np.nan) - 1


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
