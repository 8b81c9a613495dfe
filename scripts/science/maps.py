"""Ridge over a path of penalties and many targets, beside scikit-learn's.

scikit-learn's ``Ridge`` factorises anew for each penalty; ``RidgeCV`` does it once, in
float64, and leaves one row out at a time, as we do.
"""

from typing import Any

import jax
import numpy as np
import sklearn

from scripts.science.case import Case, Run, Size

SKLEARN = f"scikit-learn {sklearn.__version__}"
PRIMAL: Size = {"rows": 10_000, "dimensions": 2048, "targets": 40, "penalties": 30}
DUAL: Size = {"rows": 3000, "dimensions": 16_384, "targets": 40, "penalties": 30}
QUICK_PRIMAL: Size = {"rows": 600, "dimensions": 100, "targets": 5, "penalties": 8}
QUICK_DUAL: Size = {"rows": 100, "dimensions": 600, "targets": 5, "penalties": 8}
NEW = 500  # rows to predict


def data(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, new x in float32, and penalties around the mean eigenvalue of x."""
    n, d = size["rows"], size["dimensions"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n + NEW, d), np.float32)
    x *= np.arange(1, d + 1, dtype=np.float32) ** -0.5
    y = x[:n] @ rng.standard_normal((d, size["targets"]), np.float32)
    y += rng.standard_normal(y.shape, np.float32) * y.std()
    scale = np.square(x[:n]).sum(dtype=np.float64) / min(n, d)
    return x[:n] + 1, y, x[n:] + 1, scale * np.logspace(-3, 4, size["penalties"])


def our_path(size: Size) -> Run:
    from une_jax import maps

    x, y, new, alphas = data(size)
    arrays = jax.device_put((x, y, new, alphas.astype(np.float32)))

    @jax.jit
    def every(x, y, new, alphas):
        found = maps.ridge_path(x, y, alphas)
        return jax.lax.map(lambda alpha: maps.predict(found, alpha, new), alphas)

    return lambda: {"predicted": np.asarray(every(*arrays))}


def their_path(size: Size) -> Run:
    from sklearn.linear_model import Ridge

    x, y, new, alphas = data(size)
    return lambda: {
        "predicted": np.stack([Ridge(a).fit(x, y).predict(new) for a in alphas])
    }


def our_choice(size: Size) -> Run:
    from une_jax import maps

    x, y, new, alphas = data(size)
    arrays = jax.device_put((x, y, new, alphas.astype(np.float32)))

    @jax.jit
    def best(x, y, new, alphas):
        found = maps.ridge_path(x, y, alphas)
        return found.best, maps.predict(found, found.best, new)

    def run() -> dict[str, Any]:
        alpha, predicted = best(*arrays)
        return {"alpha": float(alpha), "predicted": np.asarray(predicted)}

    return run


def their_choice(size: Size) -> Run:
    from sklearn.linear_model import RidgeCV

    x, y, new, alphas = data(size)

    def run() -> dict[str, Any]:
        found = RidgeCV(alphas).fit(x, y)
        return {"alpha": found.alpha_, "predicted": found.predict(new)}

    return run


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Of predictions, the largest difference in standard deviations of them; of the
    penalty, whether it is the same one."""
    a, b = (np.asarray(side["predicted"], np.float64) for side in (ours, theirs))
    off = np.abs(a - b).max() / b.std()
    said = f"predictions to {off:.0e} s.d."
    if "alpha" in ours:
        same = np.isclose(ours["alpha"], theirs["alpha"], rtol=1e-5)
        said += ", the same penalty" if same else (
            f", penalty {ours['alpha']:.3g}, not {theirs['alpha']:.3g}"
        )  # fmt: skip
    return said


def _case(what: str, sizes: tuple[Size, Size], peer: str, ours: Any, theirs: Any) -> Case:  # fmt: skip
    return Case(
        name=what,
        size=sizes[0],
        quick=sizes[1],
        peer_name=f"{SKLEARN} {peer}",
        ours=ours,
        peer=theirs,
        agree=agree,
    )


CASES: tuple[Case, ...] = tuple(
    _case(f"{what}, {form}", sizes, peer, ours, theirs)
    for what, peer, ours, theirs in (
        ("ridge path", "Ridge", our_path, their_path),
        ("ridge, leave-one-out choice", "RidgeCV", our_choice, their_choice),
    )
    for form, sizes in (
        ("primal", (PRIMAL, QUICK_PRIMAL)),
        ("dual", (DUAL, QUICK_DUAL)),
    )
)
