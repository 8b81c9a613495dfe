"""Similarity of views, beside the algorithms that people use for it."""

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scripts.science.case import Case, Run, Size
from une_jax import neighbours, permutation, similarity

NUMPY = f"NumPy {importlib.metadata.version('numpy')}"


def views(size: Size) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n e"]]:
    """Two noisy linear views of one Gaussian space."""
    rng = np.random.default_rng(0)
    n, d, e = size["n"], size["d"], size["e"]
    z = rng.standard_normal((n, 32))
    parts = [
        z @ rng.standard_normal((32, width)) + 4 * rng.standard_normal((n, width))
        for width in (d, e)
    ]
    x, y = (part.astype(np.float32) for part in parts)
    return x, y


def ours_knn(size: Size) -> Run:
    x, y = (jnp.asarray(v) for v in views(size))
    score = jax.jit(neighbours.mutual_knn, static_argnames=("k",))
    return lambda: {"score": float(score(x, y, size["k"]))}


def full_sort_knn(size: Size) -> Run:
    """platonic-rep's algorithm: all similarities, a full argsort, n x n masks."""
    x, y = views(size)
    k = size["k"]

    def mask(v: np.ndarray) -> np.ndarray:
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        s = v @ v.T
        np.fill_diagonal(s, -1e8)
        nearest = np.argsort(-s, axis=1)[:, :k]
        out = np.zeros(s.shape, np.float32)
        out[np.arange(len(v))[:, None], nearest] = 1
        return out

    return lambda: {"score": float((mask(x) * mask(y)).sum(1).mean() / k)}


def ours_cka_null(size: Size) -> Run:
    x, y = (jnp.asarray(v) for v in views(size))

    @jax.jit
    def null(x: jax.Array, y: jax.Array) -> permutation.Null:
        a, b = similarity.features(x), similarity.features(y)

        def statistic(order: jax.Array) -> jax.Array:
            return similarity.cka_of_features(a, similarity.reorder_features(b, order))

        count = size["permutations"]
        return permutation.test(
            statistic, jax.random.key(0), len(x), permutations=count
        )

    def run() -> dict[str, Any]:
        got = null(x, y)
        return {"score": float(got.observed), "chance": float(got.mean)}

    return run


def kernel_cka_null(size: Size) -> Run:
    """Kernels made once, Song's formula for each permutation of one of them."""
    x, y = views(size)
    n = len(x)

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        total = k.sum() * m.sum() / ((n - 1) * (n - 2))
        return float((k * m).sum() + total - 2 * (k.sum(0) @ m.sum(1)) / (n - 2))

    def run() -> dict[str, Any]:
        kernels = [v @ v.T for v in (x - x.mean(0), y - y.mean(0))]
        for k in kernels:
            np.fill_diagonal(k, 0)
        k, m = kernels
        norm = np.sqrt(hsic(k, k) * hsic(m, m))
        rng = np.random.default_rng(0)
        orders = [rng.permutation(n) for _ in range(size["permutations"])]
        samples = [hsic(k, m[order][:, order]) / norm for order in orders]
        return {"score": hsic(k, m) / norm, "chance": float(np.mean(samples))}

    return run


def agreement(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """What to print of both."""
    difference = abs(ours["score"] - peer["score"])
    return f"score {ours['score']:.4f}, differs by {difference:.1e}"


CASES: tuple[Case, ...] = (
    Case(
        name="mutual kNN",
        size={"n": 6000, "d": 256, "e": 768, "k": 10},
        quick={"n": 600, "d": 32, "e": 48, "k": 10},
        peer_name=f"{NUMPY}, full argsort and masks",
        ours=ours_knn,
        peer=full_sort_knn,
        agree=agreement,
    ),
    Case(
        name="unbiased CKA with its null",
        size={"n": 2000, "d": 256, "e": 64, "permutations": 200},
        quick={"n": 300, "d": 32, "e": 16, "permutations": 20},
        peer_name=f"{NUMPY}, permuted kernels",
        ours=ours_cka_null,
        peer=kernel_cka_null,
        agree=agreement,
    ),
)
