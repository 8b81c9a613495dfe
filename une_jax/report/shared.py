"""Figure 6: what a few shared dimensions keep, and how many dimensions are shared."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from une_jax import gcca, probes, shared_dimensions
from une_jax.errors import UneError
from une_jax.report import charts
from une_jax.report.figures import Drawing
from une_jax.report.published import SIXTEEN, model_of
from une_jax.report.spaces import CONTROL, KS, RHO, Space, Views, ridge
from une_jax.report.tables import Row

_probe = jax.jit(probes.fit, static_argnames=("components", "max_iter"))
_evaluate = jax.jit(probes.evaluate)
_null = jax.jit(
    shared_dimensions.beyond_chance, static_argnames=("k", "permutations", "level")
)


def table(
    prepared: Views,
    found: Sequence[Space],
    *,
    ks: Sequence[int] = KS,
    limit: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Figure 6 in numbers: attribute probes on the first k dimensions of each space.

    Means over the attributes that have both classes among the test rows; the paper's
    accuracy at k = 16 beside, where it gives one (it does not say of which attributes).
    """
    zoo = prepared.zoo
    if not zoo.attribute_names:
        raise UneError(f"{zoo.path} has no attributes to probe: build it with --attributes")  # fmt: skip
    y = jnp.asarray(zoo.attributes[zoo.split("train")[:limit]])
    y_new = zoo.attributes[zoo.split("test")]
    rows = []
    for space in found:
        for k in _within(ks, space.train.shape[1]):
            train, test = (
                jnp.asarray(x[:, :k], jnp.float32) for x in (space.train, space.test)
            )
            scores = probes.scores(_probe(train, y), test)
            metrics = _evaluate(scores, jnp.asarray(y_new))
            rows.append(_row(space, k, metrics, y_new))
            done()
    return rows


def dimensions(
    prepared: Views,
    found: Sequence[Space],
    *,
    key: jax.Array,
    rho: float = RHO,
    permutations: int = 99,
    done: Callable[[], None] = lambda: None,
) -> list[Row]:
    """How many dimensions each set of views shares, beyond chance, and how well."""
    rows = []
    for space in found:
        if space.fitted is None or space.name.endswith(CONTROL):
            continue
        x = [jnp.asarray(prepared.train[v]) for v in space.views]
        new = [jnp.asarray(prepared.test[v]) for v in space.views]
        k = space.train.shape[1]
        null = _null(key, x, k, ridge(x, rho), permutations=permutations)
        done()
        fitted = space.fitted
        held = np.asarray(gcca.correlations(gcca.projections(fitted, new)))
        count = int(null.count)
        rows.append(
            {
                "space": space.name,
                "views": len(space.views),
                "beyond chance": count,
                "of k": k,
                "agreement 1": float(fitted.agreement[0]),
                "agreement 16": float(fitted.agreement[min(16, k) - 1]),
                "by chance": float(null.samples.max()),
                "test correlation 1": float(held[0]),
                "test correlation 16": float(held[min(16, k) - 1]),
                "least explained": float(fitted.explained.min()),
                "residual": float(fitted.residual.max()),
            }
        )
    return rows


def figure(rows: Sequence[Row], *, measure: str = "AUC") -> Drawing:
    """Figure 6: a measure against k, a line a space."""
    of: dict[str, dict[int, float]] = {}
    for row in rows:
        k, value = row["k"], row[measure]
        assert isinstance(k, int) and isinstance(value, float)
        of.setdefault(str(row["space"]), {})[k] = value
    ks = sorted({k for own in of.values() for k in own})
    last = sorted(of, key=lambda name: name.endswith("(control)"))
    series = {
        name: np.array([of[name].get(k, np.nan) for k in ks], float) for name in last
    }
    base, level = rows[0]["base rate"], {}
    if measure == "accuracy" and isinstance(base, float):
        level["base rate"] = base
    return charts.lines(
        np.array(ks),
        series,
        x_label="k: dimensions kept",
        y_label=f"{measure}, mean over attributes",
        log_x=True,
        levels=level,
    )


def _within(ks: Sequence[int], most: int) -> list[int]:
    """Those ks that there are, or as many as there are."""
    return [k for k in ks if k <= most] or [most]


def _row(
    space: Space, k: int, metrics: probes.ProbeMetrics, y: Bool[np.ndarray, "m a"]
) -> Row:
    both = y.any(axis=0) & ~y.all(axis=0)

    def mean(values):
        return float(np.asarray(values)[both].mean()) if both.any() else float("nan")

    name = model_of(space.views[0]) if space.fitted is None else space.name
    paper = SIXTEEN.get(name) if k == 16 else None
    return {
        "space": space.name,
        "k": k,
        "accuracy": mean(metrics.accuracy),
        "balanced accuracy": mean(metrics.balanced_accuracy),
        "AUC": mean(metrics.auc),
        "base rate": mean(metrics.base_rate),
        "paper's accuracy": None if paper is None else paper / 100,
    }
