"""The paper's probe, fitted on one view of a NoiseZoo."""

import functools as ft
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from une_jax import lda, metrics, probes, splits
from une_jax.errors import UneError
from une_jax.report import charts, latents, tables
from une_jax.report.figures import Drawing
from une_jax.zoo import Zoo

Split = Literal["paper", "identity"]
Method = Literal["logistic", "raw", "lda"]

_fit = jax.jit(probes.fit, static_argnames=("components", "max_iter", "raw"))
_fit_lda = jax.jit(lda.fit, static_argnames="components")
_evaluate = jax.jit(metrics.evaluate)
_bootstrap = jax.jit(metrics.bootstrap, static_argnames="replicates")


@dataclass(frozen=True, kw_only=True)
class ViewProbe:
    """All attributes' probes of one view, and how they do on the test rows."""

    view: str
    kind: str
    probe: probes.Probe
    metrics: probes.ProbeMetrics
    train: Float[np.ndarray, "n d"]
    scores: Float[np.ndarray, "m a"]  # on the test rows
    labels: Bool[np.ndarray, "m a"]  # of the test rows


def spaces(zoo: Zoo) -> tuple[str, ...]:
    """The views that are latent spaces of an image: all but what decoding needs beside
    a generator's noise."""
    views = zoo.manifest.views
    return tuple(view.name for view in views if view.kind != "code")


