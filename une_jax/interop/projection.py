"""The two directions in which a view varies most, over rows that stream by."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SEED = 42


class Axes(NamedTuple):
    """Principal axes.

    Attributes:
        mean: of the rows.
        axes: unit vectors, the most variable first; of either sign, the one whose
            largest loading is positive.
        ratio: their shares of the variance.
    """

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "k d"]
    ratio: Float[np.ndarray, " k"]

    def project(self, x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """The rows' coordinates along the axes."""
        return (x - self.mean) @ self.axes.T


def principal_axes(
    parts: Callable[[], Iterable[Float[np.ndarray, "m d"]]],
    width: int,
    *,
    k: int = 2,
    block: int = 8,
    passes: int = 10,
    tolerance: float = 1e-3,
) -> Axes:
    """PCA by a block Krylov method (Musco and Musco 2015, arXiv 1504.05477, alg. 2).

    Neither the rows nor their (d, d) covariance, 2 GB for Stable Diffusion, are ever in
    memory: a pass over the rows multiplies the covariance by `block` vectors. It
    ends when the axes are eigenvectors up to `tolerance` of the largest eigenvalue, or
    after `passes`; what is then still undecided varies about as much as what was found.

    Args:
        parts: gives all rows, part by part, as often as it is called.
        width: d.
        k: how many axes, at most `block`. Where d < k, the rest are zero.
        block: how many vectors a pass.
        passes: over the rows, at most; one more finds the mean.
        tolerance: of ||C a - lambda a|| relative to the largest eigenvalue.

    >>> x = np.random.default_rng(0).normal(size=(500, 3)) * [1, 9, 3]
    >>> axes = principal_axes(lambda: [x[:200], x[200:]], 3)
    >>> abs(axes.axes).round(1).tolist(), axes.project(x[:4]).shape
    ([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], (4, 2))
    """
    n, total = 0, np.zeros(width)
    for x in parts():
        n, total = n + len(x), total + x.sum(0, dtype=np.float64)
    mean = total / max(n, 1)
    start = np.random.default_rng(SEED).normal(size=(width, min(block, width)))
    fresh = np.linalg.qr(start)[0]
    basis = image = np.zeros((width, 0))
    vectors, values, variance = np.zeros((width, 0)), np.zeros(0), 0.0
    for _ in range(passes):
        product, variance = np.zeros(fresh.shape), 0.0
        small = fresh.astype(np.float32)
        for x in parts():
            centred = x.astype(np.float32) - mean.astype(np.float32)
            product += centred.T @ (centred @ small)
            variance += float(np.einsum("md,md->", centred, centred, dtype=np.float64))
        basis, image = np.hstack([basis, fresh]), np.hstack([image, product])
        gram = basis.T @ image
        eigenvalues, inner = np.linalg.eigh((gram + gram.T) / 2)
        values, inner = eigenvalues[::-1][:k], inner[:, ::-1][:, :k]
        vectors = basis @ inner
        error = np.linalg.norm(image @ inner - vectors * values, axis=0)
        if (error <= tolerance * max(values[0], 0)).all():
            break
        fresh = _new_directions(product, basis)
        if not fresh.shape[1]:
            break
    axes = np.zeros((k, width))
    axes[: len(values)] = vectors.T
    largest = np.abs(axes).argmax(1)
    axes *= np.where(np.take_along_axis(axes, largest[:, None], 1) < 0, -1, 1)
    ratio = np.zeros(k)
    ratio[: len(values)] = values / (variance or 1.0)
    return Axes(mean=mean, axes=axes, ratio=ratio)


def _new_directions(
    product: Float[np.ndarray, "d b"], basis: Float[np.ndarray, "d m"]
) -> Float[np.ndarray, "d c"]:
    """An orthonormal basis of what the product has beside `basis`."""
    rest = product - basis @ (basis.T @ product)
    u, s, _ = np.linalg.svd(rest, full_matrices=False)
    u = u[:, s > 1e-6 * np.linalg.norm(product)]
    return u[:, : product.shape[0] - basis.shape[1]]
