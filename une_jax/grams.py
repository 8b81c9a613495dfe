"""GCCA of more rows than memory holds: exact, from sums over blocks of rows.

Everything that GCCA needs of complete rows is their number, the views' means, and the
centred Gram matrix of all columns beside each other. These merge over blocks, devices
and processes (Chan, Golub and LeVeque 1983), without the cancellation of
``sum x x^T - n mean mean^T``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Float32

from une_jax.errors import UneError
from une_jax.gcca import Gcca, PerView, per_view
from une_jax.normalise import centred
from une_jax.pca import RANK_TOL
from une_jax.spectral import top_eigh
from une_jax.whitening import EPS


class Grams(NamedTuple):
    """Second moments of rows of views; p is the sum of their columns d_i."""

    count: Float32[Array, ""]  # rows; exact up to 2^24
    means: tuple[Float32[Array, " _"], ...]  # (d_i,)
    gram: Float32[Array, "p p"]  # of centred columns, sums of products


@jax.default_matmul_precision("float32")
def of(views: Sequence[Float[Array, "n _"]]) -> Grams:
    """Of one block of rows. Works under jit and vmap.

    >>> of([jnp.ones((4, 2)), jnp.ones((4, 3))]).gram.shape
    (5, 5)
    """
    x = jnp.concatenate([v.astype(jnp.float32) for v in views], axis=1)
    z, mean = centred(x)
    widths = [v.shape[1] for v in views]
    return Grams(jnp.float32(len(x)), _split(mean, widths), z.T @ z)


@jax.default_matmul_precision("float32")
def add(a: Grams, b: Grams) -> Grams:
    """Of the rows of both.

    >>> x = jnp.arange(12.0).reshape(6, 2)
    >>> both = add(of([x[:2]]), of([x[2:]]))
    >>> bool(jnp.allclose(both.gram, of([x]).gram)), both.count.item()
    (True, 6.0)
    """
    count = a.count + b.count
    first, second = jnp.concatenate(a.means), jnp.concatenate(b.means)
    part = b.count / jnp.maximum(count, 1.0)
    step = second - first
    gram = a.gram + b.gram + (a.count * part) * jnp.outer(step, step)
    return Grams(count, _split(first + part * step, _widths(a)), gram)


@jax.default_matmul_precision("float32")
def psum(grams: Grams, axis_name: str) -> Grams:
    """:func:`add` over all devices of a mesh axis; within ``shard_map`` or ``pmap``."""
    count = jax.lax.psum(grams.count, axis_name)
    own = jnp.concatenate(grams.means)
    # Beside one device's mean, so that a large one does not cancel.
    near = jax.lax.all_gather(own, axis_name)[0]
    mean = near + jax.lax.psum(grams.count * (own - near), axis_name) / count
    step = own - mean
    gram = jax.lax.psum(grams.gram + grams.count * jnp.outer(step, step), axis_name)
    return Grams(count, _split(mean, _widths(grams)), gram)


@jax.default_matmul_precision("float32")
def project(grams: Grams, bases: Sequence[Float[Array, "_ _"]]) -> Grams:
    """Of ``x_i @ bases[i]`` instead of ``x_i``: as PCA and standardisation are.

    >>> x = jax.random.normal(jax.random.key(0), (9, 3))
    >>> project(of([x]), [jnp.eye(3)[:, :2]]).gram.shape
    (2, 2)
    """
    if len(bases) != len(grams.means):
        raise UneError(f"{len(bases)} bases for {len(grams.means)} views")
    means = tuple(m @ b for m, b in zip(grams.means, bases, strict=True))
    blocks = _blocks(grams)
    rows = [
        [a.T @ block @ b for block, b in zip(row, bases, strict=True)]
        for row, a in zip(blocks, bases, strict=True)
    ]
    return Grams(grams.count, means, jnp.block(rows))


@jax.default_matmul_precision("float32")
def principal(grams: Grams, components: int, *, view: int) -> Float32[Array, "d c"]:
    """The view's top principal directions, each divided by its standard deviation:
    ``(x - mean) @`` this is the paper's PCA and standardisation. At most d and the
    rows less one; directions that float32 cannot tell from none are zero.

    >>> x = jax.random.normal(jax.random.key(0), (99, 3)) @ jnp.diag(jnp.arange(3.0))
    >>> z = x @ principal(of([x]), 1, view=0)
    >>> round(float(z.std()), 3)
    1.0
    """
    block = _blocks(grams)[view][view]
    top = top_eigh(block, min(components, len(block)))
    kept = top.values > RANK_TOL * top.values[0]
    size = jnp.where(kept, top.values, 1.0) / grams.count
    return jnp.where(kept[None], top.vectors * jax.lax.rsqrt(size)[None], 0.0)


@jax.default_matmul_precision("float32")
def fit(grams: Grams, k: int, ridge: PerView, *, weights: PerView = 1.0) -> Gcca:
    """:func:`une_jax.gcca.fit` of rows that are no longer there.

    ``shared`` has no rows: :func:`une_jax.gcca.transform` gives them, block by block,
    of the fit's own and of new ones. Works under jit and vmap (``k`` static).

    A Gram matrix has the square of the condition of what it came from: directions of a
    view below about 1e-6 of its largest variance are rounding, and a ridge that is not
    above that lets them in. On well scaled columns (:func:`principal`) this is no matter.

    Raises:
        UneError: ``k`` is not within 1 and the views' columns together.

    >>> z = jax.random.normal(jax.random.key(0), (100, 3))
    >>> fitted = fit(of([z, 2 * z + 1]), 2, 1.0)
    >>> fitted.shared.shape, fitted.maps[0].shape
    ((0, 2), (3, 2))
    """
    widths, count = _widths(grams), len(grams.means)
    if not 1 <= k <= sum(widths):
        raise UneError(f"k is {k}; {sum(widths)} columns share 1 to {sum(widths)}")
    ridges, w = per_view(ridge, count, "ridge"), per_view(weights, count, "weights")
    blocks = _blocks(grams)
    whites = [_white(blocks[i][i], r) for i, r in enumerate(ridges)]

    # S in the basis of the whitened views, (p, p): its eigenvectors V give X as
    # [sqrt(w_i) Z_i W_i] V / sqrt(values).
    def between(i, j):
        return jnp.sqrt(w[i] * w[j]) * whites[i].T @ blocks[i][j] @ whites[j]

    s = jnp.block([[between(i, j) for j in range(count)] for i in range(count)])
    top = top_eigh((s + s.T) / 2, k)
    heads = _split(top.vectors / jnp.sqrt(top.values)[None], widths)
    each = zip(whites, heads, w, strict=True)
    columns = [jnp.sqrt(wi) * white @ head for white, head, wi in each]
    largest = jnp.concatenate(columns)
    largest = jnp.take_along_axis(
        largest, jnp.abs(largest).argmax(axis=0)[None], axis=0
    )
    columns = [c * jnp.sign(largest) for c in columns]
    # Z_i^T X, for every view; X is sum_j Z_j columns_j.
    cross = [sum(row[j] @ columns[j] for j in range(count)) for row in blocks]
    maps = tuple(white @ (white.T @ c) for white, c in zip(whites, cross, strict=True))
    said = [
        2 * jnp.sum(c * a, axis=0) - jnp.sum(a * (blocks[i][i] @ a), axis=0)
        for i, (c, a) in enumerate(zip(cross, maps, strict=True))
    ]
    explained = [
        jnp.sum(c**2) / jnp.maximum(jnp.trace(blocks[i][i]), 1e-30)
        for i, c in enumerate(cross)
    ]
    return Gcca(
        shared=jnp.zeros((0, k), jnp.float32),
        maps=maps,
        eigenvalues=w.sum() - top.values,
        agreement=top.values / w.sum(),
        residual=top.residual,
        means=grams.means,
        offsets=jnp.zeros((count, k), jnp.float32),
        weights=w,
        r2=jnp.stack(said),
        explained=jnp.stack(explained),
    )


def _white(gram: Array, ridge: Array) -> Array:
    """W with W^T (gram + ridge I) W = I."""
    size = jnp.diag(gram) + ridge
    scale = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1.0)), 0.0)
    scaled = (gram + ridge * jnp.eye(len(gram))) * scale[:, None] * scale[None]
    # The least that float32 must see in every direction; the ridge may give it already.
    floor = jnp.where(scale > 0, ridge * scale**2, jnp.inf).min()
    shift = jnp.maximum(2 * EPS * jnp.linalg.norm(scaled) - floor, 0.0)
    # Columns of no variance have a place of their own.
    scaled = scaled + jnp.diag(jnp.where(scale > 0, 0.0, 1.0))
    lower = jnp.linalg.cholesky(scaled + shift * jnp.eye(len(gram)))
    white = solve_triangular(lower, jnp.diag(scale), lower=True).T
    # Columns of no variance, whose scale is 0, stay out.
    return jnp.where((scale > 0)[None], white, 0.0)


def _widths(grams: Grams) -> list[int]:
    return [len(mean) for mean in grams.means]


def _split(x: Array, widths: Sequence[int]) -> tuple[Array, ...]:
    ends = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
    return tuple(jnp.split(x, ends))


def _blocks(grams: Grams) -> list[list[Array]]:
    widths = _widths(grams)
    ends = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
    return [jnp.split(row, ends, axis=1) for row in jnp.split(grams.gram, ends)]
