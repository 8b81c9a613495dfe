"""Table 1 of the paper for every view of a NoiseZoo, beside what would make it mean
something: exactly Gaussian data of the same size, data that are not Gaussian, other
directions than random ones, and tests of all directions at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from une_jax import gaussianity, multiple_testing, multivariate, pca, projections
from une_jax.errors import UneError
from une_jax.report import charts
from une_jax.report.figures import Drawing
from une_jax.report.latents import flat, require_finite
from une_jax.report.tables import Row
from une_jax.zoo import Zoo

LEVEL = 0.05
COMPONENTS = 100  # principal ones that are tested
JOINT = 16  # of them, tested jointly
NORM_ROWS = 4000  # rows whose lengths are compared: their Gram matrix is made
DIRECTIONS = ("random", "coordinates", "principal")
SHOWN = {"AD": "Anderson-Darling", "DP": "D'Agostino-Pearson", "SW": "Shapiro-Wilk"}

_random = jax.jit(projections.random, static_argnames=("projections", "rows"))
_coordinates = jax.jit(projections.coordinates, static_argnames=("projections", "rows"))
_along = jax.jit(projections.along, static_argnames=("rows",))
_pca = jax.jit(pca.fit, static_argnames="k")
_every_test = jax.jit(gaussianity.every_test)
_adjusted = jax.jit(multiple_testing.benjamini_yekutieli)
_mardia, _norms = jax.jit(multivariate.mardia), jax.jit(multivariate.norms)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The paper's defaults."""

    projections: int = 5000
    rows: int = 250
    seed: int = 42

    def __post_init__(self) -> None:
        if self.rows < 8:
            raise UneError(f"subsets of {self.rows} rows; the tests need 8 or more")
        if self.projections < 1:
            raise UneError(f"{self.projections} projections; use 1 or more")


def bimodal(x: Array, distance: float) -> Array:
    """Half of the rows moved by ``distance`` sqrt(d), half by as much the other way."""
    d = x.shape[1]
    direction = jnp.ones(d) / jnp.sqrt(jnp.float32(d))
    sign = jnp.where(jnp.arange(len(x)) % 2 == 0, 1.0, -1.0)[:, None]
    return x + sign * direction[None] * (distance * d**0.5)


def rademacher(x: Array) -> Array:
    """Coordinates of -1 and 1: no one is Gaussian, almost every projection is."""
    return jnp.where(x < 0, -1.0, 1.0)


def lognormal_norms(x: Array) -> Array:
    """Rows at lengths that vary by a factor, exp of N(0, 0.3²)."""
    factor = jax.random.normal(jax.random.key(1), (len(x), 1))
    return x * jnp.exp(0.3 * factor)


# What is done to exactly Gaussian rows.
CONTROLS: dict[str, Callable[[Array], Array]] = {
    "bimodal, |mu| = 0.5 sqrt d": lambda x: bimodal(x, 0.5),
    "bimodal, |mu| = 1 sqrt d": lambda x: bimodal(x, 1.0),
    "bimodal, |mu| = 2 sqrt d": lambda x: bimodal(x, 2.0),
    "bimodal, |mu| = 8 sqrt d": lambda x: bimodal(x, 8.0),
    "Rademacher coordinates": rademacher,
    "lognormal norms": lognormal_norms,
}


def check(view: str, x: Float[np.ndarray, "n d"]) -> None:
    """Refuses values that no test of normality is defined for.

    Raises:
        UneError: there are no rows, a number is not finite, or a column is constant.
    """
    if not len(x):
        raise UneError(f"view {view} has no rows")
    require_finite(view, x)
    constant = np.flatnonzero(np.ptp(x, axis=0) == 0)
    if len(constant):
        raise UneError(
            f"view {view}: column {constant[0]} is constant (of {len(constant)} that "
            "are), and no test of normality is defined there; leave the view out with "
            "--view, or build it anew"
        )


def table(
    zoo: Zoo,
    views: Sequence[str],
    protocol: Protocol,
    *,
    done: Callable[[str], Any] = lambda what: None,
) -> list[Row]:
    """Acceptance at the 5 % level of each view by each kind of direction, then of the
    controls, in percent; ``done`` is told of every row.

    "ceiling" is the acceptance of exactly Gaussian data of as many rows and dimensions
    by the same protocol. "s.e." is binomial, for independent projections. "BY" is the
    part of projections that Shapiro and Wilk's test rejects at a false discovery rate
    of 5 % under any dependence.
    """
    key = jax.random.key(protocol.seed)
    ceilings: dict[tuple[str, int, int], dict[str, float]] = {}
    rows: list[Row] = []

    def add(name: str, kind: str, directions: str, x: Array) -> None:
        n, d = x.shape
        if (directions, n, d) not in ceilings:
            exact = _project(key, directions, _gaussian(protocol, x.shape), protocol)
            ceilings[directions, n, d] = _accepted(exact, protocol.rows)
        first: Row = {"data": name, "kind": kind, "directions": directions}
        first |= {"rows": n, "dimensions": d}
        tests = _project(key, directions, x, protocol)
        rows.append(_row(first, tests, protocol.rows, ceilings[directions, n, d]))
        done(name)

    shapes = []
    for view in views:
        x = _rows(zoo, view)
        if len(x) < protocol.rows:
            raise UneError(
                f"{zoo.path} has {len(x)} rows; subsets of {protocol.rows} need as many: "
                f"use --rows {len(x)} or fewer"
            )
        shapes.append(x.shape)
        for directions in DIRECTIONS:
            add(view, zoo[view].view.kind, directions, x)
    exact = _gaussian(protocol, max(shapes, key=lambda shape: shape[1]))
    for name, spoil in CONTROLS.items():
        for directions in ("random", "coordinates"):
            add(name, "control", directions, spoil(exact))
    return rows


