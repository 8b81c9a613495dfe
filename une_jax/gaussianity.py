"""Tests of one-dimensional normality, for all columns of a matrix at once.

Each of them cancels in its textbook form: Anderson and Darling's A² is a sum of size n
minus n, Shapiro and Wilk's W is 1 minus something small, and a kurtosis is compared
with 3. Here they are written as sums of the small differences themselves, so that
float32 gives what scipy gives in float64 (1e-5 or better in statistic and p-value).
A column that is constant, or has a NaN or an infinity, gives NaN.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from scipy.special import entr

from une_jax import royston
from une_jax.errors import UneError
from une_jax.sorting import sort_columns

Table = Literal["scipy", "scipy<1.17"]
LEVELS = (0.15, 0.10, 0.05, 0.025, 0.01)  # of the tables
# Asymptotic critical values of A² where mean and variance are estimated.
_SCIPY = (0.561, 0.631, 0.752, 0.873, 1.035)  # D'Agostino and Stephens 1986, table 4.7
_SCIPY_OLD = (0.576, 0.656, 0.787, 0.918, 1.092)  # Stephens 1974


class Normality(NamedTuple):
    """Of one test, for every column. A small p-value speaks against normality."""

    statistic: Float32[Array, " p"]
    pvalue: Float32[Array, " p"]


class NormalityTests(NamedTuple):
    """All three, from one sort."""

    anderson_darling: Normality
    dagostino_pearson: Normality
    shapiro_wilk: Normality


def every_test(x: Float[Array, "n p"]) -> NormalityTests:
    """The three tests of the paper's Table 1; less work than one after the other.

    Raises:
        UneError: for fewer than 8 rows.

    >>> tests = every_test(jax.random.normal(jax.random.key(0), (250, 3)))
    >>> bool((tests.shapiro_wilk.pvalue > 0.05).all())
    True
    """
    _at_least(8, x)
    w = _standardised(x)
    y = sort_columns(w)
    return NormalityTests(
        _anderson_darling(y, "stephens"), _dagostino_pearson(w), _shapiro_wilk(y)
    )


def anderson_darling(
    x: Float[Array, "n p"], *, pvalue: Literal["stephens", "scipy"] = "stephens"
) -> Normality:
    """A² against a normal distribution of unknown mean and variance.

    The statistic is scipy's ``anderson(x, "norm")``. Here it is written as 2 sum_i
    KL(p_i || Phi(w_i)) + 2 sum_i H(p_i) - n, with w the standardised values in order,
    p_i = (i - 1/2) / n, KL and H of Bernoulli variables: all terms are small, and the
    rest is known beforehand. Works under jit (``pvalue`` static), vmap and grad.

    Args:
        x: samples, one column each.
        pvalue: "stephens" is the formula of D'Agostino and Stephens 1986, table 4.9
            (in statsmodels' ``normal_ad`` and R's ``nortest``), 0 for a modified A²
            above 13; "scipy" is what scipy >= 1.17 gives with
            ``method="interpolate"``: between the critical values of
            ``critical_value(n)``, never outside [0.01, 0.15].

    Raises:
        UneError: for fewer than 3 rows.

    >>> x = jax.random.normal(jax.random.key(1), (250, 2)).at[:, 1].apply(jnp.exp)
    >>> (anderson_darling(x).statistic < critical_value(250)).tolist()
    [True, False]
    """
    _at_least(3, x)
    return _anderson_darling(sort_columns(_standardised(x)), pvalue)


def critical_value(n: int, *, level: float = 0.05, table: Table = "scipy") -> float:
    """What A² of n normal values exceeds with probability ``level``, by a table.

    "scipy" is that of scipy >= 1.17, a / (1 + 0.75/n + 2.25/n²) with a = 0.752 at 5 %
    (D'Agostino and Stephens 1986, table 4.7); "scipy<1.17" the earlier a / (1 + 4/n -
    25/n²) with a = 0.787 (Stephens 1974), which accepts 0.7 % more of exactly normal
    samples of 250 than it should: 95.7 %. Both rounded to 3 digits, as scipy does.

    Raises:
        UneError: for a level that the tables have not, or fewer than 8 values.

    >>> critical_value(250), critical_value(250, table="scipy<1.17")
    (0.75, 0.775)
    """
    if level not in LEVELS:
        raise UneError(
            f"level is {level}; the tables have {', '.join(map(str, LEVELS))}"
        )
    if n < 8:
        raise UneError(f"no table has critical values for {n} values; use 8 or more")
    at = LEVELS.index(level)
    if table == "scipy":
        return round(_SCIPY[at] / (1 + 0.75 / n + 2.25 / n**2), 3)
    return round(_SCIPY_OLD[at] / (1 + 4 / n - 25 / n**2), 3)


def dagostino_pearson(x: Float[Array, "n p"]) -> Normality:
    """K², from skewness and kurtosis; chi-squared with two degrees of freedom.

    scipy's ``normaltest``: the sum of squares of D'Agostino's (1970) z of the skewness
    and Anscombe and Glynn's (1983) of the kurtosis. Works under jit, vmap and grad.

    Raises:
        UneError: for fewer than 8 rows; from 20 on the p-value is good.

    >>> x = jax.random.normal(jax.random.key(1), (250, 2)).at[:, 1].apply(jnp.exp)
    >>> (dagostino_pearson(x).pvalue > 0.05).tolist()
    [True, False]
    """
    _at_least(8, x)
    return _dagostino_pearson(_standardised(x))


def shapiro_wilk(x: Float[Array, "n p"]) -> Normality:
    """W, the squared correlation of the ordered values with normal scores.

    scipy's ``shapiro``: Royston's approximation (1995, AS R94). 1 - W is computed as
    the residual of the regression on the scores, of which the p-value is made. Works
    under jit, vmap and grad.

    Raises:
        UneError: for fewer than 3 rows. Above 5,000 the p-value is an extrapolation,
            here as in scipy.

    >>> x = jax.random.normal(jax.random.key(1), (250, 2)).at[:, 1].apply(jnp.exp)
    >>> (shapiro_wilk(x).pvalue > 0.05).tolist()
    [True, False]
    """
    _at_least(3, x)
    return _shapiro_wilk(sort_columns(_standardised(x)))


def _at_least(rows: int, x: Array) -> None:
    if len(x) < rows:
        raise UneError(f"{len(x)} rows; this test of normality needs {rows} or more")


def _standardised(x: Float[Array, "n p"]) -> Float32[Array, "n p"]:
    """Mean 0 and sum of squares n - 1; NaN for constant columns."""
    x = x.astype(jnp.float32)
    n = len(x)
    # From its first value on, a constant column is exactly 0, and 0 / 0 is NaN.
    x = x - x[:1]
    for _ in range(2):  # the second takes out the rounding of the first
        x = x - (_sum(x) / n)[None]
    # Squares of very small or large values would leave float32.
    x = x / jnp.abs(x).max(axis=0)[None]
    return x / jnp.sqrt(_sum(x**2) / (n - 1))[None]


def _sum(x: Float32[Array, "n p"]) -> Float32[Array, " p"]:
    """Over rows in blocks: rounding grows with their number, not with n."""
    n, p = x.shape
    if n <= 512:
        return x.sum(axis=0)
    x = jnp.concatenate([x, jnp.zeros((-n % 256, p), jnp.float32)])
    return x.reshape(-1, 256, p).sum(axis=1).sum(axis=0)


def _anderson_darling(y: Float32[Array, "n p"], pvalue: str) -> Normality:
    n = len(y)
    p = (np.arange(1, n + 1) - 0.5) / n
    constant = 2 * float(np.sum(entr(p) + entr(1 - p))) - n
    below = jnp.asarray(p, jnp.float32)[:, None]
    above = jnp.asarray(1 - p, jnp.float32)[:, None]
    # h is the probability of the nearer tail, which erfc gives to relative precision,
    # and p what it should be.
    h = 0.5 * jax.lax.erfc(jnp.abs(y) * math.sqrt(0.5))
    left = y < 0
    p, q = jnp.where(left, below, above), jnp.where(left, above, below)
    off = h - p
    near = jnp.where(
        h > 0.5 * p, jnp.log1p(off / p), _log_tail(h, jnp.abs(y)) - jnp.log(p)
    )
    far = jnp.log1p(-off / q)
    # The two linear terms cancel in KL; taken out of each, they leave no rounding.
    kl = (off - p * near) - (off + q * far)
    statistic = 2 * _sum(kl) + constant
    if pvalue == "scipy":
        table = jnp.array([critical_value(n, level=v) for v in LEVELS], jnp.float32)
        levels = jnp.array(LEVELS, jnp.float32)
        return Normality(statistic, jnp.interp(statistic, table, levels))
    return Normality(statistic, _stephens(statistic * (1 + 0.75 / n + 2.25 / n**2)))


def _log_tail(h: Array, y: Array) -> Array:
    """log h, also where the tail beyond y is too small for a float32."""
    s = jnp.maximum(y, 8.0)
    series = jnp.log1p(-(1 - 3 / s**2 * (1 - 5 / s**2)) / s**2)
    far = -0.5 * s**2 - jnp.log(s) - 0.5 * math.log(2 * math.pi) + series
    return jnp.where(y > 8, far, jnp.log(jnp.where(y > 8, 1.0, h)))


def _stephens(a: Float32[Array, " p"]) -> Float32[Array, " p"]:
    small = jnp.minimum(a, 13.0)
    return jnp.select(
        [jnp.isnan(a), a > 13, a >= 0.6, a > 0.34, a > 0.2],
        [
            a,
            jnp.zeros_like(a),
            jnp.exp(1.2937 - 5.709 * small + 0.0186 * small**2),
            jnp.exp(0.9177 - 4.279 * a - 1.38 * a**2),
            1 - jnp.exp(-8.318 + 42.796 * a - 59.938 * a**2),
        ],
        1 - jnp.exp(-13.436 + 101.14 * a - 223.73 * a**2),
    )


def _dagostino_pearson(w: Float32[Array, "n p"]) -> Normality:
    n = len(w)
    w = w * math.sqrt(n / (n - 1))
    square = w**2
    # What the moments are above those of a normal variable (0, 1, 0 and 3).
    first, second = _sum(w) / n, _sum(square - 1) / n
    third = _sum(w * square) / n - 3 * first
    fourth = _sum(square**2 - 3) / n - 4 * first * third
    skewness = third / (1 + second) ** 1.5
    mean = 3 * (n - 1) / (n + 1)
    over = fourth + 6 / (n + 1) - mean * second * (2 + second)
    k2 = _skewness_z(skewness, n) ** 2 + _kurtosis_z(over / (1 + second) ** 2, n) ** 2
    return Normality(k2, jnp.exp(-0.5 * k2))


def _skewness_z(skewness: Float32[Array, " p"], n: int) -> Float32[Array, " p"]:
    """D'Agostino 1970."""
    y = skewness * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    fourth = 3.0 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    fourth /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    w2 = math.sqrt(2 * (fourth - 1)) - 1
    return jnp.arcsinh(y / math.sqrt(2 / (w2 - 1))) / math.sqrt(0.5 * math.log(w2))


def _kurtosis_z(over: Float32[Array, " p"], n: int) -> Float32[Array, " p"]:
    """Anscombe and Glynn 1983, of the kurtosis less its expectation."""
    variance = 24.0 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    skew = 6.0 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    skew *= math.sqrt(6.0 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + math.sqrt(1 + 4 / skew**2))
    x = over * (math.sqrt(2 / (a - 4)) / math.sqrt(variance))
    # 1 - 2/(9a) - ((1 - 2/a) / (1 + x))^(1/3), its ones taken out.
    log = jnp.log1p(jnp.where(x < -1, -2 - x, x))  # of |1 + x|
    power = jnp.expm1((math.log1p(-2 / a) - log) / 3)
    root = jnp.where(x < -1, -2 - power, power)
    return (-2 / (9 * a) - root) / math.sqrt(2 / (9 * a))


def _shapiro_wilk(y: Float32[Array, "n p"]) -> Normality:
    n = len(y)
    y = y / math.sqrt(n - 1)
    a = jnp.asarray(royston.weights(n), jnp.float32)[:, None]
    left = y - a * _sum(a * y)[None]
    off = _sum(left**2)  # 1 - W
    return Normality(1 - off, royston.pvalue(off, n))
