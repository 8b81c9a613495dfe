"""L2 logistic regression of many targets on the same rows, in one batched solve."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

# Squared Newton decrement (twice the log-likelihood still to be gained, in nats) at
# which an attribute is done.
NEWTON_TOL = 1e-6


class Logistic(NamedTuple):
    """``logits = z @ weight + bias``, with a certificate of how good the fit is."""

    weight: Float32[Array, "k a"]
    bias: Float32[Array, " a"]
    converged: Bool[Array, " a"]
    objective: Float32[Array, " a"]  # summed loss + l2 / 2 |w|^2, in nats
    gradient_norm: Float32[Array, " a"]  # of the objective, in weights and bias
    iterations: Array  # Newton steps


@jax.default_matmul_precision("float32")
def fit(
    z: Float[Array, "n k"],
    y: Bool[Array, "n a"],
    l2: float | Float[Array, ""] = 1.0,
    *,
    max_iter: int = 100,
) -> Logistic:
    """Every column's optimum by damped Newton-CG; the intercept is not penalised.

    The objective is sklearn's ``LogisticRegression(C=1 / l2)``, times ``1 / C``. It is
    at least ``l2``-strongly convex in the weights, so that it lies above its minimum by
    no more than about ``gradient_norm**2 / (2 * l2)``.

    No line search: its comparisons of objectives would be lost in float32's rounding.
    A whole step is taken where the objective still falls at its end, which for a convex
    one is descent all the way. Else its length is t = log(1 + r) / r, with r the
    largest change of a logit: curvature along a step grows at most like exp(r t), so
    that this t always descends (Sun and Tran-Dinh, arXiv 1703.04599). A column that is
    done is frozen. One of a single class gets weight 0 and the bias
    ``log((positives + 1/2) / (negatives + 1/2))``.

    Centre ``z`` first: it changes no score, and saves steps. Works under jit and vmap
    (``max_iter`` static), there also over ``l2``.

    >>> z = jnp.array([[-1.0], [0.0], [0.5], [2.0]])
    >>> found = fit(z, jnp.array([[False], [True], [False], [True]]))
    >>> bool(found.converged[0]), bool(found.gradient_norm[0] < 1e-3)
    (True, True)
    """
    n, k = z.shape
    z = jnp.concatenate([z.astype(jnp.float32), jnp.ones((n, 1), jnp.float32)], axis=1)
    # A copy: on CPU, products with few columns are four times slower by z.T itself.
    turned = jax.lax.optimization_barrier(z.T)
    penalty = jnp.full((k + 1, 1), l2, jnp.float32).at[k].set(0.0)
    target = y.astype(jnp.float32)
    positives = target.sum(axis=0)
    one_class = (positives == 0) | (positives == n)
    odds = (positives + 0.5) / (n - positives + 0.5)
    start = jnp.zeros((k + 1, y.shape[1]), jnp.float32).at[k].set(jnp.log(odds))

    def newton_step(state):
        theta, logits, done, i = state
        p = jax.nn.sigmoid(logits)
        gradient = turned @ (p - target) + penalty * theta

        def hessian(v):
            return turned @ (p * (1 - p) * (z @ v)) + penalty * v

        step = conjugate_gradient(hessian, -gradient, done)
        change = z @ step
        error = jax.nn.sigmoid(logits + change) - target
        slope = (error * change).sum(axis=0) + (penalty * (theta + step) * step).sum(0)
        r = jnp.abs(change).max(axis=0)
        damping = jnp.where((slope <= 0) | (r == 0), 1.0, jnp.log1p(r) / r)
        damping = jnp.where(done, 0.0, damping)[None]
        decrement = -jnp.sum(gradient * step, axis=0)
        done = done | (decrement <= NEWTON_TOL)
        return theta + damping * step, logits + damping * change, done, i + 1

    theta, _, done, steps = jax.lax.while_loop(
        lambda state: (state[3] < max_iter) & ~state[2].all(),
        newton_step,
        (start, z @ start, one_class, jnp.int32(0)),
    )
    logits = z @ theta
    gradient = turned @ (jax.nn.sigmoid(logits) - target) + penalty * theta
    loss = jax.nn.softplus(jnp.where(y, -logits, logits))
    mean = loss.mean(axis=0)
    mean = mean + (loss - mean[None]).mean(axis=0)  # twice, against rounding
    objective = n * mean + jnp.sum(penalty * theta**2, axis=0) / 2
    norm = jnp.linalg.norm(gradient, axis=0)
    return Logistic(theta[:k], theta[k], done, objective, norm, steps)


def conjugate_gradient(matmul, b: Array, done: Array) -> Array:
    """Solves for every column of ``b`` that is not done, to 10 % of its residual: 1 %
    would cost more products than the Newton step that it saves."""
    enough = jnp.where(done, jnp.inf, 1e-2 * jnp.sum(b**2, axis=0))

    def body(state):
        x, r, p, square, i = state
        going = square > enough
        product = matmul(p)
        curvature = jnp.sum(p * product, axis=0)
        rate = jnp.where(going, square / jnp.where(going, curvature, 1.0), 0.0)
        x, r = x + rate[None] * p, r - rate[None] * product
        new_square = jnp.sum(r**2, axis=0)
        # Zero, not idle, where it has stopped: an idle p would grow until 0 * inf.
        turn = jnp.where(going, new_square / jnp.where(going, square, 1.0), 0.0)
        p = r + turn[None] * p
        return x, r, p, jnp.where(going, new_square, square), i + 1

    return jax.lax.while_loop(
        lambda state: (state[4] < 200) & (state[3] > enough).any(),
        body,
        (jnp.zeros_like(b), b, b, jnp.sum(b**2, axis=0), 0),
    )[0]
