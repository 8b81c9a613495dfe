"""Tests of normality beside scipy's."""

import warnings
from typing import Any

import jax
import numpy as np
import scipy.stats

from scripts.science.case import Case, Run, Size
from une_jax import gaussianity

PEER = f"scipy {scipy.__version__}"


def samples(size: Size) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((size["rows"], size["projections"])).astype(np.float32)


def ours(name: str) -> Any:
    """``every_test`` or one test by name, as ``Case.ours``."""

    def make(size: Size) -> Run:
        x = jax.numpy.asarray(samples(size))
        tests = (name,) if name != "every_test" else tuple(SCIPY)
        test = jax.jit(getattr(gaussianity, name))

        def run() -> dict[str, Any]:
            got = jax.block_until_ready(test(x))
            found = (got,) if name != "every_test" else got
            return {
                f"{t} {field}": np.asarray(value)
                for t, normality in zip(tests, found, strict=True)
                for field, value in normality._asdict().items()
            }

        return run

    return make


def scipys(*names: str) -> Any:
    """These tests, as ``Case.peer``."""

    def make(size: Size) -> Run:
        x = samples(size).astype(np.float64)

        def run() -> dict[str, Any]:
            found = {}
            for name in names:
                statistic, pvalue = SCIPY[name](x)
                found |= {f"{name} statistic": statistic, f"{name} pvalue": pvalue}
            return found

        return run

    return make


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The largest differences; A²'s p-value is another formula by default."""
    off = {"statistic": 0.0, "p": 0.0}
    for name, value in ours.items():
        if name != "anderson_darling pvalue":
            kind = "statistic" if name.endswith("statistic") else "p"
            off[kind] = max(off[kind], float(np.abs(value - theirs[name]).max()))
    return ", ".join(f"{kind} to {value:.0e}" for kind, value in off.items())


def _anderson(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = [scipy.stats.anderson(c, method="interpolate") for c in x.T]
    both = np.array([(f.statistic, f.pvalue) for f in found])  # pyright: ignore
    return both[:, 0], both[:, 1]


def _normaltest(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scipy.stats.normaltest(x, axis=0)


def _shapiro(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more than 5,000 rows
        return scipy.stats.shapiro(x, axis=0)  # pyright: ignore


SCIPY = {
    "anderson_darling": _anderson,
    "dagostino_pearson": _normaltest,
    "shapiro_wilk": _shapiro,
}
SIZE, QUICK = {"rows": 250, "projections": 5000}, {"rows": 250, "projections": 200}

CASES = (
    Case(
        "all three tests of normality",
        SIZE,
        QUICK,
        PEER,
        ours("every_test"),
        scipys(*SCIPY),
        agree,
    ),
    *(
        Case(name.replace("_", " "), SIZE, QUICK, PEER, ours(name), scipys(name), agree)
        for name in SCIPY
    ),
    Case(
        "all three of many rows",
        {"rows": 5000, "projections": 1000},
        {"rows": 600, "projections": 50},
        PEER,
        ours("every_test"),
        scipys(*SCIPY),
        agree,
    ),
)
