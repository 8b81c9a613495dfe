"""Tables of measured edits: by step, by attribute, by way, and who moves with whom."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from une_jax.miniature import factors
from une_jax.report import equal_change
from une_jax.report.effects import PATTERN, PLAIN, RANDOM, Measured
from une_jax.report.equal_change import Curves, Numbers, Pairs, interval, means
from une_jax.report.tables import Row
from une_jax.report.teaching import KEEPINGS

REPLICATES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Measured edits at an equal change, with the same of images drawn anew."""

    measured: Measured
    target: float
    curves: Curves
    numbers: Numbers
    drawn_curves: Curves
    drawn: Numbers
    pairs: dict[str, Pairs]


def compare(
    measured: Measured, target: float = 1.0, *, replicates: int = REPLICATES
) -> Compared:
    """At a change of ``target`` standard deviations of the edited score."""
    found = equal_change.curves(measured)
    again = equal_change.curves(measured, replicates=replicates)
    numbers = equal_change.at(found, target)
    return Compared(
        measured=measured,
        target=target,
        curves=found,
        numbers=numbers,
        drawn_curves=again,
        drawn=equal_change.at(again, target),
        pairs=equal_change.pairs(measured, numbers),
    )


def planted(names: tuple[str, ...]) -> Float[np.ndarray, "a a"] | None:
    """The true correlations of these scores, where they are the miniature's.

    >>> round(float(planted(factors.NAMES)[1, 8]), 2)  # a big nose, and male
    0.3
    """
    if not set(names) <= set(factors.NAMES):
        return None
    at = [factors.NAMES.index(name) for name in names]
    return (factors.MIXING @ factors.MIXING.T)[np.ix_(at, at)]


def by_step(measured: Measured) -> list[Row]:
    """Means over the images of each attribute, way and step."""
    rows: list[Row] = []
    intended, kept = measured.intended, measured.kept
    for w, walk in enumerate(measured.walks):
        for j in range(len(measured.steps)):
            missed = _mean(measured.missed[w, :, j])
            row: Row = {
                "attribute": walk.attribute,
                "way": walk.way,
                "keep": " ".join(walk.keep),
                "step": float(measured.steps[j]),
                "sd": float(measured.steps[j]) * measured.length / walk.spread,
                "intended": float(intended[w, :, j].mean()),
                "collateral": float(measured.collateral[w, :, j].mean()),
                "kept": _mean(kept[w, :, j]),
                "identity": float(measured.identity[w, :, j].mean()),
                "psnr outside": psnr(missed),
            }
            if measured.distance is not None:
                row["lpips"] = float(measured.distance[w, :, j].mean())
            rows.append(row)
    return rows


def by_attribute(
    c: Compared, truth: Float[np.ndarray, "a a"] | None = None
) -> list[Row]:
    """Each attribute and way at the equal change, with 95 % intervals over the images.

    ``per step`` and ``per sd`` are the intended change of a step as long as the noise,
    and of one of a standard deviation of the training rows along it. With the
    ``truth``, also how the mean change of the others follows their planted
    correlations: ``planted share`` is the part of it, squared, that is along them, and
    ``planted slope`` 1 where the others follow as much as they do from face to face.
    """
    m, numbers = c.measured, c.numbers
    slope = equal_change.slopes(c.curves)[0]
    change = equal_change.per_change(c.curves)[0]
    rows: list[Row] = []
    for w, walk in enumerate(m.walks):
        low, high = interval(c.drawn.collateral[:, w])
        collateral = float(numbers.collateral[0, w])
        row: Row = {
            "attribute": walk.attribute,
            "way": walk.way,
            "keep": " ".join(walk.keep),
            "per step": float(slope[w]),
            "per sd": float(slope[w]) * walk.spread / m.length,
            "step": float(numbers.step[0, w]),
            "collateral": collateral,
            "collateral low": low,
            "collateral high": high,
            "systematic": float(numbers.systematic[0, w]),
            "kept": float(numbers.kept[0, w]),
            "identity": float(numbers.identity[0, w]),
            "psnr outside": psnr(float(numbers.outside[0, w])),
            "selectivity": c.target / collateral if collateral > 0 else float("nan"),
        }
        if m.distance is not None:
            row["lpips"] = float(numbers.distance[0, w])
        if truth is not None:
            own = m.names.index(walk.attribute)
            share, along = _follows(change[w], truth[own], own)
            row |= {"planted share": share, "planted slope": along}
        rows.append(row)
    return rows


