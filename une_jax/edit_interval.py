"""From when to when a diffusion model is edited: t_edit and t_boost, off two curves.

Kwon et al. 2023, arXiv 2210.10960, Sec. 4.1 and 4.2. Both are read off a perceptual
distance (the paper's is LPIPS, of 100 images in 1,000 steps) between an image x and, at
each timestep, what the network predicts of it (P_t) or the noisy sample itself (x_t):
``asyrp_training.watch`` gives these. The thresholds are the paper's, and belong to its
distance; another one needs its own. On the host: what comes out is a setting.
"""

import numpy as np
from jaxtyping import Array, Float, Float32, Int

from une_jax.errors import UneError

STRENGTH = 0.33  # LPIPS(x, P_t) at t_edit, for texts of cosine 1
DEFICIENCY = 1.2  # LPIPS(x, x_t) at t_boost
# LPIPS(x, P_T) and LPIPS(x, x_T) at t = 999 in the tables that the paper's code has for
# CelebA-HQ; its other four data sets have 0.96 to 1.34, and 1.34 to 1.51.
DISTANCE_AT_T, DEFICIENCY_AT_T = 1.1445, 1.3883

Curve = Float[np.ndarray, " n"] | Float[Array, " n"]
Timesteps = Int[np.ndarray, " n"] | Int[Array, " n"]


def editing_strength(distance: Curve, t: Timesteps) -> Float32[np.ndarray, " n"]:
    """xi_t: what is left to edit from t on (Asyrp, Sec. 4.1).

    ``distance(x, P_T) - distance(x, P_t)``, T the largest timestep of the curve.

    Raises:
        UneError: the curve is empty or not finite.

    >>> editing_strength(np.array([0.5, 0.375, 0.0]), np.array([900, 500, 0])).tolist()
    [0.0, 0.125, 0.5]
    """
    curve, times = _checked(distance, t, "distance")
    return (curve[np.argmax(times)] - curve).astype(np.float32)


def t_edit(
    distance: Curve, t: Timesteps, cosine: float, *, threshold: float = STRENGTH
) -> int:
    """The timestep down to which h is moved: the last at which P_t is far from x.

    The smallest t with ``distance(x, P_t) >= threshold * cosine`` (Asyrp, Sec. 4.1:
    0.33 - delta with delta = 0.33 (1 - cosine)). Texts that differ more edit for longer.

    Args:
        distance: LPIPS(x, P_t), averaged over images, at each of ``t`` in any order.
        cosine: of the two texts, ``directional.text_cosine``.

    Raises:
        UneError: no t is so far, the curve is empty or not finite, or the cosine is not
            in (0, 1].

    >>> distance, t = np.array([0.1, 0.3, 0.5]), np.array([100, 500, 900])
    >>> t_edit(distance, t, 1.0), t_edit(distance, t, 0.8)
    (900, 500)
    """
    if not 0 < cosine <= 1:
        raise UneError(
            f"the texts have a cosine of {cosine:.3g}; t_edit is defined over 0 to 1"
        )
    return _smallest(distance, t, threshold * cosine, "distance(x, P_t)", "t_edit")


def t_boost(deficiency: Curve, t: Timesteps, *, threshold: float = DEFICIENCY) -> int:
    """The timestep below which noise is added: the last at which x_t is still noisy.

    The smallest t with ``deficiency >= threshold`` (Asyrp, Sec. 4.2). The authors'
    program has 0.1 as its default, which is not the paper's 1.2.

    Args:
        deficiency: gamma_t = LPIPS(x, x_t), averaged over images, at each of ``t``.

    Raises:
        UneError: no t is so far, or the curve is empty or not finite.

    >>> t_boost(np.array([1.3, 1.25, 0.4]), np.array([900, 200, 50]))
    200
    """
    return _smallest(deficiency, t, threshold, "distance(x, x_t)", "t_boost")


def relative(curve: Curve, t: Timesteps, threshold: float, at_T: float) -> float:
    """A threshold of the paper's for another distance than LPIPS.

    The same part of ``curve``'s own value at its largest t as ``threshold`` is of
    LPIPS's there, ``at_T``: of :data:`STRENGTH` 0.288, of :data:`DEFICIENCY` 0.864. A
    rule for want of a better one: distances differ in more than their scale.

    Raises:
        UneError: the curve is empty or not finite.

    >>> curve, t = np.array([0.5, 0.1]), np.array([900, 100])
    >>> round(relative(curve, t, STRENGTH, DISTANCE_AT_T), 4)
    0.1442
    """
    values, times = _checked(curve, t, "distance")
    return float(values[np.argmax(times)]) * threshold / at_T


def _smallest(curve: Curve, t: Timesteps, least: float, what: str, name: str) -> int:
    values, times = _checked(curve, t, what)
    if not (enough := values >= least).any():
        raise UneError(
            f"{what} is at most {values.max():.3g} and never reaches {least:.3g}: there "
            f"is no {name}; lower its threshold"
        )
    return int(times[enough].min())


def _checked(curve: Curve, t: Timesteps, what: str) -> tuple[np.ndarray, np.ndarray]:
    values, times = np.asarray(curve, np.float64), np.asarray(t)
    if not len(values):
        raise UneError(f"{what} has no timesteps")
    if not np.isfinite(values).all():
        raise UneError(f"{what} is not finite at t = {times[~np.isfinite(values)][0]}")
    return values, times
