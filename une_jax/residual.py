"""What of one view is not linear in another: the view with the other regressed out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax import maps


class Residual(NamedTuple):
    """What ridge regression on x leaves of y, for rows that it was not fitted on."""

    rows: Float32[Array, "n e"]  # each from the fit to all the other rows
    new: Float32[Array, "m e"]  # from the fit to all n
    alpha: Float32[Array, ""]  # the penalty taken
    r2: Float32[Array, ""]  # 1 - |rows|^2 / |y - mean|^2: what x told, held out


@jax.default_matmul_precision("float32")
def regress_out(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    x_new: Float[Array, "m d"],
    y_new: Float[Array, "m e"],
    alphas: Float[Array, " l"],
) -> Residual:
    """Takes out of ``y`` what is linear in ``x``, the same way for old and new rows.

    Residuals of the rows of a fit are smaller than those of new rows (with d >= n they
    are zero), and a probe trained on the ones would not suit the others. So each of the
    n rows gets its leave-one-out residual, in closed form (Allen 1974, PRESS; the
    cross-fitting of Chernozhukov et al. 2018 with n folds), and a new row that of the
    fit to all. The penalty is that of the least squared leave-one-out error. Works
    under jit and vmap.

    Args:
        alphas: penalties to choose from, above 0, in units of the mean eigenvalue of
            the centred Gram matrix of ``x``.

    Raises:
        UneError: for fewer than two rows.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> y = x[:, :1] + jnp.sin(9 * x[:, 1:2])
    >>> left = regress_out(x, y, x[:1], y[:1], jnp.array([1e-3, 1e-1]))
    >>> left.rows.shape, left.new.shape
    ((50, 1), (1, 1))
    """
    factor = maps.factor(x)
    scale = jnp.maximum(factor.values.mean(), jnp.finfo(jnp.float32).tiny)
    path = maps.path(factor, y, alphas.astype(jnp.float32) * scale)
    rows = maps.leave_one_out(path, path.best, y)
    new = y_new.astype(jnp.float32) - maps.predict(path, path.best, x_new)
    spread = jnp.sum((y.astype(jnp.float32) - path.mean[None]) ** 2)
    return Residual(rows, new, path.best, 1 - jnp.sum(rows**2) / spread)
