"""Ridge projectors of views, P = Z (Z^T Z + r I)^-1 Z^T, without an n x n matrix where
there are fewer columns than rows; the parts that GCCA is made of."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array

from une_jax import whitening


class Primal(NamedTuple):
    """P of a view with at most as many columns as rows: q q^T."""

    white: whitening.Whitened

    def times(self, x: Array) -> Array:
        return self.white.q @ (self.white.q.T @ x)

    def solve(self, x: Array) -> Array:
        return whitening.back(self.white, self.white.q.T @ x)

    def dense(self) -> Array:
        return self.white.q @ self.white.q.T


class Dual(NamedTuple):
    """P of a wide view: I - r (Z Z^T + r I)^-1."""

    z: Array
    ridge: Array
    lower: Array

    def times(self, x: Array) -> Array:
        return self.z @ self.solve(x)

    def solve(self, x: Array) -> Array:
        return self.z.T @ cho_solve((self.lower, True), x)

    def dense(self) -> Array:
        eye = jnp.eye(len(self.z))
        return eye - self.ridge * cho_solve((self.lower, True), eye)


def ridge_projectors(
    views: Sequence[Array], ridges: Array, there: Array
) -> list[Primal | Dual]:
    """P_i of each centred view (n, d_i), with its ridge; ``there`` (n, v) is 1 for the
    rows that have it, and 0 for others, whose z is 0."""
    return [_projector(z, r, t) for z, r, t in zip(views, ridges, there.T, strict=True)]


def _projector(z: Array, ridge: Array, there: Array) -> Primal | Dual:
    n, d = z.shape
    if d > n:
        gram = z @ z.T
        return Dual(z, ridge, cho_factor(gram + ridge * jnp.eye(n), lower=True)[0])
    white = whitening.whiten(z, ridge)
    # A direction of rounding alone is not centred as the others are.
    mean = (there @ white.q / there.sum())[None] * there[:, None]
    return Primal(white._replace(q=white.q - mean))


def centred(x: Array, there: Array) -> tuple[Array, Array]:
    """Rows that are there minus their mean, the others zero; and the mean."""
    x = jnp.where(there[:, None] > 0, x.astype(jnp.float32), 0.0)
    rows = there.sum()
    mean = x.sum(axis=0) / rows
    z = (x - mean[None]) * there[:, None]
    more = z.sum(axis=0) / rows  # what rounding left
    z, mean = (z - more[None]) * there[:, None], mean + more
    # A constant column is not made of its rounding.
    noise = 4 * whitening.EPS * jnp.abs(mean) * jnp.sqrt(rows)
    return jnp.where((jnp.linalg.norm(z, axis=0) <= noise)[None], 0.0, z), mean
