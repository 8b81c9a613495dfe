"""Asyrp's two curves over many images: what is chosen by them, their table and figure.

Kwon et al. 2023, arXiv 2210.10960, Sec. 4.1 and 4.2; see :mod:`une_jax.edit_interval`.
"""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import SubFigure

from une_jax import edit_interval
from une_jax.errors import UneError
from une_jax.report.charts import COLOURS
from une_jax.report.equal_change import interval
from une_jax.report.figures import Drawing, drawn
from une_jax.report.tables import Row

DRAWS, SEED = 500, 0  # of images anew, for intervals
SHOWN = 10  # timesteps of the strip, and at most as many rows of the text


class Curves(NamedTuple):
    """Of n images at m timesteps, in the order of sampling; x is the image itself."""

    t: Int[np.ndarray, " m"]
    predicted: Float[np.ndarray, "n m"]  # distance(x, P_t)
    noisy: Float[np.ndarray, "n m"]  # distance(x, x_t)
    measure: str


class Chosen(NamedTuple):
    """A timestep, and between which ones it lies when the images are drawn anew."""

    t: int | None  # None where there is none, for the reason in ``why``
    low: float
    high: float
    threshold: float
    why: str = ""


class Strip(NamedTuple):
    """One image's walk, decoded: what the curves are of."""

    t: Int[np.ndarray, " s"]
    predicted: UInt8[np.ndarray, "s h w 3"]
    noisy: UInt8[np.ndarray, "s h w 3"]


def choose_edit(
    curves: Curves, *, cosine: float = 1.0, threshold: float | None = None
) -> Chosen:
    """t_edit; without a threshold by ``edit_interval.relative``.

    Raises:
        UneError: the cosine is not in (0, 1].
    """
    usual = (edit_interval.STRENGTH, edit_interval.DISTANCE_AT_T)

    def pick(curve: np.ndarray, least: float) -> int:
        return edit_interval.t_edit(curve, curves.t, cosine, threshold=least)

    if not 0 < cosine <= 1:
        pick(curves.predicted.mean(0), 0.0)  # says so
    chosen = _choose(curves.predicted, curves.t, threshold, usual, pick)
    return chosen._replace(threshold=chosen.threshold * cosine)


def choose_boost(curves: Curves, *, threshold: float | None = None) -> Chosen:
    """t_boost; without a threshold by ``edit_interval.relative``."""
    usual = (edit_interval.DEFICIENCY, edit_interval.DEFICIENCY_AT_T)

    def pick(curve: np.ndarray, least: float) -> int:
        return edit_interval.t_boost(curve, curves.t, threshold=least)

    return _choose(curves.noisy, curves.t, threshold, usual, pick)


def _choose(
    each: Float[np.ndarray, "n m"],
    t: Int[np.ndarray, " m"],
    threshold: float | None,
    usual: tuple[float, float],
    pick: Callable[[np.ndarray, float], int],
) -> Chosen:
    def least(curve: np.ndarray) -> float:
        if threshold is not None:
            return threshold
        return edit_interval.relative(curve, t, *usual)

    rng, n, drawn_anew = np.random.default_rng(SEED), len(each), []
    for _ in range(DRAWS):
        curve = each[rng.integers(0, n, n)].mean(0)
        try:
            drawn_anew.append(float(pick(curve, least(curve))))
        except UneError:
            drawn_anew.append(np.nan)
    low, high = interval(np.asarray(drawn_anew))
    curve = each.mean(0)
    try:
        return Chosen(pick(curve, least(curve)), low, high, least(curve))
    except UneError as error:
        return Chosen(None, low, high, least(curve), str(error))


def rows(curves: Curves) -> list[Row]:
    """The table: a row a timestep, means over the images, each with its standard error."""
    strength = edit_interval.editing_strength(curves.predicted.mean(0), curves.t)
    return [
        {
            "t": int(t),
            "distance(x, P_t)": float(p.mean()),
            "its se": _error(p),
            "editing strength": float(s),
            "distance(x, x_t)": float(x.mean()),
            "se": _error(x),
        }
        for t, p, s, x in zip(
            curves.t, curves.predicted.T, strength, curves.noisy.T, strict=True
        )  # fmt: skip
    ]


def spread_out(m: int, most: int = SHOWN) -> Int[np.ndarray, " _"]:
    """At most so many of m places, the first and the last among them.

    >>> spread_out(20, 4).tolist(), spread_out(3, 10).tolist()
    ([0, 6, 13, 19], [0, 1, 2])
    """
    return np.unique(np.linspace(0, m - 1, min(most, m)).round().astype(int))


def draw(curves: Curves, edit: Chosen, boost: Chosen, strip: Strip) -> Drawing:
    """Both curves with their thresholds and what is chosen, above one image's walk."""
    figure = plt.figure(figsize=(9.2, 5.9), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(1.9, 1))
    above, below = (figure.add_subfigure(halves[i]) for i in range(2))
    left, right = above.subplots(1, 2)
    strength = edit_interval.editing_strength(curves.predicted.mean(0), curves.t)
    _curve(left, curves.t, curves.predicted, COLOURS[0], "distance(x, P_t)")
    left.plot(curves.t, strength, color=COLOURS[1], marker="s", markersize=3.5, label="editing strength")  # fmt: skip
    left.set_title("What of the image is not yet there", fontsize=10)
    _curve(right, curves.t, curves.noisy, COLOURS[2], "distance(x, x_t)")
    right.set_title("Quality deficiency: what is still noise", fontsize=10)
    for axes, chosen, name, side in (
        (left, edit, "t_edit", "h is moved"),
        (right, boost, "t_boost", "noise is drawn"),
    ):
        axes.axhline(chosen.threshold, color="#777777", linewidth=1, linestyle=":")
        if chosen.t is not None:
            axes.axvline(chosen.t, color="#777777", linewidth=1.2)
            ends = (chosen.t, max(curves.t)) if name == "t_edit" else (0, chosen.t)
            axes.axvspan(*ends, color="#777777", alpha=0.1, linewidth=0, label=side)
            label = f" {name} {chosen.t}"
        else:
            label = f" there is no {name}"
        place = max(curves.t) if chosen.t is None else chosen.t
        axes.annotate(
            label, (place, 1), xycoords=("data", "axes fraction"), va="top", size=9
        )  # fmt: skip
        axes.invert_xaxis()  # as sampling goes
        axes.set_xlabel("timestep t, in the order of sampling")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    left.set_ylabel(curves.measure)
    _strip(below, strip)
    return drawn(figure)


def _curve(
    axes: plt.Axes, t: np.ndarray, each: np.ndarray, colour: str, label: str
) -> None:
    """The mean over images, and where 95 % of the images lie."""
    low, high = np.quantile(each, [0.025, 0.975], axis=0)
    axes.plot(t, each.mean(0), color=colour, marker="o", markersize=3.5, label=label)
    axes.fill_between(t, low, high, color=colour, alpha=0.15, linewidth=0)


def _strip(figure: SubFigure, strip: Strip) -> None:
    grid = figure.subplots(2, len(strip.t), squeeze=False)
    for i, t in enumerate(strip.t):
        for row, images in zip(grid, (strip.predicted, strip.noisy), strict=True):
            row[i].imshow(images[i])
            row[i].set_xticks([])
            row[i].set_yticks([])
            row[i].spines[:].set_visible(False)
        grid[0, i].set_title(f"{t}", fontsize=8)
    grid[0, 0].set_ylabel("P_t", fontsize=9)
    grid[1, 0].set_ylabel("x_t", fontsize=9)


def _error(x: np.ndarray) -> float:
    """The standard error of the mean; NaN of one image."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")
