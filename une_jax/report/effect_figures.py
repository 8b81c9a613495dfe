"""Figures of measured edits: what an edit costs, who moves with whom, by attribute."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from une_jax.report import charts
from une_jax.report.effect_tables import Compared, matrix
from une_jax.report.effects import PLAIN, RANDOM, WAYS
from une_jax.report.equal_change import interval
from une_jax.report.figures import Drawing, drawn


def costs(c: Compared) -> Drawing:
    """Collateral against intended change, a line a way, a mark a step; bars are 95 %
    intervals over the images. Means over the attributes that are edited in all ways.

    The control hardly moves along the first axis; what it has on the second is what any
    step of that length does.
    """
    m = c.measured
    common = [a for a in m.attributes if all(m.of(a, w) is not None for w in m.ways)]
    common = common or m.attributes  # where nothing is entangled, nothing was kept
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    styles = _looks()
    for way in m.ways:
        walks = [w for w, x in enumerate(m.walks) if x.way == way and x.attribute in common]  # fmt: skip
        colour, mark = styles[way]
        x = c.curves.intended[0, walks].mean(0)
        y = c.curves.collateral[0, walks].mean(0)
        ends = [interval(d) for d in c.drawn_curves.collateral[:, walks].mean(1).T]
        low, high = np.array(ends).T
        axes.errorbar(
            x,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            color=colour,
            marker=mark,
            linestyle="--" if way == RANDOM else "-",
            label=way,
            markersize=4.5,
            linewidth=1.5,
            elinewidth=0.9,
        )
    axes.axvline(c.target, color="#777777", linewidth=1, linestyle=":")
    axes.set_xlabel(
        f"change of the edited score, in sd (mean of {len(common)} attributes)"
    )
    axes.set_ylabel("change of the others, rms, in sd")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside lower center",
        ncols=min(6, len(m.ways)),
        fontsize=8,
        frameon=False,
    )
    return drawn(figure)


def matrices(
    c: Compared,
    ways: Sequence[str],
    truth: Float[np.ndarray, "a a"] | None = None,
) -> Drawing:
    """Collateral matrices side by side, one a way, and the planted correlations last.

    A row is an edited attribute, a column what changed with it, per unit of the intended
    change: blue down, orange up, blank where nothing was measured.
    """
    m = c.measured
    # The edited ones first, so that each panel has its diagonal of ones.
    names = (*m.attributes, *(n for n in m.names if n not in m.attributes))
    panels = [(way, matrix(c, way, names)) for way in ways]
    if truth is not None:
        rows, columns = ([m.names.index(n) for n in x] for x in (m.attributes, names))
        panels.append(("planted correlations", truth[np.ix_(rows, columns)]))
    wide, tall = 1.6 + 0.145 * len(names), 0.145 * len(m.attributes)
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(1.9 + (wide - 1.2) * len(panels), 2.2 + tall),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (title, values) in zip(grid[0], panels, strict=True):
        axes.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="equal")
        axes.set_title(title, fontsize=10)
        labels = [name.replace("_", " ") for name in names]
        axes.set_xticks(np.arange(len(names)), labels, rotation=90, fontsize=7)
        axes.set_yticks(np.arange(len(m.attributes)), labels[: len(m.attributes)], fontsize=7)  # fmt: skip
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("edited")
    figure.colorbar(
        grid[0, 0].images[0],
        ax=grid[0].tolist(),
        label="change per sd of the edited score",
        pad=0.01,
        aspect=30,
        shrink=0.8,
    )
    return drawn(figure)


def by_attribute(c: Compared) -> Drawing:
    """Collateral at the equal change: a row an attribute, a dot a way, with intervals.

    Attributes that get there in no way are left out, and counted below.
    """
    m, series = c.measured, {}

    def plain(name: str) -> float:
        value = c.numbers.collateral[0, m.of(name, PLAIN) or 0]
        return float(value) if np.isfinite(value) else -1.0

    there = {
        m.walks[w].attribute for w in np.flatnonzero(np.isfinite(c.numbers.step[0]))
    }
    order = sorted(there, key=lambda name: (-plain(name), name)) or m.attributes
    for way in m.ways:
        if way == RANDOM:  # it never gets there
            continue
        middle, ends = [], []
        for name in order:
            w = m.of(name, way)
            nothing = np.full(1, np.nan)
            middle.append(np.nan if w is None else c.numbers.collateral[0, w])
            ends.append(interval(nothing if w is None else c.drawn.collateral[:, w]))
        low, high = np.array(ends).T
        series[way] = charts.Band(np.array(middle), low, high)
    label = f"change of the others (rms, sd) at {c.target:g} sd of the edited score"
    if len(there) < len(m.attributes):
        label += f"\n{len(m.attributes) - len(there)} more attributes do not get there"
    return charts.dots(order, series, x_label=label)


def _looks() -> dict[str, tuple[str, str]]:
    """A way's colour and mark, whatever others are there; the control's is grey."""
    looks = zip(charts.COLOURS, charts.MARKS, strict=True)
    return dict(zip(WAYS, looks, strict=False)) | {RANDOM: ("#777777", "x")}
