"""How far a code is from standard normal, and the same code made white.

With an optimal denoiser, a step's noise holds the draw it was made with and what the
denoiser could not know. Let v = Var(e | x_t) be the second, for e the true noise of x_t.
Writing P for the predicted x0, m = sqrt((1 - a) / a), r = sqrt(a_to) and k, sigma for
what a step keeps of eps and adds, substitution gives for each step's variance

- DPM-Encoder: 1 + ((k - r m) / sigma)^2 v, 1 only for many steps or a large eta;
- edit-friendly: (1 - a_to + r^2 m^2 v + k^2 (1 - v)) / sigma^2, larger still;
- the last step of both, which leads to x0 itself:
  ((1 - r)^2 E[x0^2] + r^2 m^2 v + k^2 (1 - v) + 2 (1 - r) (r m - k) m v) / sigma^2.

The encoders are those of arXiv 2210.05559 and 2304.06140, which say nothing of this; the
tests draw codes of Gaussian data, whose optimal denoiser is known, and compare.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.codes import ETA, Code, Kind, scale, table
from une_jax.errors import UneError
from une_jax.schedule import Schedule


def unknown(
    schedule: Schedule, power: float | Float[Array, ""] = 1.0
) -> Float32[Array, " n"]:
    """v of each sampling step for white data: Var(e | x_t) if x0 ~ N(0, power I).

    Latents of a trained VAE times its scaling factor have a power of about 1, but are not
    white: a good denoiser knows more. Measure v as the mean square of e - eps(x_t), and
    use it in place of this.

    Raises:
        UneError: the schedule's sampling is undefined.

    >>> unknown(Schedule.from_config({}, steps=10)).shape
    (10,)
    """
    a = schedule.sampling.alpha_from
    return a * power / (a * power + 1 - a)


def variance(
    schedule: Schedule,
    unknown: Float[Array, " n"],
    *,
    eta: float | None = None,
    kind: Kind = "dpm-encoder",
    power: float | Float[Array, ""] = 1.0,
) -> Float32[Array, " n"]:
    """The variance of each step's ``Code.eps``, by the formulas above.

    Args:
        unknown: v of each step, from :func:`unknown` or measured.
        eta: of the sampler; None: the code's own (``codes.ETA``).
        power: E[x0^2], which counts in the last step and at alpha 0.

    Raises:
        UneError: for another ``kind``, an ``eta`` not in (0, 1], or a schedule whose
            sampling is undefined.

    >>> schedule = Schedule.from_config({}, steps=10)
    >>> v = unknown(schedule)
    >>> dpm = variance(schedule, v)
    >>> friendly = variance(schedule, v, eta=0.1, kind="edit-friendly")
    >>> bool((dpm[:-1] >= 1).all()), bool((friendly[:-1] > dpm[:-1]).all())
    (True, True)
    """
    if kind not in ("dpm-encoder", "edit-friendly"):
        raise UneError(f"kind is {kind!r}; use dpm-encoder or edit-friendly")
    rows = table(schedule, ETA[kind] if eta is None else eta)
    a, a_to, k = rows.rows.alpha_from, rows.rows.alpha_to, rows.kept
    # At alpha 0 the sample says nothing of x0: v is 0, and m^2 v is all of x0.
    some = jnp.where(a > 0, a, 1.0)
    m, r = jnp.where(a > 0, jnp.sqrt((1 - a) / some), 0.0), jnp.sqrt(a_to)
    lost = jnp.where(a > 0, m**2 * unknown, power)
    beside = r**2 * lost + k**2 * (1 - unknown)
    if kind == "dpm-encoder":
        own = k**2 * unknown - 2 * k * r * m * unknown + r**2 * lost
        drawn = rows.sigma**2 + own
    else:
        drawn = 1 - a_to + beside
    cross = 2 * (1 - r) * (r * lost - k * m * unknown)
    final = (1 - r) ** 2 * power + beside + cross
    last = jnp.arange(len(a)) == len(a) - 1
    return jnp.where(last, final, drawn) / scale(rows.sigma) ** 2


def whiten(code: Code, variance: Float[Array, " n"]) -> Code:
    """Each step's noise over its standard deviation: of variance 1 where the formula
    holds, as probes, maps and Gaussianity tests of codes want it.

    Args:
        variance: of each step of the schedule, from :func:`variance` or measured. A code
            of m noises (``codes.trim``) takes the last m.

    >>> code = Code(jnp.ones((1, 2, 2, 4)), jnp.full((1, 10, 2, 2, 4), 3.0))
    >>> whiten(code, jnp.full(10, 9.0)).eps.max().item()
    1.0
    """
    return code._replace(eps=code.eps / _deviation(code, variance))


def unwhiten(code: Code, variance: Float[Array, " n"]) -> Code:
    """Undoes :func:`whiten`: what decoding takes.

    >>> code = Code(jnp.ones((1, 2, 2, 4)), jnp.ones((1, 10, 2, 2, 4)))
    >>> unwhiten(code, jnp.full(10, 9.0)).eps.max().item()
    3.0
    """
    return code._replace(eps=code.eps * _deviation(code, variance))


def _deviation(code: Code, variance: Array) -> Array:
    m = code.eps.shape[1]
    return jnp.sqrt(variance[len(variance) - m :])[None, :, None, None, None]