def by_way(c: Compared) -> list[Row]:
    """Each way beside plain: means over the attributes that reach the change in both.

    ``.. vs plain`` is relative (-0.2: a fifth less), with a 95 % interval over the
    images. ``per step`` is the mean of all its attributes.
    """
    slope = equal_change.slopes(c.curves)[0]
    numbers = ("step", "collateral", "systematic", "kept", "identity", "outside")
    if c.measured.distance is not None:
        numbers = (*numbers, "distance")
    rows: list[Row] = []
    for way, pair in c.pairs.items():
        walks = [w for w, walk in enumerate(c.measured.walks) if walk.way == way]
        row: Row = {
            "way": way,
            "walked": len(walks),
            "compared": len(pair.here),
            "per step": float(slope[walks].mean()),
        }
        for name in numbers:
            here, plain = means(getattr(c.numbers, name), pair)[:, 0].tolist()
            shown = {"outside": "psnr outside", "distance": "lpips"}.get(name, name)
            if name == "outside":
                here, plain = psnr(here), psnr(plain)
            row |= {shown: here, f"{shown} of plain": plain}
        for name in ("step", "collateral", "systematic", "kept"):
            once, drawn = (means(getattr(x, name), pair) for x in (c.numbers, c.drawn))
            low, high = interval(_relative(*drawn))
            row[f"{name} vs plain"] = float(_relative(*once)[0])
            row |= {f"{name} vs plain low": low, f"{name} vs plain high": high}
        here, plain = means(c.drawn.identity, pair)
        low, high = interval(here - plain)
        row |= {"identity less plain low": low, "identity less plain high": high}
        rows.append(row)
    return rows


def matrix(
    c: Compared, way: str, names: tuple[str, ...] | None = None
) -> Float[np.ndarray, "e a"]:
    """The collateral matrix: edited attribute x every score, mean change per unit of the
    intended one. NaN where the attribute was not edited so, or did not get a quarter of
    the way to the equal change: there is no telling what follows it.

    ``names``: of the scores; default: the judge's.
    """
    change = equal_change.per_change(c.curves)[0]
    names = names or c.measured.names
    columns = [c.measured.names.index(name) for name in names]
    found = np.full((len(c.measured.attributes), len(names)), np.nan)
    for i, attribute in enumerate(c.measured.attributes):
        w = c.measured.of(attribute, way)
        if w is not None and c.curves.intended[0, w].max() >= c.target / 4:
            found[i] = change[w, columns]
    return found


def matrix_rows(c: Compared, truth: Float[np.ndarray, "a a"] | None = None) -> list[Row]:  # fmt: skip
    """All matrices below each other, and what is planted."""
    rows: list[Row] = []
    for way in c.measured.ways:
        for name, line in zip(c.measured.attributes, matrix(c, way), strict=True):
            if c.measured.of(name, way) is not None:
                cells = dict(zip(c.measured.names, map(float, line), strict=True))
                rows.append({"way": way, "attribute": name, **cells})
    if truth is not None:
        for name in c.measured.attributes:
            line = map(float, truth[c.measured.names.index(name)])
            cells = dict(zip(c.measured.names, line, strict=True))
            rows.append({"way": "truth", "attribute": name, **cells})
    return rows


def verdict(c: Compared) -> list[str]:
    """What the numbers say of keeping, sentence by sentence."""
    rows = {row["way"]: row for row in by_way(c)}
    plain = rows[PLAIN]
    if not plain["compared"]:
        return [
            f"No plain edit reaches a change of {c.target:g} sd: give longer --step, or a "
            "smaller --change."
        ]
    said = [
        f"At a change of {c.target:g} sd of the edited score ({plain['compared']} of "
        f"{plain['walked']} attributes get there), plain edits change the others by "
        f"{plain['collateral']:.3f} sd image by image, and by {plain['systematic']:.3f} "
        "on average over the images."
    ]
    for way in (*KEEPINGS, PATTERN):
        if way not in rows:
            continue
        row = rows[way]
        if not row["compared"]:
            said.append(f"{way}: no attribute gets there.")
            continue
        said.append(
            f"{way} ({row['compared']} of {row['walked']}), against plain: collateral "
            f"{_change(row, 'collateral')}, on average {_change(row, 'systematic')}, of "
            f"the kept ones {_change(row, 'kept')}; step {_change(row, 'step')}, and identity is {row['identity']:.3f}, not "
            f"{row['identity of plain']:.3f}."
        )
    if RANDOM in rows:
        said.append(
            "A step as long as the noise changes the edited score by "
            f"{plain['per step']:+.2f} sd, one in a random direction by "
            f"{rows[RANDOM]['per step']:+.2f}."
        )
    return said


def psnr(missed: float) -> float:
    """dB of a mean squared error; infinity for none.

    >>> round(psnr(0.01), 3)
    20.0
    """
    if missed != missed:
        return float("nan")
    return -10 * float(np.log10(missed)) if missed > 0 else float("inf")


def _change(row: Row, name: str) -> str:
    """The relative change, and whether it is one."""
    value, low, high = (
        100 * float(row[f"{name} vs plain{end}"] or 0) for end in ("", " low", " high")
    )
    if value != value:
        return "not known"
    within = f" [{low:+.0f}, {high:+.0f}]" if low == low else ""
    doubt = "" if low > 0 or high < 0 else " (no clear change)"
    return f"{value:+.0f} %{within}{doubt}"


def _follows(change: np.ndarray, truth: np.ndarray, own: int) -> tuple[float, float]:
    """The squared cosine of the others' changes with their correlations, and the slope
    of the one on the other."""
    y, x = np.delete(change, own), np.delete(truth, own)
    yy, xx, xy = y @ y, x @ x, x @ y
    if not (yy > 0 and xx > 0):
        return float("nan"), float("nan")
    return float(xy**2 / (xx * yy)), float(xy / xx)


def _mean(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(known.mean()) if len(known) else float("nan")


def _relative(here: np.ndarray, plain: np.ndarray) -> np.ndarray:
    return here / np.where(plain > 0, plain, np.nan) - 1
