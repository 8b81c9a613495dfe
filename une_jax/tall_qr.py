"""QR of many rows and few columns by matrix products, which every device does fast."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Float32


@jax.default_matmul_precision("float32")
def qr(
    a: Float[Array, "n d"],
) -> tuple[Float32[Array, "n d"], Float32[Array, "d d"]]:
    """Orthonormal columns, and the upper triangle that ``a`` is their product with.

    By Cholesky, twice (Fukaya et al. 2014): many times faster than Householder's on CPU
    and GPU, and as good for columns of condition below some 1,000. Where the result
    would be no basis, Householder's is taken. Works under jit, vmap and grad.

    Args:
        a: no fewer rows than columns.

    >>> q, r = qr(jnp.array([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]]))
    >>> q[:, 0].round(3).tolist(), bool(jnp.allclose(q.T @ q, jnp.eye(2), atol=1e-6))
    ([0.6000000238418579, 0.800000011920929, 0.0], True)
    """
    a = a.astype(jnp.float32)
    eye = jnp.eye(a.shape[1], dtype=jnp.float32)
    q, r = a, eye
    for _ in range(2):
        lower = jnp.linalg.cholesky(q.T @ q)
        q, r = solve_triangular(lower, q.T, lower=True).T, lower.T @ r
    wrong = jnp.abs(q.T @ q - eye).max()
    # XLA's maximum on CPU passes over NaN, which a failed Cholesky gives.
    good = (wrong < 1e-4) & jnp.isfinite(q).all()
    return jax.lax.cond(good, lambda: (q, r), lambda: tuple(jnp.linalg.qr(a)))
