"""How alike the views of a NoiseZoo are, by eight measures, each beside chance.

All pairs of views, on the same rows. In every permutation each view's rows take an
order of their own, which all measures and pairs share: so the best of several pairs,
and all of them as a family, have their null too.
"""

import functools as ft
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from une_jax import cca, cknna, neighbours, permutation, shape, similarity
from une_jax.errors import UneError
from une_jax.report import charts, figures
from une_jax.report.latents import flat, require_finite
from une_jax.report.tables import Row
from une_jax.zoo import Zoo

ROWS, RSA_ROWS = 1000, 500  # at most; RSA compares all pairs of pairs
PERMUTATIONS = 200
NEIGHBOURS = 10
RIDGE = 0.1  # of CCA, in mean eigenvalues
COMPONENTS = {"SVCCA": 10, "PWCCA": 20}
LEVEL = 0.05


class Measure(NamedTuple):
    """One view becomes a side; two sides have a score."""

    side: Callable[[Array], Any]
    reorder: Callable[[Any, Array], Any]
    score: Callable[[Any, Any], Array]
    rows: int | None = None  # at most
    best: Callable[[Any, Any], Array] | None = None  # scores of such sides; else 1


class Pair(NamedTuple):
    """Two views by one measure: the score as rows are paired, and by chance."""

    measure: str
    view: str
    other: str
    rows: int
    observed: float
    best: float  # the score at which the excess is 1
    samples: Float[np.ndarray, " b"]


def measures(n: int, widest: int, k: int) -> dict[str, Measure]:
    """The measures, for ``n`` rows and ``widest`` dimensions at most."""
    columns = ft.partial(jnp.take, axis=0)
    if widest <= n:
        linear = (
            similarity.features,
            similarity.reorder_features,
            similarity.cka_of_features,
        )
    else:
        linear = (_linear_kernel, similarity.reorder_matrix, similarity.matrix_score)
    near = ft.partial(neighbours.nearest, k=k)
    return {
        "CKA (unbiased)": Measure(*linear),
        "mutual kNN": Measure(near, neighbours.reorder, _mutual),
        "CKNNA": Measure(near, neighbours.reorder, cknna.score),
        "RSA (Spearman)": Measure(
            similarity.rsa_side,
            similarity.reorder_matrix,
            similarity.matrix_score,
            RSA_ROWS,
        ),  # fmt: skip
        "SVCCA": Measure(
            ft.partial(cca.svcca_columns, components=COMPONENTS["SVCCA"]),
            columns,
            cca.svcca_score,
        ),  # fmt: skip
        "PWCCA": Measure(_pwcca_side, _reorder_pwcca, _pwcca),
        "CCA (ridge)": Measure(
            _cca_side, columns, _squared_correlation, best=_best_correlation
        ),
        "Procrustes": Measure(shape.side, columns, shape.fast_similarity),
    }


def _linear_kernel(x: Array) -> Array:
    x = x - x.mean(axis=0)[None]
    with jax.default_matmul_precision("float32"):
        return similarity.unbiased_centred(x @ x.T)


def _mutual(a: neighbours.Neighbours, b: neighbours.Neighbours) -> Array:
    return neighbours.shared(a, b).mean()


def _pwcca_side(x: Array) -> cca.PwccaSide:
    return cca.pwcca_side(x, 1.0, components=COMPONENTS["PWCCA"])


def _reorder_pwcca(side: cca.PwccaSide, order: Array) -> cca.PwccaSide:
    return cca.PwccaSide(side.columns[order], side.inside)


def _pwcca(a: cca.PwccaSide, b: cca.PwccaSide) -> Array:
    """Weighted by either view, and the mean of both: symmetric."""
    return (cca.pwcca_score(a, b) + cca.pwcca_score(b, a)) / 2


def _cca_side(x: Array) -> Array:
    return cca.regularised(cca.principal(x), RIDGE)


def _squared_correlation(a: Array, b: Array) -> Array:
    """Mean squared canonical correlation, without the correlations."""
    with jax.default_matmul_precision("float32"):
        return jnp.sum((a.T @ b) ** 2) / min(a.shape[1], b.shape[1])


