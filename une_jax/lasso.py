"""Lasso of many targets, each on rows of its own: sparse probes on balanced classes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Shaped


class Lasso(NamedTuple):
    """``prediction = x @ weight.T + bias``; for 0/1 targets, 1 from 0.5 on."""

    weight: Float32[Array, "a d"]
    bias: Float32[Array, " a"]
    gap: Float32[Array, " a"]  # the objective is above its minimum by this at most
    iterations: Array


@jax.default_matmul_precision("float32")
def fit(
    x: Float[Array, "n d"],
    y: Shaped[Array, "n a"],
    alpha: float | Float[Array, ""],
    *,
    rows: Bool[Array, "n a"] | None = None,
    tol: float | Float[Array, ""] = 1e-4,
    max_iter: int = 3000,
) -> Lasso:
    """Minimises sklearn's ``|y - x w - b|^2 / (2 n) + alpha |w|_1``, the intercept free.

    The probe of the stitching work (Badrinath et al., "All Roads Lead to Rome?"), where
    alpha is 0.005 to 0.1 and ``rows`` are :func:`splits.balanced`. By accelerated
    proximal gradient (FISTA, Beck and Teboulle 2009) with restarts (O'Donoghue and
    Candes 2015) for all targets at once, until each duality gap is below ``tol`` times
    the variance of its target. Works under jit and vmap (``max_iter`` static).

    Args:
        x: features; not standardised, so that ``alpha`` depends on their scale.
        y: targets, used as numbers: bool as 0 and 1.
        alpha: strength of the penalty.
        rows: which rows count for which target; n is their number. Default: all.

    Returns:
        Weights; a target that has no rows gets zeros and a bias of 0.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> found = fit(x, x[:, :1] * 2 + 1, 0.1)
    >>> (found.weight[0] != 0).tolist(), round(found.weight[0, 0].item(), 1)
    ([True, False, False, False, False], 1.9)
    """
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    mean = x.mean(axis=0)
    x = x - mean[None]  # any shift does; the rows' own means come out below
    turned = jax.lax.optimization_barrier(x.T)  # a copy, see logistic.fit
    m = jnp.ones_like(y) if rows is None else rows.astype(jnp.float32)
    count = jnp.maximum(m.sum(axis=0), 1.0)

    def centred(of: Array) -> Array:
        return m * (of - (jnp.sum(m * of, axis=0) / count)[None])

    target = centred(y)
    variance = jnp.sum(target**2, axis=0) / count
    # The largest eigenvalue of every x^T m x is at most that of x^T x.
    bound = 1.05 * _largest(x) / count

    def state_of(w: Array) -> tuple[Array, Array]:
        """The gradient of the loss at w, and the duality gap."""
        residual = target - centred(x @ w)
        correlation = turned @ residual / count[None]
        loss = jnp.sum(residual**2, axis=0) / (2 * count)
        primal = loss + alpha * jnp.abs(w).sum(axis=0)
        worst = jnp.abs(correlation).max(axis=0)
        scale = jnp.minimum(1.0, alpha / jnp.maximum(worst, 1e-30))
        inner = jnp.sum(residual * target, axis=0) / count
        dual = scale * inner - scale**2 * loss
        return -correlation, primal - dual

    def step(state):
        w, ahead, t, _, i = state
        gradient, gap = state_of(ahead)
        new = ahead - gradient / bound[None]
        new = jnp.sign(new) * jnp.maximum(jnp.abs(new) - (alpha / bound)[None], 0.0)
        uphill = jnp.sum((ahead - new) * (new - w), axis=0) > 0
        t = jnp.where(uphill, 1.0, t)
        following = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        momentum = jnp.where(uphill, 0.0, (t - 1) / following)
        return new, new + momentum[None] * (new - w), following, gap, i + 1

    zero = jnp.zeros((x.shape[1], y.shape[1]), jnp.float32)
    endless = jnp.full(y.shape[1], jnp.inf, jnp.float32)
    start = (zero, zero, jnp.ones_like(endless), endless, jnp.int32(0))
    w, _, _, _, done = jax.lax.while_loop(
        lambda s: (s[4] < max_iter) & (s[3] > tol * variance).any(), step, start
    )
    _, gap = state_of(w)
    fitted = jnp.sum(m * (y - x @ w), axis=0) / count
    return Lasso(w.T, fitted - mean @ w, jnp.maximum(gap, 0.0), done)


def _largest(x: Float32[Array, "n d"]) -> Float32[Array, ""]:
    """The largest eigenvalue of ``x.T @ x``, by 50 powers; from below, within percents."""

    def power(_, v):
        v = x.T @ (x @ v)
        return v / jnp.maximum(jnp.linalg.norm(v), 1e-30)

    v = jax.random.normal(jax.random.key(0), (x.shape[1],), jnp.float32)
    v = jax.lax.fori_loop(0, 50, power, v / jnp.linalg.norm(v))
    return jnp.maximum(jnp.sum((x @ v) ** 2), 1e-30)
