"""Royston's approximations for Shapiro and Wilk's test (1995, AS R94): the coefficients
of the ordered values, and the distribution of W."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from scipy.special import ndtri


def weights(n: int) -> Float[np.ndarray, " n"]:
    """What the ordered values are multiplied by: of unit length, antisymmetric.

    >>> weights(3).round(4).tolist()
    [-0.7071, 0.0, 0.7071]
    """
    if n == 3:
        return np.array([-math.sqrt(0.5), 0.0, math.sqrt(0.5)])
    scores = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    square, root = float(np.sum(scores**2)), 1 / math.sqrt(n)
    # The one or two largest are polynomials in 1 / sqrt(n).
    last = [
        _polynomial((0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056), root)
    ]
    if n > 5:
        last.append(
            _polynomial(
                (0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633), root
            )
        )
    ends = [scores[-1 - i] / math.sqrt(square) + v for i, v in enumerate(last)]
    rest = square - 2 * sum(scores[-1 - i] ** 2 for i in range(len(ends)))
    a = scores / math.sqrt(rest / (1 - 2 * sum(v**2 for v in ends)))
    for i, v in enumerate(ends):
        a[i], a[-1 - i] = -v, v
    return a


def pvalue(off: Float32[Array, " p"], n: int) -> Float32[Array, " p"]:
    """Of ``off`` = 1 - W, for n values.

    >>> bool(pvalue(jnp.array([0.05]), 20)[0] > 0.05)
    True
    """
    if n == 3:
        lost = jnp.arcsin(jnp.sqrt(off))  # exact: 6/pi (asin sqrt(W) - asin sqrt(3/4))
        return jnp.clip(1 - 6 / math.pi * lost, 0, 1)
    y, log_n = jnp.log(off), math.log(n)
    if n > 11:
        mean = _polynomial((-1.5861, -0.31082, -0.083751, 0.0038915), log_n)
        std = math.exp(_polynomial((-0.4803, -0.082676, 0.0030302), log_n))
        return 0.5 * jax.lax.erfc((y - mean) / (std * math.sqrt(2)))
    gamma = -2.273 + 0.459 * n
    mean = _polynomial((0.544, -0.39978, 0.025054, -6.714e-4), float(n))
    std = math.exp(_polynomial((1.3822, -0.77857, 0.062767, -0.0020322), float(n)))
    z = (-jnp.log(jnp.where(y < gamma, gamma - y, 1.0)) - mean) / std
    return jnp.where(y < gamma, 0.5 * jax.lax.erfc(z / math.sqrt(2)), y * 0)


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """From the constant term up."""
    return sum(c * x**i for i, c in enumerate(coefficients))