def _best_correlation(a: Array, b: Array) -> Array:
    """What the ridge leaves of it where all directions fall together (von Neumann)."""
    left, right = (jnp.sort(jnp.sum(v**2, axis=0))[::-1] for v in (a, b))
    k = min(len(left), len(right))
    return jnp.mean(left[:k] * right[:k])


NAMES = tuple(measures(1, 1, 2))


def read(
    zoo: Zoo, views: Sequence[str], *, rows: int = ROWS, seed: int = 0
) -> dict[str, Float[np.ndarray, "n d"]]:
    """The views on the same rows, ``rows`` of them at most, drawn at random."""
    total = len(zoo[views[0]])
    chosen = np.random.default_rng(seed).permutation(total)[:rows]
    return {view: flat(zoo[view][chosen]) for view in views}


def pairs(
    latents: Mapping[str, Float[np.ndarray, "n _"]],
    *,
    permutations: int = PERMUTATIONS,
    k: int = NEIGHBOURS,
    seed: int = 0,
) -> Iterator[Pair]:
    """Every two of the views by every measure, as they are computed.

    Of the rows, RSA takes the first ``RSA_ROWS``.

    Raises:
        UneError: too few views or rows, or values that are not finite.
    """
    if len(latents) < 2:
        raise UneError(f"similarity is of two views or more; there is {len(latents)}")
    if k < 2:
        raise UneError(f"k is {k}; use 2 neighbours or more")
    if permutations < 1:
        raise UneError(f"{permutations} permutations; use 1 or more (200 are usual)")
    views = list(latents)
    n = len(latents[views[0]])
    if n < max(4, k + 1):
        raise UneError(
            f"{n} rows are too few for {k} neighbours: use {k + 1} rows or more"
        )
    for view, x in latents.items():
        _check(view, x)
    rng = np.random.default_rng([seed, 1])
    table = measures(n, max(x.shape[1] for x in latents.values()), k)
    for name, measure in table.items():
        m = min(n, measure.rows or n)
        sides = [jax.jit(measure.side)(jnp.asarray(x[:m])) for x in latents.values()]
        orders = np.stack(
            [[rng.permutation(m) for _ in views] for _ in range(permutations)], axis=1
        )  # (views, permutations, rows)
        score = jax.jit(measure.score)
        null = jax.jit(ft.partial(_null, measure))
        for i, j in itertools.combinations(range(len(views)), 2):
            samples = null(sides[i], sides[j], jnp.asarray(_between(*orders[[i, j]])))
            yield Pair(
                measure=name,
                view=views[i],
                other=views[j],
                rows=m,
                observed=float(score(sides[i], sides[j])),
                best=float(measure.best(sides[i], sides[j])) if measure.best else 1.0,
                samples=np.asarray(samples),
            )


def count(views: int) -> int:
    """How many :func:`pairs` there are to come."""
    return len(NAMES) * views * (views - 1) // 2


def _null(measure: Measure, a: Any, b: Any, orders: Array) -> Array:
    def statistic(order: Array) -> Array:
        return measure.score(a, measure.reorder(b, order))

    return permutation.sample(statistic, orders)


def _between(
    a: Int[np.ndarray, "b n"], b: Int[np.ndarray, "b n"]
) -> Int[np.ndarray, "b n"]:
    """The order of the second view that pairs it with the first one as it is."""
    return np.take_along_axis(b, np.argsort(a, axis=1), axis=1).astype(np.int32)


def _check(view: str, x: Float[np.ndarray, "n d"]) -> None:
    require_finite(view, x)
    if not x.std(axis=0).any():
        raise UneError(
            f"view {view!r} is the same in all rows: leave it out with --view"
        )


