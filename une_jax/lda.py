"""Linear discriminant analysis: probes without a solver, the fast alternative."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from une_jax import pca
from une_jax.metrics import positive
from une_jax.normalise import centred
from une_jax.probes import Probe


@jax.default_matmul_precision("float32")
def fit(
    x: Float[Array, "n d"], y: Shaped[Array, "n a"], *, components: int | None = None
) -> Probe:
    """Every attribute's LDA in PCA's components, composed back to latent space.

    Equals sklearn's ``PCA(components)``, ``LinearDiscriminantAnalysis(solver="lsqr")``:
    the Bayes rule of two Gaussians of one covariance. In whitened components the total
    covariance is I, so that within the classes of an attribute it is
    ``I - p q d d^T``, with p and q their parts and d the difference of their means, and
    the direction is d itself: one whitening serves all attributes (Sherman-Morrison).
    Works under jit (``components`` static) and vmap.

    An attribute of one class gets weight 0 and the bias of :func:`probes.fit`;
    ``objective`` and ``gradient_norm`` are NaN, ``converged`` true. Errors are those of
    :func:`probes.fit`.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> jnp.abs(fit(x, x[:, :2] > 0).weight).argmax(axis=1).tolist()
    [0, 1]
    """
    if len(y) != len(x):
        raise ValueError(f"x has {len(x)} rows, y has {len(y)}")
    k = pca.components(x.shape, components)
    rows, mean = centred(x)
    found = pca.fit_centred(rows, mean, k)
    rows, back = pca.whiten(rows, found)
    target = positive(y).astype(jnp.float32)
    n, ones = len(x), target.sum(axis=0)
    zeros = n - ones
    both = (ones > 0) & (zeros > 0)
    share = jnp.where(both, ones * zeros, 1.0) / n**2
    # The means' difference; sum_i (y_i - p) z_i = n p q d, and z sums to zero.
    about = target - target.mean(axis=0)[None]
    difference = jnp.where(both[None], rows.T @ about / (n * share)[None], 0.0)
    within = 1 - share * jnp.sum(difference**2, axis=0)
    weight = difference / jnp.maximum(within, 1e-6)[None]
    # The classes' means are -p d and q d: their midpoint is (q - p) d / 2.
    middle = (zeros - ones) / (2 * n) * jnp.sum(difference * weight, axis=0)
    rare = jnp.where(both, 0.0, 0.5)  # the prior of probes.fit where a class is empty
    odds = jnp.log((ones + rare) / (zeros + rare))
    weight = (back @ weight).T
    nothing = jnp.full(len(weight), jnp.nan, jnp.float32)
    return Probe(
        weight=weight,
        bias=odds - middle - weight @ mean,
        explained_variance=found.explained_variance,
        converged=jnp.ones(len(weight), bool),
        objective=nothing,
        gradient_norm=nothing,
        pca_residual=found.residual.max(),
    )
