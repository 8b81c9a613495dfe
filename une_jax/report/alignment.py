"""Table 2: how well one view of a NoiseZoo predicts another, and what is lost on the way.

Ridge maps from each view to each other, fitted on the train rows, and three readings of
them on the test rows: the error, whether an image finds itself, and what the target's
own attribute probes say of mapped latents.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from une_jax import cross_validation, maps, probes, relative, retrieval
from une_jax.errors import UneError
from une_jax.report import figures, latents
from une_jax.report.probing import ViewProbe
from une_jax.report.tables import Row
from une_jax.stitching import ALPHAS
from une_jax.zoo import Zoo

ANCHORS = 500  # of relative representations (Moschella et al. 2023)

_factor, _path = jax.jit(maps.factor), jax.jit(maps.path)
_fold_errors = jax.jit(cross_validation.ridge_errors, static_argnames="folds")
_predict = jax.jit(maps.predict)
_scores, _evaluate = jax.jit(probes.scores), jax.jit(probes.evaluate)
_procrustes = jax.jit(maps.procrustes, static_argnames="scale")
_ranks = jax.jit(retrieval.ranks, static_argnames="block")
_relative = jax.jit(relative.relative, static_argnames="centre")


class Source:
    """The rows to map from, decomposed once for all targets."""

    def __init__(self, x: Float[np.ndarray, "n d"]):
        self.rows = jnp.asarray(x, jnp.float32)
        self.factor = _factor(self.rows)
        self.scale = float(self.factor.values.mean())

    def ridge(
        self, y: Float[np.ndarray, "n e"], *, folds: int | None = None
    ) -> tuple[maps.RidgePath, float]:
        """The path to these targets; the penalty of the least leave-one-out error, or
        of the least error on held-out folds."""
        alphas = jnp.asarray(ALPHAS, jnp.float32) * max(self.scale, 1e-30)
        targets = jnp.asarray(y, jnp.float32)
        path = _path(self.factor, targets, alphas)
        if folds is None:
            return path, float(path.best)
        errors = _fold_errors(
            jax.random.key(0), self.rows, targets, alphas, folds=folds
        )
        return path, float(alphas[errors.sum(axis=1).argmin()])


def predict(
    path: maps.RidgePath, alpha: float, x: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m e"]:
    """What the map of this penalty says of new rows."""
    return np.asarray(_predict(path, jnp.float32(alpha), jnp.asarray(x, jnp.float32)))


def predictor(
    x: Float[np.ndarray, "n d"], x_new: Float[np.ndarray, "m d"]
) -> Callable[[Float[np.ndarray, "n e"]], Float[np.ndarray, "m e"]]:
    """Ridge regression from x: targets of its rows -> what it says of new rows.

    >>> x = np.arange(12.0).reshape(6, 2) ** 2
    >>> difference = x[:, :1] - x[:, 1:]
    >>> np.allclose(predictor(x, x)(difference), difference, atol=0.5)
    True
    """
    source = Source(x)
    return lambda y: predict(*source.ridge(y), x_new)


def r2(
    guess: Float[np.ndarray, "m e"], y: Float[np.ndarray, "m e"]
) -> Float[np.ndarray, " e"]:
    """1 - squared error / variance, by column; NaN where a column does not vary."""
    y, guess = y.astype(np.float64), guess.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - np.square(y - guess).sum(0) / np.square(y - y.mean(0)).sum(0)


def table(
    zoo: Zoo,
    views: Sequence[str],
    *,
    probed: Sequence[ViewProbe] = (),
    limit: int | None = None,
    folds: int | None = None,
    controls: bool = True,
    unfitted: bool = True,
    step: Callable[[str], None] = lambda pair: None,
) -> list[Row]:
    """One row for each ordered pair of different views.

    Args:
        probed: the views' probes, for the attributes' columns; without, there are none.
        limit: at most so many train rows (of more dimensions than rows, their Gram
            matrix is decomposed).
        folds: to choose penalties on; None leaves one row out at a time.
        controls: whether with the baselines: shuffled pairs, and the unfitted ones.
        unfitted: whether those are among them: Procrustes, relative representations.
        step: told of each pair when it is done.

    Raises:
        UneError: for fewer than two views, too few rows, or values that are not finite.
    """
    if len(views) < 2:
        raise UneError(
            f"maps are between two views or more; there is {' '.join(views)}"
        )
    train, test = zoo.split("train")[:limit], zoo.split("test")
    if len(train) < 3 or len(test) < 2:
        raise UneError(
            f"{zoo.path} has {len(train)} train and {len(test)} test rows: too few"
        )
    if folds is not None and not 2 <= folds <= len(train) // 2:
        raise UneError(f"folds is {folds}; use 2 to {len(train) // 2}")
    known = {
        v: (latents.read(zoo, v, train), latents.read(zoo, v, test)) for v in views
    }
    own = {p.view: p for p in probed}
    y_test = zoo.attributes[test]
    order = np.random.default_rng(0).permutation(len(train))
    rows = []
    for source in views:
        x, x_test = known[source]
        from_source = Source(x)
        for target in views:
            if target == source:
                continue
            y, truth = known[target]
            mean = y.mean(0, dtype=np.float64).astype(np.float32)
            path, alpha = from_source.ridge(y, folds=folds)
            mapped = predict(path, alpha, x_test)
            row: Row = {"source": source, "target": target}
            row["alpha"] = alpha / max(from_source.scale, 1e-30)
            row |= _closeness("", mapped, truth, mean)
            nothing = np.broadcast_to(mean, truth.shape)
            row |= _closeness("mean predictor ", nothing, truth, mean, retrieves=False)
            row |= {f"chance top-{k}": min(k / len(test), 1.0) for k in (1, 5)}
            said = {"mapped": mapped}
            if controls:
                shuffled = predict(*from_source.ridge(y[order], folds=folds), x_test)
                said["shuffled pairs"] = shuffled
                row |= _closeness("shuffled pairs ", shuffled, truth, mean)
                row |= _unfitted(x, x_test, y, truth, mean) if unfitted else {}
            if source in own and target in own:
                row |= _attributes(own[source], own[target], said, y_test)
            rows.append(row)
            step(f"{source} -> {target}")
    return rows


def figure(rows: Sequence[Row], column: str = "r2") -> figures.Drawing:
    """A column of the table as a heatmap, from each view (row) to each other."""
    sources = list(dict.fromkeys(str(row["source"]) for row in rows))
    targets = list(dict.fromkeys(str(row["target"]) for row in rows))
    views = sources + [t for t in targets if t not in sources]
    values = np.full((len(views), len(views)), np.nan)
    for row in rows:
        at = views.index(str(row["source"])), views.index(str(row["target"]))
        value = row[column]
        values[at] = np.nan if value is None else float(value)
    label = "test R²" if column == "r2" else f"test {column}"
    return figures.heatmap(values, views, views, label=label, low=0.0, high=1.0)


def _closeness(
    prefix: str,
    guess: Float[np.ndarray, "m e"],
    truth: Float[np.ndarray, "m e"],
    mean: Float[np.ndarray, " e"],
    *,
    retrieves: bool = True,
) -> Row:
    """MSE by dimension in the target's units; cosines of rows, also about the train
    mean (zero where nothing but that mean is said); retrieval among the test rows."""
    r2_each = r2(guess, truth)
    known = r2_each[np.isfinite(r2_each)]
    row: Row = {
        f"{prefix}mse": float(np.square(guess - truth, dtype=np.float64).mean()),
        f"{prefix}cosine": _cosine(guess, truth),
        f"{prefix}centred cosine": _cosine(guess - mean, truth - mean),
        f"{prefix}r2": float(known.mean()) if len(known) else None,
    }
    return row | _tops(prefix, guess - mean, truth - mean) if retrieves else row


def _cosine(a: Float[np.ndarray, "m e"], b: Float[np.ndarray, "m e"]) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / np.where(norms > 0, norms, 1)))


def _tops(prefix: str, queries: np.ndarray, gallery: np.ndarray) -> Row:
    found = _ranks(jnp.asarray(queries), jnp.asarray(gallery))
    return {f"{prefix}top-{k}": float(retrieval.top(found, k)) for k in (1, 5)}


def _unfitted(
    x: Float[np.ndarray, "n d"],
    x_test: Float[np.ndarray, "m d"],
    y: Float[np.ndarray, "n e"],
    truth: Float[np.ndarray, "m e"],
    mean: Float[np.ndarray, " e"],
) -> Row:
    """A rotation (and scale) in the ridge map's place; and nothing fitted at all."""
    turn = _procrustes(jnp.asarray(x), jnp.asarray(y), scale=True)
    turned = np.asarray(maps.apply(turn, jnp.asarray(x_test)))
    row = _closeness("procrustes ", turned, truth, mean)
    anchors = np.linspace(0, len(x) - 1, min(ANCHORS, len(x))).astype(int)
    told = [
        np.asarray(_relative(jnp.asarray(a), jnp.asarray(b[anchors]), centre=True))
        for a, b in ((x_test, x), (truth, y))
    ]
    # About their means: some anchors are near to every row.
    told = [np.nan_to_num(each) for each in told]
    told = [each - each.mean(axis=0) for each in told]
    return row | _tops("relative ", *told)


def _attributes(
    source: ViewProbe, target: ViewProbe, said: dict[str, np.ndarray], y: np.ndarray
) -> Row:
    """Means over attributes; drops are in percentage points, and may be gains."""
    labels = jnp.asarray(y)
    at = {"source": source.metrics, "target": target.metrics} | {
        name: _evaluate(_scores(target.probe, jnp.asarray(x)), labels)
        for name, x in said.items()
    }
    row: Row = {"base rate": _mean(target.metrics.base_rate)}
    for field, short in (("accuracy", "accuracy"), ("auc", "AUC")):
        mean = {name: _mean(getattr(metrics, field)) for name, metrics in at.items()}
        row |= {f"{name} {short}": value for name, value in mean.items()}
        for name in ("target", "source"):
            row[f"{short} drop from {name}, pp"] = 100 * (mean[name] - mean["mapped"])
    return row


def _mean(values: jax.Array) -> float:
    known = np.asarray(values)[np.isfinite(np.asarray(values))]
    return float(known.mean()) if len(known) else float("nan")