def table(found: Sequence[Pair], kinds: Mapping[str, str]) -> list[Row]:
    """One row a pair and measure; then of each kind of pairs the best, with its null.

    ``p, family`` is the probability that chance makes any score of this measure as
    striking. ``excess`` is above 0 where p is within 5 %, and 1 for identical views.
    ``kinds`` says of each view what it is, see :func:`kinds_of`.
    """
    rows, best = [], []
    for name in dict.fromkeys(pair.measure for pair in found):
        group = [pair for pair in found if pair.measure == name]
        observed = jnp.array([pair.observed for pair in group])
        samples = jnp.asarray(np.stack([pair.samples for pair in group], axis=1))
        family = permutation.familywise(observed, samples)
        named = [kind_of(pair, kinds) for pair in group]
        for pair, kind, p in zip(group, named, family, strict=True):
            null = permutation.compare(
                jnp.float32(pair.observed), jnp.asarray(pair.samples), best=pair.best
            )
            rows.append(_row(pair, kind, null, float(p)))
        for kind in sorted(set(named)):
            here = [i for i, other in enumerate(named) if other == kind]
            if len(here) > 1:
                top = max(here, key=lambda i: group[i].observed)
                null = permutation.compare_largest(
                    observed[jnp.array(here)],
                    samples[:, jnp.array(here)],
                    best=group[top].best,
                )
                row = _row(group[top], kind, null, float(null.pvalue))
                best.append({**row, "selected": f"best of {len(here)}"})
    return rows + best


def _row(pair: Pair, kind: str, null: permutation.Null, family: float) -> Row:
    return {
        "measure": pair.measure,
        "kind": kind,
        "view": pair.view,
        "other": pair.other,
        "selected": "",
        "rows": pair.rows,
        "score": pair.observed,
        "chance": float(null.mean),
        "95 % of chance": float(null.threshold),
        "z": float(null.z),
        "p": float(null.pvalue),
        "p, family": family,
        "excess": float(null.excess),
    }


def kinds_of(zoo: Zoo) -> dict[str, str]:
    """What each view is, in a word: noise, x0, forward, encoder."""
    words = {"generator": "noise"}
    return {
        view.name: view.name.rpartition(".")[2] if view.kind == "control"
        else words.get(view.kind, view.kind)
        for view in zoo.manifest.views
    }  # fmt: skip


def kind_of(pair: Pair, kinds: Mapping[str, str]) -> str:
    """What is compared with what: "noise - encoder", "x0 - encoder", ..."""
    words = (kinds[pair.view], kinds[pair.other])
    return " - ".join(sorted(words, key=lambda word: (word == "encoder", word)))


def wide(rows: Sequence[Row], column: str) -> list[Row]:
    """One row a pair, one column a measure."""
    out: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        if not row["selected"]:
            line = out.setdefault(
                (row["view"], row["other"]),
                {"view": row["view"], "other": row["other"]},
            )
            line[str(row["measure"])] = row[column]
    return list(out.values())


def figure(rows: Sequence[Row]) -> figures.Drawing:
    """Excess over chance by measure, one colour a kind of pairs: mean and range."""
    single = [row for row in rows if not row["selected"]]
    names = list(dict.fromkeys(str(row["measure"]) for row in single))
    series = {}
    for kind in sorted({str(row["kind"]) for row in single}, key=_importance):
        by_measure = [
            [
                float(row["excess"] or 0)
                for row in single
                if (row["measure"], row["kind"]) == (name, kind)
            ]
            for name in names
        ]
        middle = np.array([np.mean(values) for values in by_measure])
        low = np.array([min(values) for values in by_measure])
        high = np.array([max(values) for values in by_measure])
        series[kind] = charts.Band(middle, low, high)
    return charts.dots(
        names,
        series,
        x_label="excess over chance (0: its 95 % quantile, 1: identical views)",
        levels={"chance": 0.0},
    )


def _importance(kind: str) -> tuple[bool, str]:
    """Pairs with an encoder first: they are what the hypothesis is about."""
    return (not kind.endswith("encoder"), kind)


def heatmap(rows: Sequence[Row], measure: str) -> figures.Drawing:
    """One measure's excess for every two views."""
    single = [r for r in rows if not r["selected"] and r["measure"] == measure]
    if not single:
        raise UneError(f"no measure {measure!r}; there are {', '.join(NAMES)}")
    names = list(dict.fromkeys(str(r[c]) for r in single for c in ("view", "other")))
    values = np.full((len(names), len(names)), np.nan)
    for row in single:
        i, j = names.index(str(row["view"])), names.index(str(row["other"]))
        values[i, j] = values[j, i] = float(row["excess"] or 0)
    high = max(float(np.nanmax(values)), 1e-3)
    label = f"{measure}: excess over chance"
    return figures.heatmap(values, names, names, label=label, low=0.0, high=high)
