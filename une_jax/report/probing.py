"""The paper's probe, fitted on one view of a NoiseZoo."""

import functools as ft
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from une_jax import edits, probes
from une_jax.attributes import resolve
from une_jax.errors import UneError
from une_jax.zoo import Zoo

# PCA components of the paper's probes (section 4 of the paper), by kind of view.
COMPONENTS = {"generator": 500, "control": 500, "code": 500, "encoder": 310}

_fit = jax.jit(probes.fit, static_argnames=("components", "max_iter"))


@dataclass(frozen=True, kw_only=True)
class ViewProbe:
    """All attributes' probes of one view, and how they do on the test rows."""

    view: str
    kind: str
    probe: probes.Probe
    metrics: probes.ProbeMetrics
    train: Float[np.ndarray, "n d"]
    scores: Float[np.ndarray, "m a"]  # on the test rows

    def direction(
        self, names: tuple[str, ...], attribute: str, keep: tuple[str, ...] = ()
    ) -> tuple[jax.Array, float]:
        """Unit edit direction of an attribute with ``keep`` projected out, and the
        standard deviation of the train rows along it: one unit of strength."""
        w = edits.unit(self.probe.weight[resolve(names, attribute)])
        if keep:
            others = jnp.stack([self.probe.weight[resolve(names, k)] for k in keep])
            w = edits.unit(edits.orthogonalize(w, others))
        if not bool(jnp.any(w)):
            held = f" or lies in the span of {', '.join(keep)}" if keep else ""
            raise UneError(
                f"{attribute} has no direction of its own in {self.view}: all train "
                f"rows are of one class{held}"
            )
        return w, float(edits.projection_std(jnp.asarray(self.train), w))


def spaces(zoo: Zoo) -> tuple[str, ...]:
    """The views that are latent spaces of an image: all but what decoding needs beside
    a generator's noise."""
    views = zoo.manifest.views
    return tuple(view.name for view in views if view.kind != "code")


def probe_view(
    zoo: Zoo, view: str, *, components: int | None = None, l2: float = 1.0
) -> ViewProbe:
    """Fit on the train rows, evaluate on the test rows (the paper's 80/20 split).

    ``components`` defaults to the paper's: 500 for generators, 310 for encoders.
    """
    if not 0 <= l2 < float("inf"):
        raise UneError(f"l2 is {l2}; use 0 or more")
    if not zoo.attribute_names:
        raise UneError(
            f"{zoo.path} has no attributes to probe: build it with --attributes"
        )
    latents = zoo[view]
    kind = latents.view.kind
    train, test = zoo.split("train"), zoo.split("test")
    if len(train) < 2 or not len(test):
        raise UneError(
            f"{zoo.path} has {len(train)} train and {len(test)} test rows: too few"
        )
    x, y = flat(latents[train]), zoo.attributes[train]
    components = COMPONENTS[kind] if components is None else components
    probe = _fit(x, y, components=components, l2=l2)
    scores = probes.scores(probe, jnp.asarray(flat(latents[test])))
    metrics = probes.evaluate(scores, jnp.asarray(zoo.attributes[test]))
    return ViewProbe(
        view=view,
        kind=kind,
        probe=probe,
        metrics=metrics,
        train=x,
        scores=np.asarray(scores),
    )


def flat(latents: np.ndarray) -> Float[np.ndarray, "n d"]:
    """(n, ...) of any float dtype -> (n, d) float32."""
    return np.asarray(latents, np.float32).reshape(len(latents), -1)


def table(
    names: tuple[str, ...], probed: list[ViewProbe]
) -> list[dict[str, str | float]]:
    """One row an attribute (and their mean): base rate; accuracy and AUC per view."""
    rows = []
    for a, name in enumerate((*names, "mean")):
        pick = ft.partial(_pick, a=a, n=len(names))
        row: dict[str, str | float] = {"attribute": name}
        row["base_rate"] = pick(probed[0].metrics.base_rate)
        for p in probed:
            row[f"{p.view} accuracy"] = pick(p.metrics.accuracy)
            row[f"{p.view} balanced accuracy"] = pick(p.metrics.balanced_accuracy)
            row[f"{p.view} auc"] = pick(p.metrics.auc)
        rows.append(row)
    return rows


def _pick(values: jax.Array, a: int, n: int) -> float:
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
