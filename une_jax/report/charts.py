"""Charts of an analysis: lines and dots, in one style."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Shaped

from une_jax.report.figures import CHART_INK, Drawing, drawn

# Okabe and Ito's colours, which the colour-blind can tell apart (yellow left out).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", CHART_INK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")


class Band(NamedTuple):
    """Values, and how sure they are: an interval around each."""

    middle: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]


Series = Mapping[str, Shaped[np.ndarray, " n"] | Band]


def lines(
    x: Shaped[np.ndarray, " n"],
    series: Series,
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    levels: Mapping[str, float] | None = None,
    y_range: tuple[float, float] | None = None,
    top: tuple[str, Shaped[np.ndarray, " n"]] | None = None,
) -> Drawing:
    """One line a series over ``x``; ``levels`` are named horizontal lines.

    Series of a name that ends in " (control)" are dashed and grey. ``top`` is another
    scale's label and what it says at each x, written above.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    _draw(axes, x, series)
    for name, level in (levels or {}).items():
        axes.axhline(level, color="#777777", linewidth=1, linestyle=":")
        axes.annotate(
            name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=8
        )  # fmt: skip
    if log_x:
        _log_x(axes, x)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if y_range:
        axes.set_ylim(*y_range)
    if top:
        above = axes.secondary_xaxis("top")
        above.set_xticks(x, [f"{v:.2g}" for v in top[1]], fontsize=8)
        above.set_xlabel(top[0], fontsize=9)
        above.spines["top"].set_visible(False)
    return _finish(figure, axes, len(series))


class Panel(NamedTuple):
    """One of several charts side by side."""

    title: str
    x_label: str
    x: Shaped[np.ndarray, " n"]
    series: Series
    log_x: bool = False


def panels(
    parts: Sequence[Panel],
    *,
    y_label: str,
    columns: int = 2,
    y_range: tuple[float, float] | None = None,
) -> Drawing:
    """Charts of lines on one scale; a series has one look in all, and one legend."""
    rows = -(-len(parts) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(4.6 * columns, 3.3 * rows + 0.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = {name: y for part in parts for name, y in part.series.items()}
    styles = {name: rest for name, *rest in _styles(names)}
    handles = {}
    for axes, part in zip(grid.flat, parts, strict=False):
        _draw(axes, part.x, part.series, styles)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        axes.set_title(part.title, fontsize=10)
        axes.set_xlabel(part.x_label)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if part.log_x:
            _log_x(axes, part.x)
        if y_range:
            axes.set_ylim(*y_range)
    for axes in grid[:, 0]:
        axes.set_ylabel(y_label)
    for axes in grid.flat[len(parts) :]:
        axes.set_axis_off()
    _legend(figure, handles)
    return drawn(figure)


def dots(
    names: Sequence[str],
    series: Series,
    *,
    x_label: str,
    levels: Mapping[str, float] | None = None,
    x_range: tuple[float, float] | None = None,
) -> Drawing:
    """One row a name, one dot a series in it, with its interval where it has one.

    Series of a name that ends in " (control)" are grey and hollow.
    """
    row = 0.25 + 0.02 * len(series)
    size = (7.2, 1.4 + row * len(names) + 0.08 * len(series))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    rows = np.arange(len(names))
    shift = np.linspace(-0.3, 0.3, len(series)) if len(series) > 1 else [0.0]
    for (name, colour, mark), up in zip(_styles(series), shift, strict=True):
        y = series[name]
        middle = y.middle if isinstance(y, Band) else y
        inside = colour
        if name.endswith("(control)"):
            colour, inside = "#777777", "white"
        axes.plot(
            middle,
            rows + up,
            mark,
            color=colour,
            markerfacecolor=inside,
            label=name,
            markersize=4.5,
        )
        if isinstance(y, Band):
            axes.hlines(rows + up, y.low, y.high, color=colour, linewidth=1)
    for name, level in (levels or {}).items():
        axes.axvline(level, color="#777777", linewidth=1, linestyle=":")
        axes.annotate(
            name, (level, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", size=8
        )  # fmt: skip
    axes.set_yticks(rows, [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    if x_range:
        axes.set_xlim(*x_range)
    return _finish(figure, axes, len(series))


def _draw(
    axes: plt.Axes,
    x: Shaped[np.ndarray, " n"],
    series: Series,
    styles: Mapping[str, Sequence[str]] | None = None,
) -> None:
    styles = styles or {name: rest for name, *rest in _styles(series)}
    for name, y in series.items():
        colour, mark = styles[name]
        middle = y.middle if isinstance(y, Band) else y
        control = name.endswith("(control)")
        colour = "#777777" if control else colour
        axes.plot(
            x,
            middle,
            label=name,
            color=colour,
            linestyle="--" if control else "-",
            marker=mark,
            markersize=4.5,
        )
        if isinstance(y, Band):
            axes.fill_between(x, y.low, y.high, color=colour, alpha=0.15, linewidth=0)


def _log_x(axes: plt.Axes, x: Shaped[np.ndarray, " n"]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{v:g}" for v in x])
    axes.minorticks_off()


def _styles(series: Series) -> list[tuple[str, str, str]]:
    return [
        (name, COLOURS[i % len(COLOURS)], MARKS[(i + i // len(COLOURS)) % len(MARKS)])
        for i, name in enumerate(series)
    ]


def _finish(figure: plt.Figure, axes: plt.Axes, count: int) -> Drawing:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if count > 1:
        handles, names = axes.get_legend_handles_labels()
        _legend(figure, dict(zip(names, handles, strict=True)))
    return drawn(figure)


def _legend(figure: plt.Figure, handles: Mapping[str, Any]) -> None:
    """Below the axes, in as many columns as the figure is wide for."""
    letters = 16 * figure.get_figwidth()
    columns = int(letters / (max(map(len, handles)) + 9))
    rows = -(-len(handles) // max(1, min(len(handles), 5, columns)))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=-(-len(handles) // rows),  # rows of one length
        fontsize=8,
        frameon=False,
    )