def joint_table(zoo: Zoo, views: Sequence[str], protocol: Protocol) -> list[Row]:
    """Mardia's test of the first principal components, and the spread of the norms."""
    rows: list[Row] = []
    shape = (1, 1)
    for view in views:
        x = _rows(zoo, view)
        rows.append(_joint_row(view, x))
        shape = max(shape, x.shape, key=lambda s: s[1])
    exact = _gaussian(protocol, shape)
    rows.append(_joint_row("exactly Gaussian", exact))
    rows += [_joint_row(name, spoil(exact)) for name, spoil in CONTROLS.items()]
    return rows


def count(views: Sequence[str]) -> int:
    """Rows of :func:`table`."""
    return len(DIRECTIONS) * len(views) + 2 * len(CONTROLS)


def critical_values(protocol: Protocol) -> dict[str, float]:
    """Of A² at the 5 % level, by the table that has them."""
    return {
        name: gaussianity.critical_value(protocol.rows, table=name)
        for name in ("scipy", "scipy<1.17")
    }


def figure(rows: Sequence[Row], directions: str = "random") -> Drawing:
    """Acceptance along some of the directions by the three tests, with 95 % intervals."""
    rows = [row for row in rows if row["directions"] == directions]
    series = {}
    for short, name in SHOWN.items():
        middle = np.array([row[f"{short} %"] for row in rows], float)
        error = 1.96 * np.array([row[f"{short} s.e."] for row in rows], float)
        series[name] = charts.Band(middle, middle - error, middle + error)
    ceiling = float(np.array([row["SW ceiling %"] for row in rows], float).mean())
    return charts.dots(
        [str(row["data"]) for row in rows],
        series,
        x_label=f"accepted at the 5 % level (% of {directions} projections)",
        levels={"exactly Gaussian": ceiling},
    )


def _rows(zoo: Zoo, view: str) -> Array:
    x = flat(zoo[view][:])
    check(view, x)
    return jnp.asarray(x)


def _gaussian(protocol: Protocol, shape: tuple[int, ...]) -> Array:
    return jax.random.normal(jax.random.key(protocol.seed + 1), shape)


def _project(
    key: PRNGKeyArray, directions: str, x: Array, protocol: Protocol
) -> gaussianity.NormalityTests:
    p, rows = protocol.projections, protocol.rows
    if directions == "random":
        return _every_test(_random(key, x, projections=p, rows=rows))
    if directions == "coordinates":
        return _every_test(_coordinates(key, x, projections=p, rows=rows))
    basis = _pca(x, k=min(p, COMPONENTS)).basis
    return _every_test(_along(key, x, basis, rows=rows))


def _accepted(tests: gaussianity.NormalityTests, rows: int) -> dict[str, float]:
    """Percentages, by test; NaN (a subset of equal values) is not accepted."""
    a2 = np.asarray(tests.anderson_darling.statistic)
    return {
        "AD": _percent(a2 < gaussianity.critical_value(rows)),
        "AD old": _percent(a2 < gaussianity.critical_value(rows, table="scipy<1.17")),
        "DP": _percent(np.asarray(tests.dagostino_pearson.pvalue) > LEVEL),
        "SW": _percent(np.asarray(tests.shapiro_wilk.pvalue) > LEVEL),
    }


def _percent(accepted: np.ndarray) -> float:
    return 100 * float(accepted.mean())


def _row(
    first: Row, tests: gaussianity.NormalityTests, rows: int, ceiling: dict[str, float]
) -> Row:
    found = _accepted(tests, rows)
    count = len(tests.shapiro_wilk.pvalue)
    row: Row = {**first, "tests": count}
    for short in SHOWN:
        share = found[short] / 100
        row[f"{short} %"] = found[short]
        row[f"{short} s.e."] = 100 * float(np.sqrt(share * (1 - share) / count))
        row[f"{short} ceiling %"] = ceiling[short]
    row["AD % (scipy<1.17)"] = found["AD old"]
    row["AD ceiling % (scipy<1.17)"] = ceiling["AD old"]
    row["BY rejects %"] = _percent(
        np.asarray(_adjusted(tests.shapiro_wilk.pvalue)) <= LEVEL
    )
    row["mean A2"] = float(tests.anderson_darling.statistic.mean())
    row["mean DP p"] = float(tests.dagostino_pearson.pvalue.mean())
    row["mean SW p"] = float(tests.shapiro_wilk.pvalue.mean())
    return row


def _joint_row(name: str, x: Array) -> Row:
    some = x[:NORM_ROWS]
    k = min(JOINT, x.shape[1], (len(x) - 1) // 2)
    mardia = _mardia(x @ _pca(x, k=k).basis)
    norms = _norms(some)
    return {
        "data": name,
        "components": k,
        "Mardia skewness p": float(mardia.skewness_pvalue),
        "Mardia kurtosis z": float(mardia.kurtosis_z),
        "Mardia kurtosis p": float(mardia.kurtosis_pvalue),
        "mean norm": float(norms.mean),
        "norm s.d.": float(norms.std),
        "a Gaussian's": float(norms.gaussian_std),
        "dispersion": float(norms.dispersion),
    }
