"""Probes of 40 attributes against scikit-learn, attribute by attribute."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scripts.science.case import Case, Run, Size
from une_jax import probes

RATES = (0.02, 0.98)  # from the rarest attribute to the commonest


def data(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """White latents, as inverted noise nearly is, or (decay 1) with a spectrum like an
    encoder's; and noisy linear attributes."""
    n, d, a = size["n"], size["d"], size["attributes"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d), dtype=np.float32)
    if size["decay"]:
        x *= np.arange(1, d + 1, dtype=np.float32) ** np.float32(-0.5)
    score = x @ rng.standard_normal((d, a), dtype=np.float32)
    score /= score.std(axis=0)
    score += 0.5 * rng.logistic(size=score.shape).astype(np.float32)
    return x, score > np.quantile(score, 1 - np.linspace(*RATES, a), axis=0).diagonal()


def ours(size: Size) -> Run:
    k = size["components"]
    x, y = data(size)
    raw = {"raw": True} if not k else {"components": k}
    x, y = jnp.asarray(x), jnp.asarray(y)
    fit = jax.jit(ft.partial(probes.fit, **raw)).lower(x, y).compile()

    def run() -> dict[str, Any]:
        probe = jax.block_until_ready(fit(x, y))
        logits = np.asarray(probes.scores(probe, x), np.float64)
        objective = np.asarray(probe.objective, np.float64)
        if not k:
            objective = objective_of(logits, np.asarray(y), np.asarray(probe.weight))
        return {
            "logits": logits,
            "objective": objective,
            "pca residual": float(probe.pca_residual),
            "explained": float(probe.explained_variance),
        }

    return run


def sklearns(size: Size) -> Run:
    k = size["components"]
    x, y = data(size)

    def run() -> dict[str, Any]:
        z, pca, scaler = x, None, StandardScaler()
        if k:
            pca = PCA(k, random_state=0)
            z = scaler.fit_transform(pca.fit_transform(x))
        # Its default tol, 1e-4, stops 1e-4 above the least objective here.
        fits = [LogisticRegression(max_iter=5000, tol=1e-6).fit(z, v) for v in y.T]
        weight = np.stack([f.coef_[0] for f in fits])
        logits = np.stack([f.decision_function(z) for f in fits], axis=1)
        found = {"logits": logits, "objective": objective_of(logits, y, weight)}
        if pca is not None:
            found["explained"] = float(pca.explained_variance_ratio_.sum())
        return found

    return run


def objective_of(logits: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """In float64; of each attribute, with sklearn's C = 1."""
    logits = logits.astype(np.float64)
    loss = np.logaddexp(0, np.where(y, -logits, logits)).sum(axis=0)
    return loss + (weight.astype(np.float64) ** 2).sum(axis=1) / 2


def agree(a: dict[str, Any], b: dict[str, Any]) -> str:
    if not b:
        return f"variance held {a['explained']:.4f}, residual {a['pca residual']:.0e}"
    same = float(((a["logits"] > 0) == (b["logits"] > 0)).mean())
    worst = float(np.max((a["objective"] - b["objective"]) / b["objective"]))
    said = f"objective at most {worst:+.1e} of sklearn's; {100 * same:.3f} % of decisions agree"
    if "explained" in b:
        said += (
            f"; variance held {a['explained']:.4f} and {b['explained']:.4f}, "
            f"residual {a['pca residual']:.0e}"
        )
    return said


def _case(name: str, size: Size, quick: Size, *, peer: bool = True) -> Case:
    version = f"scikit-learn {sklearn.__version__}"
    return Case(
        name=name,
        size=size,
        quick=quick,
        peer_name=version if peer else "",
        ours=ours,
        peer=sklearns if peer else None,
        agree=agree,
    )


_MARK = {"n": 10_000, "d": 4096, "attributes": 40}
_QUICK = {"n": 600, "d": 200, "attributes": 8}
_RAW, _PCA = {"components": 0, "decay": 1}, {"components": 500, "decay": 1}

CASES: tuple[Case, ...] = (
    _case("probes, raw", _MARK | _RAW, _QUICK | _RAW),
    _case("probes, PCA", _MARK | _PCA, _QUICK | _PCA | {"components": 40}),
    _case(
        "probes, the paper's size",
        {"n": 15_893, "d": 16_384, "attributes": 40, "components": 500, "decay": 0},
        {**_QUICK, "components": 40, "decay": 0},
        peer=False,
    ),
)
