"""Linear probes: which attributes are linear in a latent space, all of them at once.

The paper's probe is PCA, standardisation and L2 logistic regression, with the weights
composed back to latent space, where they are also the edit directions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Float32, Shaped

from une_jax.errors import UneError

# Components whose variance is a smaller part of the largest one's than this cannot be
# told from the rounding of a float32 Gram matrix, and are dropped.
RANK_TOL = 3e-6
# Squared Newton decrement (twice the log-likelihood still to be gained, in nats) at
# which an attribute is done.
NEWTON_TOL = 1e-6


class Probe(NamedTuple):
    """One linear classifier per attribute: ``scores = x @ weight.T + bias``."""

    weight: Float32[Array, "a d"]  # in latent space, not normalised
    bias: Float32[Array, " a"]
    explained_variance: Float32[Array, ""]  # part of the variance that PCA kept
    converged: Bool[Array, " a"]


class ProbeMetrics(NamedTuple):
    """Of one set of scores, per attribute, each in [0, 1]."""

    accuracy: Float32[Array, " a"]  # of predicting scores > 0
    balanced_accuracy: Float32[Array, " a"]
    auc: Float32[Array, " a"]
    base_rate: Float32[Array, " a"]  # accuracy of always answering the larger class


@jax.default_matmul_precision("float32")
def fit(
    x: Float[Array, "n d"],
    y: Shaped[Array, "n a"],
    *,
    components: int | None = None,
    l2: float | Float[Array, ""] = 1.0,
    max_iter: int = 100,
) -> Probe:
    """Fits every attribute's probe on the same rows; float32 inside.

    The optimum is sklearn's ``PCA(components)``, ``StandardScaler()``,
    ``LogisticRegression(C=1 / l2)``: minus the summed log-likelihood plus
    ``l2 / 2 * |w|^2`` in the standardised components, intercept free. Works under jit
    (``components`` and ``max_iter`` static) and vmap, there also over ``l2``.

    Args:
        x: latents, one row each. All statistics are taken from these rows.
        y: attributes; positive where ``y > 0`` (so bool, 0/1 and CelebA's -1/1).
        components: of PCA; at most min(n - 1, d), which is also the default. The paper
            has 500 for generators and 310 for encoders.
        l2: strength of the penalty.
        max_iter: Newton steps at most; 10 to 20 are usual.

    Returns:
        A probe. An attribute with one class only gets weight 0 and, as bias, the log
        odds ``log((positives + 1/2) / (negatives + 1/2))``, and counts as converged.

    Raises:
        UneError: for fewer than two rows, or ``components`` below 1.
        ValueError: if ``x`` and ``y`` differ in rows.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> probe = fit(x, x[:, :2] > 0)
    >>> jnp.abs(probe.weight).argmax(axis=1).tolist()
    [0, 1]
    """
    n, d = x.shape
    if len(y) != n:
        raise ValueError(f"x has {n} rows, y has {len(y)}")
    if n < 2:
        raise UneError(f"a probe needs at least 2 rows; there are {n}")
    k = min(n - 1, d) if components is None else min(components, n - 1, d)
    if k < 1:
        raise UneError(f"components is {components}; use 1 or more")
    x = x.astype(jnp.float32)
    mean = x.mean(axis=0)
    x = x - mean[None]
    x, mean = x - x.mean(axis=0)[None], mean + x.mean(axis=0)

    basis = _principal_basis(x, k)
    kept = jnp.any(basis != 0, axis=0)
    projected = x @ basis
    # PCA followed by standardisation whitens, and the L2 penalty does not see by which
    # rotation: QR of the projected rows gives the same model without dividing by the
    # square roots of float32 eigenvalues.
    q, r = jnp.linalg.qr(projected)
    root_n = jnp.sqrt(jnp.float32(n))
    white = jnp.where(kept[None], q, 0.0) * root_n
    w, b, converged = _logistic(white, _positive(y), l2, max_iter)
    r = r + jnp.diag(jnp.where(kept, 0.0, 1.0))
    weight = (basis @ solve_triangular(r, w * root_n)).T
    explained = jnp.sum(projected**2) / jnp.maximum(jnp.sum(x**2), 1e-30)
    return Probe(weight, b - weight @ mean, explained, converged)


@jax.default_matmul_precision("float32")
def scores(probe: Probe, x: Float[Array, "n d"]) -> Float32[Array, "n a"]:
    """The log odds of every attribute of every row.

    >>> probe = Probe(jnp.ones((1, 2)), jnp.ones(1), jnp.float32(1), jnp.array([True]))
    >>> scores(probe, jnp.ones((1, 2))).tolist()
    [[3.0]]
    """
    return x.astype(jnp.float32) @ probe.weight.T + probe.bias[None]


def evaluate(scores: Float[Array, "n a"], y: Shaped[Array, "n a"]) -> ProbeMetrics:
    """How good the scores are on these rows; ``y`` as in :func:`fit`.

    AUC is exact, ties counting one half (Mann-Whitney). Where an attribute has one
    class only, AUC and balanced accuracy are NaN. Works under jit and vmap.

    >>> s = jnp.array([[-1.0], [0.5], [0.5], [2.0]])
    >>> m = evaluate(s, jnp.array([[0], [0], [1], [1]]))
    >>> m.accuracy.item(), m.auc.item(), m.base_rate.item()
    (0.75, 0.875, 0.5)
    """
    positive, predicted = _positive(y), scores > 0
    base_rate = positive.mean(axis=0)
    true_positives = jnp.mean(predicted, axis=0, where=positive)
    true_negatives = jnp.mean(~predicted, axis=0, where=~positive)
    return ProbeMetrics(
        accuracy=(positive == predicted).mean(axis=0),
        balanced_accuracy=(true_positives + true_negatives) / 2,
        auc=jax.vmap(_auc, in_axes=1)(scores.astype(jnp.float32), positive),
        base_rate=jnp.maximum(base_rate, 1 - base_rate),
    )


def _positive(y: Shaped[Array, "n a"]) -> Bool[Array, "n a"]:
    return y.astype(jnp.float32) > 0


def _principal_basis(x: Array, k: int) -> Float32[Array, "d k"]:
    """Orthonormal top-k principal directions of centred rows; null ones are zero."""
    n, d = x.shape
    if d <= n:
        variance, basis = jnp.linalg.eigh(x.T @ x)
        variance, basis = variance[::-1][:k], basis[:, ::-1][:, :k]
        return jnp.where((variance > RANK_TOL * variance[0])[None], basis, 0.0)
    variance, rows = jnp.linalg.eigh(x @ x.T)
    variance, rows = variance[::-1][:k], rows[:, ::-1][:, :k]
    kept = (variance > RANK_TOL * variance[0])[None]
    # From the largest down, QR takes out what rounding mixed in of the larger ones.
    basis, _ = jnp.linalg.qr(jnp.where(kept, x.T @ rows, 0.0))
    return jnp.where(kept, basis, 0.0)


def _logistic(
    z: Float32[Array, "n k"], y: Bool[Array, "n a"], l2: float | Array, max_iter: int
) -> tuple[Float32[Array, "k a"], Float32[Array, " a"], Bool[Array, " a"]]:
    """L2 logistic regression of all attributes at once by damped Newton-CG.

    No line search: its comparisons of objectives would be lost in float32's rounding.
    A whole step is taken where the objective still falls at its end, which for a convex
    one is descent all the way. Else its length is t = log(1 + r) / r, with r the
    largest change of a logit: curvature along a step grows at most like exp(r t), so
    that this t always descends (Sun and Tran-Dinh, arXiv 1703.04599). An attribute that
    is done is frozen.
    """
    n, k = z.shape
    z = jnp.concatenate([z, jnp.ones((n, 1), jnp.float32)], axis=1)
    penalty = jnp.full((k + 1, 1), l2, jnp.float32).at[k].set(0.0)
    target = y.astype(jnp.float32)
    positives = target.sum(axis=0)
    one_class = (positives == 0) | (positives == n)
    odds = (positives + 0.5) / (n - positives + 0.5)
    start = jnp.zeros((k + 1, y.shape[1]), jnp.float32).at[k].set(jnp.log(odds))

    def newton_step(state):
        theta, done, i = state
        logits = z @ theta
        p = jax.nn.sigmoid(logits)
        gradient = z.T @ (p - target) + penalty * theta

        def hessian(v):
            return z.T @ (p * (1 - p) * (z @ v)) + penalty * v

        step = _conjugate_gradient(hessian, -gradient, done)
        change = z @ step
        error = jax.nn.sigmoid(logits + change) - target
        slope = (error * change).sum(axis=0) + (penalty * (theta + step) * step).sum(0)
        r = jnp.abs(change).max(axis=0)
        damping = jnp.where((slope <= 0) | (r == 0), 1.0, jnp.log1p(r) / r)
        theta = jnp.where(done[None], theta, theta + damping[None] * step)
        decrement = -jnp.sum(gradient * step, axis=0)
        return theta, done | (decrement <= NEWTON_TOL), i + 1

    theta, done, _ = jax.lax.while_loop(
        lambda state: (state[2] < max_iter) & ~state[1].all(),
        newton_step,
        (start, one_class, 0),
    )
    return theta[:k], theta[k], done


def _conjugate_gradient(matmul, b: Array, done: Array) -> Array:
    """Solves for every column of ``b`` that is not done, to 1 % of its residual."""
    enough = jnp.where(done, jnp.inf, 1e-4 * jnp.sum(b**2, axis=0))

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


def _auc(score: Float32[Array, " n"], y: Bool[Array, " n"]) -> Float32[Array, ""]:
    """P(a positive scores above a negative), ties one half."""
    # Sorting integers that order like the floats is four times faster on CPU.
    bits = jax.lax.bitcast_convert_type(jnp.where(score == 0, 0.0, score), jnp.int32)
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    negatives = jnp.sort(jnp.where(y, jnp.iinfo(jnp.int32).max, order))
    below = jnp.searchsorted(negatives, order, side="left")
    not_above = jnp.searchsorted(negatives, order, side="right")
    wins = (below + not_above).astype(jnp.float32) / 2
    auc = jnp.mean(wins / jnp.sum(~y).astype(jnp.float32), where=y)
    return jnp.where(jnp.all(y) | jnp.isnan(score).any(), jnp.nan, auc)
