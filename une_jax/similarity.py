"""Similarity of two views by their rows' similarities: CKA, CKNNA and RSA.

Each takes rows that are paired and answers 1 for identical views. What unrelated views
get depends on the measure, the dimensions and the rows: :mod:`une_jax.permutation`.

Each view becomes a *side* once; a side can be reordered, and two of them scored, at
little cost, which is what makes permutations cheap.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from une_jax.errors import UneError
from une_jax.normalise import centred as rows_centred
from une_jax.normalise import unit, unit_rows

Distance = Literal["euclidean", "cosine"]


class Features(NamedTuple):
    """A view for linear CKA where it has fewer dimensions than rows."""

    x: Float32[Array, "n d"]  # centred, of mean squared row norm 1
    square: Float32[Array, " n"]  # squared norms of the rows; 0 for the biased
    norm: Float32[Array, ""]  # root of its HSIC with itself


@jax.default_matmul_precision("float32")
def features(x: Float[Array, "n d"], *, unbiased: bool = True) -> Features:
    """One view's side of linear CKA. At least 4 rows.

    >>> features(jnp.arange(8.0).reshape(4, 2)).x.sum().item()
    0.0
    """
    _enough(len(x))
    x, _ = rows_centred(x)
    power = jnp.mean(jnp.sum(x**2, axis=1))
    x = x / jnp.sqrt(jnp.where(power > 0, power, 1.0))
    square = jnp.sum(x**2, axis=1)
    square = square if unbiased else jnp.zeros_like(square)
    side = Features(x, square, jnp.float32(1))
    return side._replace(norm=jnp.sqrt(_hsic(side, side)))


def reorder_features(side: Features, order: Int[Array, " n"]) -> Features:
    """The side of ``x[order]``.

    >>> reorder_features(features(jnp.eye(4)), jnp.array([3, 2, 1, 0])).x.shape
    (4, 4)
    """
    return Features(side.x[order], side.square[order], side.norm)


def cka_of_features(a: Features, b: Features) -> Float32[Array, ""]:
    """CKA of two sides, in O(n d e).

    >>> a = features(jax.random.normal(jax.random.key(0), (9, 3)))
    >>> cka_of_features(a, a).round(3).item()
    1.0
    """
    return _hsic(a, b) / (a.norm * b.norm)


@jax.default_matmul_precision("float32")
def _hsic(a: Features, b: Features) -> Float32[Array, ""]:
    """Song et al. (2012), Eq. (5), by features; up to 1 / (m (m - 3)).

    Of centred rows the Gram matrix has row sums 0, so that without its diagonal they
    are minus the squared norms, and no n x n matrix is needed.
    """
    m = len(a.x)
    both = jnp.sum(a.square * b.square)
    total = a.square.sum() * b.square.sum()
    pairs = jnp.sum((a.x.T @ b.x) ** 2) - both
    return pairs + total / ((m - 1) * (m - 2)) - 2 * both / (m - 2)


# Sides that are n x n: any kernel, any distance, any number of dimensions.


def unbiased_centred(k: Float[Array, "n n"]) -> Float32[Array, "n n"]:
    """A symmetric matrix, U-centred, without diagonal, of norm 1.

    Two such matrices' inner product is the unbiased CKA of the kernels (Székely and
    Rizzo 2014 show that it is Song's estimator), with nothing that would cancel.

    >>> k = jnp.array([[9.0, 1, 2, 3], [1, 9, 4, 5], [2, 4, 9, 7], [3, 5, 7, 9]])
    >>> jnp.abs(unbiased_centred(k).sum(axis=0)).max().item() < 1e-5
    True
    """
    n = len(k)
    _enough(n)
    off = 1 - jnp.eye(n, dtype=jnp.float32)
    k = k.astype(jnp.float32)
    # What is the same everywhere goes first: rounding is of what is left.
    k = (k - (k * off).sum() / (n * (n - 1))) * off
    row = k.sum(axis=1) / (n - 2)
    k = (k - row[:, None] - row[None] + row.sum() / (n - 1)) * off
    return _unit(k)


def centred(k: Float[Array, "n n"]) -> Float32[Array, "n n"]:
    """A symmetric matrix, centred, of norm 1: for the biased CKA.

    >>> jnp.abs(centred(jnp.eye(3)).sum(axis=0)).max().item() < 1e-6
    True
    """
    k = k.astype(jnp.float32)
    k = k - k.mean(axis=1, keepdims=True)
    return _unit(k - k.mean(axis=0, keepdims=True))


def reorder_matrix(
    side: Float[Array, "n n"], order: Int[Array, " n"]
) -> Float[Array, "n n"]:
    """Rows and columns in a new order.

    >>> reorder_matrix(jnp.array([[0.0, 1.0], [2.0, 3.0]]), jnp.array([1, 0])).tolist()
    [[3.0, 2.0], [1.0, 0.0]]
    """
    return side[order][:, order]


def matrix_score(a: Float[Array, "n n"], b: Float[Array, "n n"]) -> Float32[Array, ""]:
    """Inner product of two sides.

    >>> matrix_score(centred(jnp.eye(5)), centred(jnp.eye(5))).round(3).item()
    1.0
    """
    return jnp.sum(a * b)


@jax.default_matmul_precision("float32")
def rbf(x: Float[Array, "n d"], sigma: float = 1.0) -> Float32[Array, "n n"]:
    """Kernel exp(-|x - y|^2 / (2 sigma^2)); sigma 1 is meant for rows of length 1.

    >>> rbf(jnp.array([[0.0], [2.0]]), 2.0).round(3).tolist()[0]
    [1.0, 0.6070000529289246]
    """
    return jnp.exp(-squared_distances(x) / (2 * sigma**2))


@jax.default_matmul_precision("float32")
def squared_distances(x: Float[Array, "n d"]) -> Float32[Array, "n n"]:
    """|x - y|^2 of all pairs of rows, never below 0.

    >>> squared_distances(jnp.array([[0.0], [2.0]])).tolist()
    [[0.0, 4.0], [4.0, 0.0]]
    """
    x, _ = rows_centred(x)
    square = jnp.sum(x**2, axis=1)
    d = jnp.maximum(square[:, None] + square[None] - 2 * (x @ x.T), 0.0)
    return d * (1 - jnp.eye(len(x), dtype=jnp.float32))


@jax.default_matmul_precision("float32")
def cka(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    unbiased: bool = True,
    sigma: float | None = None,
) -> Float32[Array, ""]:
    """Centred kernel alignment (Kornblith et al., arXiv 1905.00414); no 1e-6 is added.

    The unbiased estimate (Nguyen, Raghu and Kornblith, arXiv 2010.15327) is near 0 for
    unrelated views of any size, and may be below. The biased one is near
    ``sqrt(d e / ((n + d) (n + e)))``: 0.94 for two independent views of 1,000 rows in
    16,384 dimensions.

    Args:
        sigma: of an RBF kernel; the linear one where left out. Static under jit, as
            ``unbiased`` is.

    >>> x = jax.random.normal(jax.random.key(0), (50, 8))
    >>> cka(x, -2 * x[:, ::-1]).round(3).item()
    1.0
    """
    _enough(len(x))
    if sigma is None and max(x.shape[1], y.shape[1]) <= len(x):
        return cka_of_features(
            features(x, unbiased=unbiased), features(y, unbiased=unbiased)
        )
    centre = unbiased_centred if unbiased else centred
    return matrix_score(*(centre(_kernel(v, sigma)) for v in (x, y)))


def _kernel(x: Array, sigma: float | None) -> Float32[Array, "n n"]:
    if sigma is not None:
        return rbf(x, sigma)
    x, _ = rows_centred(x)
    return x @ x.T


def rsa(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    distance: Distance = "euclidean",
    ranks: bool = True,
) -> Float32[Array, ""]:
    """Correlation of the views' distances over all pairs of rows (Kriegeskorte 2008).

    Spearman's, ties at their mean rank; Pearson's where ``ranks`` is False.

    >>> x = jax.random.normal(jax.random.key(0), (20, 3))
    >>> rsa(x, 3 * x).round(3).item()
    1.0
    """
    sides = (rsa_side(v, distance=distance, ranks=ranks) for v in (x, y))
    return matrix_score(*sides)


@jax.default_matmul_precision("float32")
def rsa_side(
    x: Float[Array, "n d"], *, distance: Distance = "euclidean", ranks: bool = True
) -> Float32[Array, "n n"]:
    """One view's side of :func:`rsa`: n x n, so for some thousand rows at most.

    >>> rsa_side(jnp.array([[0.0], [1.0], [3.0]])).shape
    (3, 3)
    """
    n = len(x)
    if n < 3:
        raise UneError(f"RSA needs at least 3 rows; there are {n}")
    x = unit_rows(x) if distance == "cosine" else x
    i, j = jnp.triu_indices(n, 1)
    value = squared_distances(x)[i, j]
    # Cosine distance is half the squared distance of unit rows.
    value = jnp.sqrt(value) if distance == "euclidean" and not ranks else value
    if ranks:
        ordered = jnp.sort(value)
        below = jnp.searchsorted(ordered, value, side="left")
        value = (below + jnp.searchsorted(ordered, value, side="right")) / 2
        value = value.astype(jnp.float32)
    value = value - value.mean()
    value = value - value.mean()
    side = jnp.zeros((n, n), jnp.float32).at[i, j].set(value)
    return _unit(side + side.T)


def _unit(k: Array) -> Float32[Array, "n n"]:
    return unit(k.ravel()).reshape(k.shape)


def _enough(n: int) -> None:
    if n < 4:
        raise UneError(f"CKA needs at least 4 rows; there are {n}")
