"""Linear probes: which attributes are linear in a latent space, all of them at once.

The paper's probe is PCA, standardisation and L2 logistic regression, with the weights
composed back to latent space, where they are also the edit directions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Shaped

from une_jax import logistic, pca
from une_jax.errors import UneError
from une_jax.metrics import ProbeMetrics as ProbeMetrics
from une_jax.metrics import evaluate as evaluate
from une_jax.metrics import positive
from une_jax.normalise import centred


class Probe(NamedTuple):
    """One linear classifier per attribute: ``scores = x @ weight.T + bias``."""

    weight: Float32[Array, "a d"]  # in latent space, not normalised
    bias: Float32[Array, " a"]
    explained_variance: Float32[Array, ""]  # part of the variance that PCA kept
    converged: Bool[Array, " a"]
    objective: Float32[Array, " a"]  # see logistic.Logistic; NaN where none was solved
    gradient_norm: Float32[Array, " a"]
    pca_residual: Float32[Array, ""]  # the largest of PCA's, see spectral.TopEigh


@jax.default_matmul_precision("float32")
def fit(
    x: Float[Array, "n d"],
    y: Shaped[Array, "n a"],
    *,
    components: int | None = None,
    l2: float | Float[Array, ""] = 1.0,
    max_iter: int = 100,
    raw: bool = False,
) -> Probe:
    """Fits every attribute's probe on the same rows; float32 inside.

    The optimum is sklearn's ``PCA(components)``, ``StandardScaler()``,
    ``LogisticRegression(C=1 / l2)``: minus the summed log-likelihood plus
    ``l2 / 2 * |w|^2`` in the standardised components, intercept free. With ``raw`` it is
    that of ``LogisticRegression`` alone, on the latents as they are. Works under jit
    (``components``, ``max_iter`` and ``raw`` static) and vmap, there also over ``l2``.

    Args:
        x: latents, one row each. All statistics are taken from these rows.
        y: attributes; positive where ``y > 0`` (so bool, 0/1 and CelebA's -1/1).
        components: of PCA; at most min(n - 1, d), which is also the default. The paper
            has 500 for generators and 310 for encoders.
        l2: strength of the penalty.
        max_iter: Newton steps at most; 10 to 20 are usual.
        raw: neither PCA nor standardisation.

    Returns:
        A probe. An attribute with one class only gets weight 0 and, as bias, the log
        odds ``log((positives + 1/2) / (negatives + 1/2))``, and counts as converged.

    Raises:
        UneError: for fewer than two rows, ``components`` below 1, or both ``raw`` and
            ``components``.
        ValueError: if ``x`` and ``y`` differ in rows.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> probe = fit(x, x[:, :2] > 0)
    >>> jnp.abs(probe.weight).argmax(axis=1).tolist()
    [0, 1]
    """
    if len(y) != len(x):
        raise ValueError(f"x has {len(x)} rows, y has {len(y)}")
    if raw and components is not None:
        raise UneError("raw probes have no PCA: leave components out")
    k = pca.components(x.shape, components)
    rows, mean = centred(x)
    explained, residual, back = jnp.float32(1), jnp.float32(0), None
    if not raw:
        found = pca.fit_centred(rows, mean, k)
        explained, residual = found.explained_variance, found.residual.max()
        rows, back = pca.whiten(rows, found)
    solved = logistic.fit(rows, positive(y), l2, max_iter=max_iter)
    weight = (solved.weight if back is None else back @ solved.weight).T
    return Probe(
        weight=weight,
        bias=solved.bias - weight @ mean,
        explained_variance=explained,
        converged=solved.converged,
        objective=solved.objective,
        gradient_norm=solved.gradient_norm,
        pca_residual=residual,
    )


@jax.default_matmul_precision("float32")
def scores(probe: Probe, x: Float[Array, "n d"]) -> Float32[Array, "n a"]:
    """The log odds of every attribute of every row.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> scores(fit(x, x[:, :1] > 0), x).shape
    (200, 1)
    """
    return x.astype(jnp.float32) @ probe.weight.T + probe.bias[None]
