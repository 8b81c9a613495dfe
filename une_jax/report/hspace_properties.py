"""What is claimed of h-space (Asyrp, Sec. 5), as a table and a figure, beside controls.

The numbers are of :mod:`une_jax.hspace_properties`; here is which effects they are of.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from une_jax import hspace_properties as properties
from une_jax.report.charts import COLOURS
from une_jax.report.figures import Drawing, drawn
from une_jax.report.roads.pictures import over_images
from une_jax.report.tables import Row


class Effect(NamedTuple):
    """What one move did to n images."""

    scores: Float[np.ndarray, "n k"]  # changes of a judge's scores, in sd
    pixels: Float[np.ndarray, " n"]  # root mean square, black to white is 1


class Estimate(NamedTuple):
    """A mean over images, and where it lies when they are drawn anew (95 %)."""

    middle: float
    low: float
    high: float


class Number(NamedTuple):
    """One number of one direction, beside its control and what the claim says."""

    claim: str
    what: str
    of: str
    here: Estimate
    control: Estimate | None
    claimed: float


def claims(of: str, effects: Mapping[str, Effect]) -> list[Number]:
    """Of one direction, all that its ``effects`` tell.

    Those by name: ``full``, the direction at strength 1; ``half`` and ``minus``, at 0.5
    and -1; ``random``, a random move of the same lengths; ``steady``, the mean over time;
    ``backwards``, the moves in the opposite order of time, of each step's length. Where
    they are there: ``groups``, the difference of two random groups of images at the same
    lengths; ``other``, another image's moves; ``mean``, the mean of all images'.

    What random moves do is told in mean sizes of what the direction does.
    """
    full = effects["full"]
    found = [
        _number(
            "homogeneous", "cosine with the others' change", of, 1.0,
            properties.homogeneity(jnp.asarray(full.scores)),
            properties.homogeneity(jnp.asarray(effects["random"].scores)),
        )
    ]  # fmt: skip
    for name, what in (("other", "another image's move"), ("mean", "the mean move")):
        if name in effects:
            found += _lines("homogeneous", what, of, 1.0, full, effects[name], effects["random"])  # fmt: skip
    half, minus = effects["half"], effects["minus"]
    found += _lines("linear", "1 against 0.5", of, 2.0, half, full, others(full))
    found += _lines("linear", "-1 against 1", of, -1.0, full, minus, others(minus))
    controls = [effects[name] for name in ("random", "groups") if name in effects]
    for what, of_moves in zip(("random move", "random groups"), controls, strict=False):
        for unit, ratio in (
            ("scores", _size(of_moves.scores) / _size(full.scores).mean()),
            ("pixels", of_moves.pixels / max(full.pixels.mean(), 1e-12)),
        ):
            found.append(_number("robust", f"{what}, {unit}", of, 0.0, ratio))
    found += _lines("steady", "the mean over time", of, 1.0, full, effects["steady"], effects["backwards"])  # fmt: skip
    return found


def sums(of: str, a: Effect, b: Effect, both: Effect) -> list[Number]:
    """Of two directions at once: ``both`` against the sum of each alone."""
    alone = Effect(a.scores + b.scores, a.pixels)
    return _lines("linear", "sum of two", of, 1.0, alone, both, others(both))


def others(effect: Effect) -> Effect:
    """Each image's replaced by the next one's: what homogeneity alone explains."""
    return Effect(*(np.roll(x, 1, axis=0) for x in effect))


def _lines(
    claim: str, what: str, of: str, claimed: float, x: Effect, y: Effect, control: Effect
) -> list[Number]:  # fmt: skip
    """Slope and R² of y's changes of all scores on x's, in each image; the control's."""
    here, there = (
        properties.line(jnp.asarray(x.scores), jnp.asarray(z.scores)) for z in (y, control)
    )  # fmt: skip
    return [
        _number(claim, f"{what}, slope", of, claimed, here.slope, there.slope),
        _number(claim, f"{what}, R²", of, 1.0, here.r2, there.r2),
    ]


def _number(claim: str, what: str, of: str, claimed: float, here, control=None) -> Number:  # fmt: skip
    estimates = (
        None if x is None else estimate(np.asarray(x)) for x in (here, control)
    )
    mine, other = estimates
    assert mine is not None
    return Number(claim, what, of, mine, other, claimed)


def estimate(values: Float[np.ndarray, " n"]) -> Estimate:
    """Their mean and its interval over images.

    >>> estimate(np.ones(5))
    Estimate(middle=1.0, low=1.0, high=1.0)
    """
    values = np.asarray(values, np.float64)
    return Estimate(float(values.mean()), *over_images(values))


def rows(numbers: Sequence[Number]) -> list[Row]:
    """The table: one row a number."""
    nothing = Estimate(*[float("nan")] * 3)
    return [
        {
            "claim": n.claim,
            "number": n.what,
            "of": n.of,
            "mean": n.here.middle,
            "low": n.here.low,
            "high": n.here.high,
            "control": (n.control or nothing).middle,
            "claimed": n.claimed,
        }
        for n in numbers
    ]


def draw(numbers: Sequence[Number], *, columns: int = 3) -> Drawing:
    """A panel a number: a row a direction, its control hollow, what is claimed dotted."""
    panels: dict[tuple[str, str], list[Number]] = {}
    order = list(dict.fromkeys(n.claim for n in numbers))
    for n in sorted(numbers, key=lambda n: order.index(n.claim)):
        if not n.what.endswith("R²"):
            panels.setdefault((n.claim, n.what), []).append(n)
    most = max(map(len, panels.values()))
    down = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        down,
        columns,
        figsize=(3.6 * columns, (1.1 + 0.22 * most) * down),
        squeeze=False,
        layout="constrained",
    )
    for axes, ((claim, what), some) in zip(grid.flat, panels.items(), strict=False):
        for i, n in enumerate(some):
            _dot(axes, i - 0.12, n.here, COLOURS[0], COLOURS[0])
            if n.control is not None:
                _dot(axes, i + 0.2, n.control, "#777777", "white")
        axes.axvline(some[0].claimed, color="#777777", linewidth=1, linestyle=":")
        axes.axvline(0, linewidth=0)  # in sight, so that sizes can be told
        axes.set_yticks(range(len(some)), [n.of.replace("_", " ") for n in some], fontsize=8)  # fmt: skip
        axes.set_ylim(len(some) - 0.5, -0.5)
        axes.set_title(f"{claim}: {what}", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("filled: measured, 95 % over images; hollow: control; dotted: as claimed", fontsize=9)  # fmt: skip
    return drawn(figure)


def _dot(axes: plt.Axes, y: float, value: Estimate, colour: str, inside: str) -> None:
    axes.plot(
        value.middle, y, "o", color=colour, markerfacecolor=inside, markersize=4.5
    )
    axes.hlines(y, value.low, value.high, color=colour, linewidth=1)


def _size(x: np.ndarray) -> np.ndarray:
    """Root mean square along the last axis; above 0."""
    return np.maximum(np.sqrt(np.square(x).mean(-1)), 1e-12)
