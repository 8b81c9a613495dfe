"""GCCA beside cca-zoo's: noisy views of one z, most of it to be found again."""

from typing import Any

import numpy as np

from scripts.science.case import Case, Run, Size

WIDTHS = {2560: (768, 1024, 768), 5888: (768, 1024, 4096), 120: (30, 50, 40), 420: (60, 60, 300)}  # fmt: skip
LATENTS = 20
# cca-zoo has (1 - s) C + s I with C the covariance: the paper's ridge on Z^T Z is then
# s / (1 - s) times n - 1. A column's variance is about 9 here.
SHRINKAGE = 0.1


def views(size: Size) -> tuple[list[Any], list[Any]]:
    """(train, test) views: 20 latents of falling strength, and noise."""
    rng = np.random.default_rng(0)
    n = size["train"] + size["test"]
    z = rng.standard_normal((n, LATENTS)) * 0.9 ** np.arange(LATENTS)
    made = []
    for d in WIDTHS[size["columns"]]:
        x = z @ rng.standard_normal((LATENTS, d)) + 2 * rng.standard_normal((n, d))
        made.append(x.astype(np.float32))
    return [x[: size["train"]] for x in made], [x[size["train"] :] for x in made]


def ours(size: Size) -> Run:
    import jax
    import jax.numpy as jnp

    from une_jax import gcca

    train, test = views(size)
    fit = jax.jit(gcca.fit, static_argnames="k")
    ridge = SHRINKAGE / (1 - SHRINKAGE) * (size["train"] - 1)

    def run() -> dict[str, Any]:
        fitted = fit([jnp.asarray(x) for x in train], size["k"], ridge)
        said = gcca.projections(fitted, [jnp.asarray(x) for x in test])
        return {
            "correlation": np.asarray(gcca.correlations(said)),
            "residual": float(fitted.residual.max()),
        }

    return run


def peer(size: Size) -> Run:
    from cca_zoo.linear import GCCA

    train, test = views(size)

    def run() -> dict[str, Any]:
        model = GCCA(n_components=size["k"], shrinkage=SHRINKAGE).fit(train)
        said = model.transform(test)
        return {"correlation": _correlations(said)}

    return run


def agree(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    mine, theirs = ours["correlation"].mean(), peer["correlation"].mean()
    return (
        f"held-out correlation {mine:.4f}, peer {theirs:.4f}; "
        f"eigen-residual {ours['residual']:.0e}"
    )


def _correlations(said: list[np.ndarray]) -> np.ndarray:
    """By dimension, the mean over pairs of views."""
    x = np.stack(said)
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return ((x.sum(axis=0) ** 2).sum(axis=0) - len(x)) / (len(x) * (len(x) - 1))


def _case(columns: int, quick: int, note: str) -> Case:
    return Case(
        name=f"GCCA, 3 views{note}",
        size={"train": 4000, "test": 1000, "columns": columns, "k": 10},
        quick={"train": 200, "test": 100, "columns": quick, "k": 5},
        peer_name="cca-zoo 4.0.1",
        ours=ours,
        peer=peer,
        agree=agree,
    )


CASES = (_case(2560, 120, ""), _case(5888, 420, ", one wider than rows"))
