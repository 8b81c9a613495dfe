"""How well one view of a NoiseZoo predicts another, or anything else, linearly."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from une_jax.report.probing import flat
from une_jax.zoo import Zoo

# Ridge penalties, in units of the mean eigenvalue of the rows' Gram matrix.
ALPHAS = tuple(10.0**k for k in range(-4, 4))
MAX_TRAIN = 2000  # rows: the Gram matrix is decomposed


def predictor(
    x: Float[np.ndarray, "n d"], x_new: Float[np.ndarray, "m d"]
) -> Callable[[Float[np.ndarray, "n e"]], Float[np.ndarray, "m e"]]:
    """Ridge regression from x: targets y of its rows -> what it says of new rows.

    The penalty is the one in ``ALPHAS`` with the least squared leave-one-out error,
    which has a closed form (Allen 1974, PRESS). Columns are centred. Float64 inside;
    the n x n Gram matrix is decomposed once, and no (d, e) matrix made.

    >>> x = np.arange(12.0).reshape(6, 2) ** 2
    >>> difference = x[:, :1] - x[:, 1:]
    >>> np.allclose(predictor(x, x)(difference), difference, atol=0.5)
    True
    """
    mean = x.mean(0, dtype=np.float64)
    a = x - mean
    values, vectors = np.linalg.eigh(a @ a.T)
    values = np.maximum(values, 0)
    scale = max(values.mean(), np.finfo(float).tiny)
    cross = (x_new - mean) @ a.T @ vectors

    def predict(y: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "m e"]:
        y_mean = y.mean(0, dtype=np.float64)
        inside = vectors.T @ (y - y_mean)

        def loo(alpha: float) -> float:
            shrink = values / (values + alpha)
            left = y - y_mean - vectors @ (shrink[:, None] * inside)
            leverage = (vectors**2) @ shrink + 1 / len(x)
            return float(np.square(left / (1 - leverage)[:, None]).sum())

        alpha = min((scale * c for c in ALPHAS), key=loo)
        return cross @ (inside / (values + alpha)[:, None]) + y_mean

    return predict


def r2(
    guess: Float[np.ndarray, "m e"], y: Float[np.ndarray, "m e"]
) -> Float[np.ndarray, " e"]:
    """1 - squared error / variance, by column; NaN where a column does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - np.square(y - guess).sum(0) / np.square(y - y.mean(0)).sum(0)


def table(zoo: Zoo, views: list[str]) -> Float[np.ndarray, "v v"]:
    """Test R² of the linear map from each view (row) to each other; NaN for itself.

    The mean over the target's dimensions. At most ``MAX_TRAIN`` training rows.
    """
    train, test = zoo.split("train")[:MAX_TRAIN], zoo.split("test")
    known = {v: (flat(zoo[v][train]), flat(zoo[v][test])) for v in views}
    found = np.full((len(views), len(views)), np.nan)
    for i, source in enumerate(views):
        predict = predictor(*known[source])
        for j, target in enumerate(views):
            if i != j:
                y, y_test = known[target]
                found[i, j] = np.nanmean(r2(predict(y), y_test))
    return found
