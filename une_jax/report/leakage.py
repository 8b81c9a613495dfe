"""How much of what a probe reads from noise is left over from the image.

At its terminal timestep inverted noise still holds ``sqrt(alpha_bar)`` of the clean
latents. The same probes, on the same rows, are therefore fitted on five kinds of
latents (``KINDS``); only what x_T has above ``forward`` is the inversion's own work.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, PRNGKeyArray

from une_jax import metrics, probes, residual
from une_jax.errors import UneError
from une_jax.report import charts
from une_jax.report.figures import Drawing
from une_jax.report.latents import COMPONENTS, flat
from une_jax.report.probing import interval
from une_jax.report.tables import Row
from une_jax.schedule import alphas_cumprod_of
from une_jax.zoo import View, Zoo

KINDS = {
    "x0": "clean latents",
    "x_T": "inverted noise",
    "x_T less x0": "inverted noise, what is linear in x0 regressed out",
    "forward": "clean latents under fresh noise of the same t",
    "noise": "pure noise",
}
ALPHAS = jnp.logspace(-4, 2, 13)  # of the regression, in mean eigenvalues
RESAMPLES = 200
# Of what is drawn here: fresh noise of the forward process, pure noise, resamples.
SEED = 0x1EA_4A6E

_fit = jax.jit(probes.fit, static_argnames=("components",))
_evaluate = jax.jit(probes.evaluate)
_regress_out = jax.jit(residual.regress_out)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that all kinds of latents share: their attributes, and the split."""

    index: np.ndarray  # (n,) rows of the zoo, ascending
    y: Bool[np.ndarray, "n a"]
    train: Bool[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the probes read from one kind of latents, on the test rows."""

    view: str
    kind: str  # of KINDS
    t: int | None  # None where none is meant
    signal: float  # sqrt(alpha_bar) there: the part of the amplitude that is x0's
    auc: float  # mean over the attributes
    accuracy: float
    balanced_accuracy: float
    base_rate: float
    resampled: Float[np.ndarray, " b"]  # the mean AUC of resampled test rows, paired
    linear_in_x0: float | None = None  # R² of x_T on x0, held out


def rows_of(zoo: Zoo, limit: int | None = None) -> Rows:
    """The zoo's ok rows, or the first ``limit``.

    Raises:
        UneError: no attributes, or too few rows.
    """
    if not zoo.attribute_names:
        raise UneError(
            f"{zoo.path} has no attributes to probe: build it with --attributes"
        )
    n = min(zoo.rows.num_rows, limit or zoo.rows.num_rows)
    train = np.isin(np.arange(n), zoo.split("train"))
    if train.sum() < 2 or train.all():
        raise UneError(
            f"{zoo.path}: {train.sum()} train and {n - train.sum()} test rows among "
            f"the first {n}: too few"
        )
    return Rows(index=np.arange(n), y=zoo.attributes[:n], train=train)


def level(view: View, t: int | None = None) -> tuple[int, float]:
    """A timestep (default: the view's terminal one), and sqrt(alpha_bar) there.

    Raises:
        UneError: the view does not say by which schedule it was made.
    """
    try:
        t = int(view.settings["terminal_t"]) if t is None else t
        alphas = alphas_cumprod_of(view.settings["scheduler"])
    except KeyError as e:
        raise UneError(f"view {view.name!r} does not say its {e.args[0]}") from e
    return t, float(np.sqrt(alphas[t]))


def stored(zoo: Zoo, view: View, rows: Rows, components: int | None) -> list[Reading]:
    """All kinds at the view's own terminal timestep, from the zoo's control views.

    Raises:
        UneError: the zoo was built without them.
    """
    x0, forward = (_control(zoo, view, what, rows) for what in ("x0", "forward"))
    t, signal = level(view)
    found = [*fixed(view.name, x0, rows, components)]
    x_T = flat(zoo[view.name][rows.index])
    found += at_level(view.name, t, signal, x0, x_T, forward, rows, components)
    return sorted(found, key=lambda r: list(KINDS).index(r.kind))


def clean(zoo: Zoo, view: View, rows: Rows) -> np.ndarray:
    """The view's clean latents (n, c, h, w), as stored."""
    return np.asarray(zoo[_control_name(zoo, view, "x0")][rows.index])


def fixed(
    name: str, x0: Float[np.ndarray, "n d"], rows: Rows, components: int | None
) -> Iterator[Reading]:
    """The kinds that no timestep changes: clean latents and pure noise."""
    read = _Reader(name, rows, components)
    yield read("x0", None, 1.0, x0)
    noise = fresh_noise(jax.random.key(SEED), *x0.shape)
    yield read("noise", None, 0.0, np.asarray(noise))


def at_level(
    name: str,
    t: int,
    signal: float,
    x0: Float[np.ndarray, "n d"],
    x_T: Float[np.ndarray, "n d"],
    forward: Float[np.ndarray, "n d"] | None,
    rows: Rows,
    components: int | None,
) -> Iterator[Reading]:
    """The kinds that belong to a timestep; ``forward`` is drawn where it is None."""
    read = _Reader(name, rows, components)
    yield read("x_T", t, signal, x_T)
    train = rows.train
    left = _regress_out(
        *(jnp.asarray(a) for a in (x0[train], x_T[train], x0[~train], x_T[~train])),
        ALPHAS,
    )
    rest = np.empty_like(x_T)
    rest[train], rest[~train] = left.rows, left.new
    yield read("x_T less x0", t, signal, rest, float(left.r2))
    if forward is None:
        key = jax.random.fold_in(jax.random.key(SEED), t + 1)
        noise = np.asarray(fresh_noise(key, *x0.shape))
        forward = np.float32(signal) * x0 + np.float32((1 - signal**2) ** 0.5) * noise
    yield read("forward", t, signal, forward)


def fresh_noise(key: PRNGKeyArray, n: int, d: int) -> Float32[Array, "n d"]:
    """Standard normal rows, row i the same whatever n is."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
    return jax.vmap(lambda k: jax.random.normal(k, (d,)))(keys)


def table(found: list[Reading]) -> list[Row]:
    """One row a reading, in the order given.

    ``above forward`` is the difference of mean AUC to fresh noise at the same t, with
    its 95 % interval by the bootstrap over test rows, the same for both.
    """
    twins = {(r.view, r.t): r for r in found if r.kind == "forward"}
    rows: list[Row] = []
    for r in found:
        low, high = interval(r.resampled)
        row: Row = {"view": r.view, "latents": r.kind, "t": r.t, "signal": r.signal}
        row |= {"auc": r.auc, "auc low": low, "auc high": high}
        row |= {
            "balanced accuracy": r.balanced_accuracy,
            "accuracy": r.accuracy,
            "base rate": r.base_rate,
            "linear in x0": r.linear_in_x0,
        }
        twin = twins.get((r.view, r.t)) if r.kind.startswith("x_T") else None
        gap = (None, None, None)
        if twin:
            gap = (r.auc - twin.auc, *interval(r.resampled - twin.resampled))
        row |= dict(zip(("above forward", "above low", "above high"), gap, strict=True))
        rows.append(row)
    return rows


def figure(found: list[Reading]) -> Drawing:
    """Mean AUC of each kind: by t where there are several, else by view."""
    levels = sorted({(r.t, r.signal) for r in found if r.t is not None})
    if len(levels) > 1 and len({r.view for r in found}) == 1:
        series = {}
        for kind in KINDS:
            own = [r for r in found if r.kind == kind]
            own = own * len(levels) if own[0].t is None else own  # the same at every t
            name = "noise (control)" if kind == "noise" else kind
            series[name] = _band(own)
        return charts.lines(
            np.array([t for t, _ in levels]),
            series,
            x_label="timestep t at which the inversion ends",
            y_label=f"mean test AUC, {found[0].view}",
            top=("part of x0 that is left, √ᾱ", np.array([s for _, s in levels])),
        )
    views = list(dict.fromkeys(r.view for r in found))
    by_kind = {
        kind: _band([r for view in views for r in found if (r.view, r.kind) == (view, kind)])
        for kind in KINDS
    }  # fmt: skip
    return charts.dots(views, by_kind, x_label="mean test AUC", levels={"chance": 0.5})


def _band(own: list[Reading]) -> charts.Band:
    low, high = np.array([interval(r.resampled) for r in own]).T
    return charts.Band(np.array([r.auc for r in own]), low, high)


def _control(zoo: Zoo, view: View, what: str, rows: Rows) -> np.ndarray:
    return flat(zoo[_control_name(zoo, view, what)][rows.index])


def _control_name(zoo: Zoo, view: View, what: str) -> str:
    name = f"{view.name}.{what}"
    if name not in zoo.views:
        raise UneError(f"{zoo.path} has no view {name}: build it with --controls")
    return name


class _Reader:
    """Fits the probes on one kind of latents, and reads the test rows."""

    def __init__(self, view: str, rows: Rows, components: int | None):
        self.view, self.rows = view, rows
        self.components = COMPONENTS["generator"] if components is None else components

    def __call__(
        self,
        kind: str,
        t: int | None,
        signal: float,
        x: Float[np.ndarray, "n d"],
        linear_in_x0: float | None = None,
    ) -> Reading:
        train, y = self.rows.train, jnp.asarray(self.rows.y[~self.rows.train])
        probe = _fit(x[train], self.rows.y[train], components=self.components)
        scores = probes.scores(probe, jnp.asarray(x[~train]))
        m = _evaluate(scores, y)
        auc, accuracy, balanced, base = (
            float(jnp.nanmean(v))
            for v in (m.auc, m.accuracy, m.balanced_accuracy, m.base_rate)
        )
        return Reading(
            view=self.view,
            kind=kind,
            t=t,
            signal=signal,
            auc=auc,
            accuracy=accuracy,
            balanced_accuracy=balanced,
            base_rate=base,
            resampled=np.asarray(_resampled(jax.random.key(SEED), scores, y)),
            linear_in_x0=linear_in_x0,
        )


@jax.jit
def _resampled(key: PRNGKeyArray, scores: Array, y: Array) -> Float32[Array, " b"]:
    """The mean AUC of rows drawn with replacement; the same draws for equal shapes."""
    drawn = metrics.bootstrap(key, scores, y, replicates=RESAMPLES)
    return jnp.nanmean(drawn.auc, axis=1)
