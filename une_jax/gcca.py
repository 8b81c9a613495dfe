"""MAXVAR generalised CCA with ridge, in closed form: what all views share.

The paper's Eq. 5 and 6 (and Carroll 1968, Kettenring 1971):

    min over X, {A_i}:  sum_i w_i (|X - Z_i A_i|^2 + r_i |A_i|^2),  X^T X = I, 1^T X = 0

with Z_i the centred views. X are the eigenvectors of M = sum_i w_i (I - P_i) for its k
smallest eigenvalues, P_i = Z_i (Z_i^T Z_i + r_i I)^-1 Z_i^T. M is n x n and is not built
where the views together have fewer columns than there are rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Float32

from une_jax.errors import UneError
from une_jax.projectors import Dual, Primal, ridge_projectors
from une_jax.projectors import centred as centred_rows
from une_jax.spectral import top_eigh

Views = Sequence[Float[Array, "n _"]]
PerView = float | Float[Array, ""] | Float[Array | np.ndarray, " v"] | Sequence[float]


class Gcca(NamedTuple):
    """A shared space of v views: ``shared`` is near ``(x_i - means[i]) @ maps[i]``."""

    shared: Float32[Array, "n k"]  # X, orthonormal; NaN where a row has no view
    maps: tuple[Float32[Array, "_ k"], ...]  # A_i, (d_i, k)
    eigenvalues: Float32[Array, " k"]  # of M, ascending; their sum is the loss
    agreement: Float32[Array, " k"]  # length of the views' mean code, beside X's 1
    residual: Float32[Array, " k"]  # |(S - s) x| / s_1 of S = sum(w) I - M
    means: tuple[Float32[Array, " _"], ...]  # of the views, over their rows
    offsets: Float32[
        Array, "v k"
    ]  # mean of X over each view's rows; 0 if all are there
    weights: Float32[Array, " v"]
    r2: Float32[Array, "v k"]  # of X from each view's map, on these rows
    explained: Float32[Array, " v"]  # part of each view's variance that X explains


@jax.default_matmul_precision("float32")
def fit(
    views: Views,
    k: int,
    ridge: PerView,
    *,
    weights: PerView = 1.0,
    mask: Bool[Array, "n v"] | None = None,
) -> Gcca:
    """The k directions that the views agree on most; float32 inside.

    Works under jit and vmap (``k`` static). A view of more columns than rows goes
    through its n x n Gram matrix; its ridge must be positive, as its projector is
    else the identity and says nothing, and is good to float32's 1e-7 times the largest
    eigenvalue of that matrix over the ridge. Columns without variance are left out.

    Where views are missing, M and the constraints are summed over what is there
    (Carroll's K_i; van de Velden and Bijmolt 2006): with W = diag(sum of the weights of
    the views that a row has), ``X^T W X = sum(w) I`` and ``1^T W X = 0``, and each map
    has an intercept of its own, ``offsets``, so that it may not matter which rows a
    view misses. Rows of equal weight give back the problem above.

    Args:
        views: (n, d_i) each, row r of all of them of one image.
        k: dimensions; at most n - 1 and the views' columns together.
        ridge: r_i of the paper, one for all or one a view. In units of the sum of
            squares of a column (not of its mean).
        weights: w_i, not negative.
        mask: which views a row has; what stands in the others (NaN too) is not looked
            at. Default: all.

    Raises:
        UneError: no view; views that differ in rows; a wrong ``k``; a ridge that is
            negative, or 0 for a view of as many columns as rows.

    >>> z = jax.random.normal(jax.random.key(0), (100, 3))
    >>> fitted = fit([z, 2 * z[:, ::-1] + 1], 3, 0.0)
    >>> fitted.shared.shape, [a.shape for a in fitted.maps]
    ((100, 3), [(3, 3), (3, 3)])
    >>> bool(jnp.all(jnp.abs(fitted.eigenvalues) < 1e-5))
    True
    """
    n, count = check(views, k, ridge, mask)
    ridges, w = per_view(ridge, count, "ridge"), per_view(weights, count, "weights")
    there = jnp.ones((n, count), jnp.float32) if mask is None else _floats(mask)
    centred, means = zip(
        *(centred_rows(x, there[:, i]) for i, x in enumerate(views)), strict=True
    )
    projectors = ridge_projectors(centred, ridges, there)

    # W^-1/2, and the unit vector along W^1/2 1, which every view's intercept explains.
    seen = there @ w
    row = jnp.where(seen > 0, jax.lax.rsqrt(jnp.where(seen > 0, seen, 1.0)), 0.0)
    unit = jnp.sqrt(seen / seen.sum())[:, None]
    parts = _Parts(projectors, None if mask is None else there, w, row[:, None], unit)
    y = _shared(parts, k)
    image = _image(parts, y)
    agreement = jnp.sum(y * image, axis=0)
    residual = jnp.linalg.norm(image - y * agreement[None], axis=0) / agreement[0]

    x = y * row[:, None] * jnp.sqrt(w.sum())
    maps = tuple(p.solve(x) for p in projectors)
    offsets = (there.T @ x) / there.sum(axis=0)[:, None]
    r2, explained = _explained(x, centred, maps, there)
    return Gcca(
        shared=jnp.where((seen > 0)[:, None], x, jnp.nan),
        maps=maps,
        eigenvalues=w.sum() * (1 - agreement),
        agreement=agreement,
        residual=residual,
        means=means,
        offsets=jnp.zeros_like(offsets) if mask is None else offsets,
        weights=w,
        r2=r2,
        explained=explained,
    )


@jax.default_matmul_precision("float32")
def hybrid(
    fitted: Gcca,
    views: Views,
    ridge: PerView = 0.0,
    *,
    mask: Bool[Array, "n v"] | None = None,
) -> Gcca:
    """The paper's second step: the same X, its maps fitted anew with another ridge.

    With the default of none each map is least squares, and explains more of X on these
    rows (which is no promise for others). ``views`` and ``mask`` are those of the fit,
    the eigenvalues and their residuals stay the first step's.

    >>> z = jax.random.normal(jax.random.key(0), (100, 3))
    >>> fitted = fit([z, 2 * z], 2, 50.0)
    >>> bool(jnp.all(hybrid(fitted, [z, 2 * z]).r2 > fitted.r2))
    True
    """
    n, count = check(views, fitted.shared.shape[1], ridge, mask)
    ridges = per_view(ridge, count, "ridge")
    there = jnp.ones((n, count), jnp.float32) if mask is None else _floats(mask)
    w, seen = fitted.weights, there @ fitted.weights
    x = jnp.where((seen > 0)[:, None], fitted.shared, 0.0)
    centred = [centred_rows(view, there[:, i])[0] for i, view in enumerate(views)]
    maps = tuple(p.solve(x) for p in ridge_projectors(centred, ridges, there))
    said = [z @ a for z, a in zip(centred, maps, strict=True)]
    offsets = there[:, :, None] * fitted.offsets[None]
    total = jnp.einsum("v,vnk->nk", w, jnp.stack(said)) + jnp.einsum(
        "v,nvk->nk", w, offsets
    )
    row = jnp.where(seen > 0, jax.lax.rsqrt(jnp.where(seen > 0, seen, 1.0)), 0.0)
    length = jnp.linalg.norm(total * row[:, None], axis=0) / jnp.sqrt(w.sum())
    r2, explained = _explained(x, centred, maps, there)
    return fitted._replace(maps=maps, agreement=length, r2=r2, explained=explained)


@jax.default_matmul_precision("float32")
def transform(
    fitted: Gcca, views: Views, *, mask: Bool[Array, "n v"] | None = None
) -> Float32[Array, "n k"]:
    """Codes of rows, the same whether or not the fit has seen them.

    The weighted mean of what the row's views say, made as long as X by each dimension's
    ``agreement``. By the eigenvector equation that is ``fitted.shared`` itself on the
    rows of a :func:`fit` (not quite of a :func:`hybrid`), so new rows are in its units:
    a standard deviation of about 1 / sqrt(n of the fit). A row with fewer views has a
    noisier code. NaN where it has none.

    >>> z = jax.random.normal(jax.random.key(0), (100, 3))
    >>> fitted = fit([z, 2 * z], 2, 1.0)
    >>> codes = transform(fitted, [z[:5], 2 * z[:5]])
    >>> bool(jnp.allclose(codes, fitted.shared[:5], atol=1e-5))
    True
    """
    n, count = len(views[0]), len(views)
    there = jnp.ones((n, count), jnp.float32) if mask is None else _floats(mask)
    said = projections(fitted, views)
    w = fitted.weights
    parts = [
        jnp.where(there[:, i, None] > 0, w[i] * code, 0.0)
        for i, code in enumerate(said)
    ]
    seen = (there @ w)[:, None]
    return sum(parts) / (seen * fitted.agreement[None])


@jax.default_matmul_precision("float32")
def projections(fitted: Gcca, views: Views) -> tuple[Float32[Array, "n k"], ...]:
    """What each view alone says of the shared code: ``(x_i - mean_i) A_i + offset_i``.

    >>> z = jax.random.normal(jax.random.key(0), (100, 3))
    >>> [p.shape for p in projections(fit([z, 2 * z], 2, 1.0), [z, z])]
    [(100, 2), (100, 2)]
    """
    if len(views) != len(fitted.maps):
        raise UneError(
            f"the space has {len(fitted.maps)} views; {len(views)} are given"
        )
    each = zip(views, fitted.means, fitted.maps, fitted.offsets, strict=True)
    return tuple((_floats(x) - m[None]) @ a + b[None] for x, m, a, b in each)


@jax.default_matmul_precision("float32")
def correlations(
    said: Sequence[Float[Array, "n k"]],
) -> Float32[Array, " k"]:
    """How much views agree on rows, by dimension: the mean correlation of their pairs.

    Of :func:`projections` of held-out rows this is what GCCA libraries call the score.

    >>> x = jax.random.normal(jax.random.key(0), (50, 2))
    >>> correlations([x, 3 * x, x + 1]).round(3).tolist()
    [1.0, 1.0]
    """
    if len(said) < 2:
        raise UneError("correlations need two views or more")
    x = jnp.stack([code.astype(jnp.float32) for code in said])
    x = x - x.mean(axis=1, keepdims=True)
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    # The square of the sum is the v squares, 1 each, and every pair twice.
    pairs = len(said) * (len(said) - 1)
    return (jnp.sum(x.sum(axis=0) ** 2, axis=0) - len(said)) / pairs


def per_view(values: PerView, count: int, name: str) -> Float32[Array, " v"]:
    """One value for all views, or one a view, as an array of one a view.

    >>> per_view(2.0, 3, "ridge").tolist()
    [2.0, 2.0, 2.0]
    """
    given = jnp.asarray(values, jnp.float32)
    if given.ndim and given.shape != (count,):
        raise UneError(f"{name} has {given.size} values for {count} views")
    return jnp.broadcast_to(given, (count,))


class _Parts(NamedTuple):
    """Of S = sum_i w_i W^-1/2 (P_i + intercept_i) W^-1/2 without its part along unit."""

    projectors: list[Primal | Dual]
    there: Array | None  # (n, v); None where all views are, and no intercept is needed
    w: Array
    row: Array  # (n, 1)
    unit: Array  # (n, 1)


def _shared(parts: _Parts, k: int) -> Array:
    """Orthonormal (n, k): the largest eigenvectors of S."""
    projectors, n = parts.projectors, len(parts.row)
    tall = [p for p in projectors if isinstance(p, Primal)]
    narrow = len(tall) == len(projectors)
    columns = [
        jnp.sqrt(w) * p.white.q
        for p, w in zip(projectors, parts.w, strict=True)
        if isinstance(p, Primal)
    ]
    if parts.there is not None:
        columns.append(_intercepts(parts.there) * jnp.sqrt(parts.w)[None])
    b = None
    if columns:
        b = _without(parts.row * jnp.concatenate(columns, axis=1), parts.unit)
    if narrow and b is not None and b.shape[1] <= n:
        y = b @ top_eigh(b.T @ b, k).vectors
    else:
        s = jnp.zeros((n, n)) if b is None else b @ b.T
        for p, w in zip(projectors, parts.w, strict=True):
            if isinstance(p, Dual):
                s = s + w * parts.row * p.dense() * parts.row.T
        s = _without(_without(s, parts.unit).T, parts.unit)
        y = top_eigh((s + s.T) / 2, k).vectors
    # QR takes out rounding, the largest first. Signs are anybody's choice: the largest
    # entry of each is positive.
    q, _ = jnp.linalg.qr(_without(y, parts.unit))
    largest = jnp.take_along_axis(q, jnp.abs(q).argmax(axis=0)[None], axis=0)
    return q * jnp.sign(largest)


def _image(parts: _Parts, y: Array) -> Array:
    """``S @ y``, from the projectors themselves."""
    scaled = parts.row * y
    image = jnp.zeros_like(y)
    for p, w in zip(parts.projectors, parts.w, strict=True):
        image = image + w * p.times(scaled)
    if parts.there is not None:
        ones = _intercepts(parts.there)
        image = image + ones @ (parts.w[:, None] * (ones.T @ scaled))
    return _without(parts.row * image, parts.unit)


def _intercepts(there: Array) -> Array:
    return there / jnp.linalg.norm(there, axis=0)[None]


def _without(x: Array, unit: Array) -> Array:
    return x - unit @ (unit.T @ x)


def _explained(
    x: Array, centred: Sequence[Array], maps: Sequence[Array], there: Array
) -> tuple[Array, Array]:
    """R^2 of X from each view's map (v, k); the part of each view X explains (v,)."""

    def one(z, a, there):
        xc = (x - (there @ x / there.sum())[None]) * there[:, None]
        left = jnp.sum((xc - z @ a) ** 2, axis=0) / jnp.sum(xc**2, axis=0)
        cross = xc.T @ z
        within = jnp.sum(cross * cho_solve(cho_factor(xc.T @ xc, lower=True), cross))
        return 1 - left, within / jnp.maximum(jnp.sum(z**2), 1e-30)

    each = zip(centred, maps, there.T, strict=True)
    r2, explained = zip(*(one(z, a, t) for z, a, t in each), strict=True)
    return jnp.stack(r2), jnp.stack(explained)


def _floats(x: Array) -> Array:
    return x.astype(jnp.float32)


def check(views: Views, k: int, ridge: PerView, mask: Array | None) -> tuple[int, int]:
    """(rows, views) of what :func:`fit` is given, or its UneError."""
    if not views:
        raise UneError("a shared space needs at least one view")
    rows = {len(x) for x in views}
    if len(rows) > 1:
        raise UneError(f"views differ in rows: {', '.join(map(str, sorted(rows)))}")
    n, widths = rows.pop(), [x.shape[1] for x in views]
    if mask is not None and mask.shape != (n, len(views)):
        raise UneError(
            f"mask is {mask.shape}; {n} rows of {len(views)} views are given"
        )
    most = min(n - 1, sum(widths))
    if not 1 <= k <= most:
        raise UneError(f"k is {k}; {n} rows of {sum(widths)} columns share 1 to {most}")
    if isinstance(ridge, int | float):
        if ridge < 0:
            raise UneError(f"ridge is {ridge}; use 0 or more")
        if ridge == 0 and max(widths) >= n:
            raise UneError(
                f"ridge is 0 and a view has {max(widths)} columns for {n} rows, which "
                "explain anything: use a positive ridge, or fewer columns (PCA)"
            )
    return n, len(views)