def rows_of(
    zoo: Zoo, split: Split = "paper", *, seed: int = 42
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Train and test rows: the paper's 80/20 of the images, or 80/20 of the rows with
    nobody on both sides, by the zoo's column ``identity``.

    Raises:
        UneError: there is no identity of every row, or too few rows on a side.
    """
    if split == "paper":
        train, test = zoo.split("train"), zoo.split("test")
    else:
        if "identity" not in zoo.rows.column_names:
            raise UneError(
                f"{zoo.path} has no column identity: build it with CelebA's "
                "identity_CelebA.txt among the attributes, or use the paper's split"
            )
        column = zoo.rows.column("identity")
        if column.null_count:
            raise UneError(
                f"{zoo.path}: identity is unknown for {column.null_count} images"
            )
        _, groups = np.unique(column.to_numpy(), return_inverse=True)
        groups = jnp.asarray(groups, jnp.int32)
        side = np.asarray(splits.by_group(jax.random.key(seed), groups))
        train, test = np.flatnonzero(side), np.flatnonzero(~side)
    if len(train) < 2 or not len(test):
        raise UneError(
            f"{zoo.path} has {len(train)} train and {len(test)} test rows: too few"
        )
    return train, test


def probe_view(
    zoo: Zoo,
    view: str,
    *,
    components: int | None = None,
    l2: float = 1.0,
    method: Method = "logistic",
    split: Split = "paper",
) -> ViewProbe:
    """Fit on the train rows, evaluate on the test rows (the paper's 80/20 split).

    ``components`` defaults to the paper's: 500 for generators, 310 for encoders; ``raw``
    has none.
    """
    if not 0 <= l2 < float("inf"):
        raise UneError(f"l2 is {l2}; use 0 or more")
    if not zoo.attribute_names:
        raise UneError(
            f"{zoo.path} has no attributes to probe: build it with --attributes"
        )
    kind = zoo[view].view.kind
    train, test = rows_of(zoo, split)
    x, x_test = (latents.read(zoo, view, part) for part in (train, test))
    y, labels = zoo.attributes[train], zoo.attributes[test]
    if method == "raw":
        probe = _fit(x, y, components=components, l2=l2, raw=True)
    else:
        components = latents.COMPONENTS[kind] if components is None else components
        if method == "lda":
            probe = _fit_lda(x, y, components=components)
        else:
            probe = _fit(x, y, components=components, l2=l2)
    scores = probes.scores(probe, jnp.asarray(x_test))
    return ViewProbe(
        view=view,
        kind=kind,
        probe=probe,
        metrics=_evaluate(scores, jnp.asarray(labels)),
        train=x,
        scores=np.asarray(scores),
        labels=labels,
    )


def draws(
    probed: ViewProbe, *, replicates: int = 1000, seed: int = 0
) -> metrics.ProbeMetrics:
    """Bootstrap replicates over the test rows of all metrics; the same rows are drawn
    for every view."""
    return _bootstrap(
        jax.random.key(seed),
        jnp.asarray(probed.scores),
        jnp.asarray(probed.labels),
        replicates=replicates,
    )


def interval(
    drawn: Float[np.ndarray, " r"], level: float = 0.95
) -> tuple[float, float]:
    """Percentiles of the replicates that are known; NaN where none is."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def table(
    names: tuple[str, ...],
    probed: list[ViewProbe],
    drawn: Mapping[str, metrics.ProbeMetrics] | None = None,
) -> list[tables.Row]:
    """One row an attribute, and their mean; with ``drawn`` (by view), 95 % intervals.

    The mean leaves out attributes of which the test rows have one class only. In the
    interval of the mean, all attributes' rows are drawn together.
    """
    rows: list[tables.Row] = []
    for a, name in enumerate((*names, "mean")):
        pick = ft.partial(_pick, a=a, n=len(names))
        row: tables.Row = {"attribute": name}
        row["base_rate"] = pick(probed[0].metrics.base_rate)
        row["positives"] = pick(probed[0].labels.mean(axis=0))
        for p in probed:
            row[f"{p.view} accuracy"] = pick(p.metrics.accuracy)
            row[f"{p.view} balanced accuracy"] = pick(p.metrics.balanced_accuracy)
            row[f"{p.view} auc"] = pick(p.metrics.auc)
            row[f"{p.view} average precision"] = pick(p.metrics.average_precision)
            if drawn:
                for number in ("accuracy", "auc"):
                    values = getattr(drawn[p.view], number)
                    low, high = interval(_drawn(values, a, len(names)))
                    row[f"{p.view} {number} low"] = low
                    row[f"{p.view} {number} high"] = high
        rows.append(row)
    return rows


def figure(
    names: tuple[str, ...],
    probed: list[ViewProbe],
    drawn: Mapping[str, metrics.ProbeMetrics],
) -> Drawing:
    """AUC of every attribute in every view, with its interval; the easiest first."""
    order = np.argsort(-np.nan_to_num(np.asarray(probed[0].metrics.auc), nan=-1.0))
    at = [*(int(a) for a in order), len(names)]
    series = {}
    for p in probed:
        ends = np.array(
            [interval(_drawn(drawn[p.view].auc, a, len(names))) for a in at]
        )
        middle = np.array([_pick(p.metrics.auc, a, len(names)) for a in at])
        name = f"{p.view} (control)" if p.kind == "control" else p.view
        series[name] = charts.Band(middle, ends[:, 0], ends[:, 1])
    return charts.dots(
        [*(names[a] for a in order), "mean"],
        series,
        x_label="test AUC, with 95 % bootstrap intervals over the test rows",
        levels={"chance": 0.5},
    )


def _drawn(replicates: jax.Array, a: int, n: int) -> np.ndarray:
    """Replicates of entry a, or of the mean over the attributes that are known."""
    values = np.asarray(replicates)
    return values[:, a] if a < n else known_mean(values)


def known_mean(draws: Float[np.ndarray, "r a"]) -> Float[np.ndarray, " r"]:
    """Of each replicate over the attributes that are known in it; NaN where none is."""
    known = np.isfinite(draws)
    total = np.where(known, draws, 0.0).sum(axis=1)
    return total / np.where(known.any(axis=1), known.sum(axis=1), np.nan)


def _pick(values: jax.Array | np.ndarray, a: int, n: int) -> float:
    """Entry a, or the mean over all where a is n (attributes of one class left out)."""
    if a < n:
        return float(values[a])
    known = np.asarray(values)[np.isfinite(np.asarray(values))]
    return float(known.mean()) if len(known) else float("nan")


def truth_r2(
    scores: Float[np.ndarray, "m a"], truth: Float[np.ndarray, "m a"]
) -> Float[np.ndarray, " a"]:
    """Squared correlation of each probe's scores with the true liabilities."""
    s = scores - scores.mean(0, keepdims=True)
    t = truth - truth.mean(0, keepdims=True)
    norm = np.sqrt((s**2).sum(0) * (t**2).sum(0))
    return ((s * t).sum(0) / np.where(norm > 0, norm, 1.0)) ** 2
