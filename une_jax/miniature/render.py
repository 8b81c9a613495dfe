"""Paint a miniature face: scores and nuisance in, a small cartoon portrait out.

A face is a stack of soft-edged shapes in face coordinates: x right, y down, the head
about one unit high around the origin. Everything is arithmetic on arrays, so painting
runs under jit and vmap and is differentiable in the scores.
"""

import functools as ft
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from une_jax.miniature.factors import NAMES, NUISANCES, THRESHOLDS

SIZE = 64
Number = Array | float
_EDGE = 0.02  # half the width of an anti-aliased edge, in face units


def faces(
    scores: Float[Array, "n a"], nuisance: Float[Array, "n m"], *, size: int = SIZE
) -> Float[Array, "n size size 3"]:
    """Paint n faces (factors.Truth's ``scores`` and ``nuisance``), values in [0, 1].

    >>> from une_jax.miniature import factors
    >>> truth = factors.draw(jax.random.key(0), 2)
    >>> faces(truth.scores, truth.nuisance).shape
    (2, 64, 64, 3)
    """
    # Colours meet planes and integers meet floats here: numpy's rules, even if strict.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return _faces(scores, nuisance, size)


@ft.partial(jax.jit, static_argnums=2)
def _faces(scores: Array, nuisance: Array, size: int) -> Array:
    # lax.map: painting keeps some forty planes per face alive.
    return jax.lax.map(
        lambda face: _face(face[0], face[1], size), (scores, nuisance), batch_size=64
    )


def _face(scores: Array, nuisance: Array, size: int) -> Array:
    s = dict(zip(NAMES, scores, strict=True))
    has = dict(zip(NAMES, jax.nn.sigmoid(14 * (scores - THRESHOLDS)), strict=True))
    m = dict(zip(NUISANCES, jnp.tanh(nuisance), strict=True))

    ticks = (jnp.arange(size) + 0.5) / size * 2 - 1
    page_x, page_y = jnp.meshgrid(ticks, ticks)
    angle, zoom = 0.09 * m["roll"], 1.0 + 0.07 * m["scale"]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x = (cos * page_x + sin * page_y) / zoom
    y = (cos * page_y - sin * page_x) / zoom - 0.02

    ink = _inks(s, has, m)
    image = _background(page_y, m)
    for layer in (_back_hair, _body, _head, _features, _hair, _worn):
        image = layer(image, x, y, s, has, m, ink)
    light = 1.0 + 0.10 * m["light"] * page_x
    return jnp.clip(image * light[..., None], 0.0, 1.0)


def _rgb(r: float, g: float, b: float) -> Array:
    return jnp.array([r, g, b])


def _mix(a: Array, b: Array, t: Array) -> Array:
    return a + (b - a) * t


def _hue(t: Number, saturation: float, value: float) -> Array:
    """A colour wheel entry, t in turns."""
    wheel = 0.5 + 0.5 * jnp.cos(2 * jnp.pi * (t - jnp.array([0.0, 1 / 3, 2 / 3])))
    return value * (1 - saturation + saturation * wheel)


def _inks(s: Mapping, has: Mapping, m: Mapping) -> dict[str, Array]:
    pale = jax.nn.sigmoid(1.6 * s["Pale_Skin"] - 0.6)
    skin = _mix(_rgb(0.66, 0.45, 0.30), _rgb(0.99, 0.88, 0.80), pale)
    skin = skin * (1 + 0.05 * m["skin_hue"] * jnp.array([1.0, 0.0, -1.0]))
    hair = _rgb(0.45, 0.28, 0.14)
    hair = _mix(hair, _rgb(0.09, 0.07, 0.07), has["Black_Hair"])
    hair = _mix(hair, _rgb(0.93, 0.77, 0.36), has["Blond_Hair"])
    hair = _mix(hair, _rgb(0.76, 0.77, 0.80), has["Gray_Hair"])
    return {
        "skin": skin,
        "shade": skin * jnp.array([0.82, 0.74, 0.70]),
        "hair": hair,
        "lip": _mix(skin * jnp.array([0.80, 0.55, 0.52]), _rgb(0.85, 0.05, 0.15), has["Wearing_Lipstick"]),
        "clothes": _hue(0.55 + 0.30 * m["clothes_hue"], 0.55, 0.62),
        "hat": _hue(0.95 + 0.28 * m["hat_hue"], 0.75, 0.66),
        "iris": _hue(0.40 + 0.22 * m["iris_hue"], 0.7, 0.55),
    }  # fmt: skip


def _over(image: Array, ink: Array, cover: Array) -> Array:
    return image + (ink - image) * cover[..., None]


def _soft(distance: Array, edge: float = _EDGE) -> Array:
    """Coverage of a shape from its signed distance (positive inside)."""
    return jnp.clip(distance / (2 * edge) + 0.5, 0.0, 1.0)


def _ellipse(
    x: Array, y: Array, cx: Number, cy: Number, rx: Number, ry: Number
) -> Array:
    """Signed distance, near enough: exact on the axes, positive inside."""
    r = jnp.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + 1e-12)
    return (1 - r) * jnp.minimum(rx, ry)


def _box(x: Array, y: Array, cx: Number, cy: Number, rx: Number, ry: Number) -> Array:
    return jnp.minimum(rx - jnp.abs(x - cx), ry - jnp.abs(y - cy))


def _background(page_y: Array, m: Mapping) -> Array:
    wall = _hue(0.58 + 0.25 * m["background_hue"], 0.35, 0.72)
    wall = wall * (1 + 0.22 * m["background_light"])
    return wall[None, None] * (1.04 - 0.10 * page_y[..., None])


def _head_shape(x: Array, y: Array, s: Mapping) -> Array:
    """Signed distance of the head: wider when chubby, squarer in the jaw when male."""
    width = 0.45 + 0.055 * jnp.tanh(s["Chubby"])
    jaw = jax.nn.sigmoid(1.5 * s["Male"])
    below = jnp.maximum(y - 0.05, 0.0) / 0.6
    power = 2.0 + 1.2 * jaw
    rx, ry = width, 0.60
    u, v = jnp.abs(x) / rx, jnp.abs(y - 0.05) / ry
    round_head = jnp.sqrt(u**2 + v**2 + 1e-12)
    square_jaw = (u**power + v**power + 1e-12) ** (1 / power)
    return (1 - jnp.where(below > 0, square_jaw, round_head)) * rx


def _back_hair(image, x, y, s, has, m, ink):
    long = jax.nn.sigmoid(-2.2 * s["Male"] + 1.6 * m["hair_length"] + 0.4)
    width = 0.56 + 0.055 * jnp.tanh(s["Chubby"])
    bottom = 0.05 + 0.80 * long
    fall = _box(x, y, 0.0, (bottom - 0.1) / 2, width, (bottom + 0.1) / 2)
    crown = _ellipse(x, y, 0.0, -0.12, width, 0.56)
    return _over(image, ink["hair"] * 0.86, _soft(jnp.maximum(fall, crown)))


def _body(image, x, y, s, has, m, ink):
    image = _over(image, ink["shade"], _soft(_box(x, y, 0.0, 0.72, 0.19, 0.22)))
    shoulders = _ellipse(x, y, 0.0, 1.22, 0.86, 0.48)
    image = _over(image, ink["clothes"], _soft(shoulders))
    collar = jnp.minimum(0.20 - jnp.abs(x) - 0.55 * (y - 0.74), y - 0.70)
    image = _over(image, ink["shade"], _soft(collar) * (1 - has["Wearing_Necktie"]))
    shirt = jnp.minimum(0.24 - jnp.abs(x) - 0.35 * (y - 0.74), y - 0.72)
    image = _over(image, _rgb(0.97, 0.97, 0.99), _soft(shirt) * has["Wearing_Necktie"])
    tie = jnp.minimum(0.055 + 0.10 * (y - 0.72) - jnp.abs(x), y - 0.72)
    return _over(image, _rgb(0.70, 0.08, 0.12), _soft(tie) * has["Wearing_Necktie"])


def _head(image, x, y, s, has, m, ink):
    width = 0.45 + 0.055 * jnp.tanh(s["Chubby"])
    for side in (-1, 1):
        ear = _ellipse(x, y, side * (width + 0.01), 0.08, 0.08, 0.13)
        image = _over(image, ink["shade"], _soft(ear))
    image = _over(image, ink["skin"], _soft(_head_shape(x, y, s)))
    for side in (-1, 1):
        cheek = _ellipse(x, y, side * 0.27 + 0.04 * m["yaw"], 0.22, 0.13, 0.10)
        blush = _soft(cheek, 0.06) * has["Rosy_Cheeks"] * 0.75
        image = _over(image, _rgb(0.95, 0.38, 0.40), blush)
        ring = _ellipse(x, y, side * (width + 0.04), 0.29, 0.065, 0.075)
        image = _over(
            image, _rgb(0.98, 0.80, 0.12), _soft(ring) * has["Wearing_Earrings"]
        )
    for line in (-0.235, -0.30):
        wrinkle = _box(x, y, 0.05 * m["yaw"], line + 0.25 * x**2, 0.24, 0.012)
        image = _over(image, ink["shade"], _soft(wrinkle) * (1 - has["Young"]) * 0.9)
    return image


def _features(image, x, y, s, has, m, ink):
    x = x - 0.07 * m["yaw"]
    y = y - 0.04 * m["pitch"]
    old = 1 - has["Young"]
    mouth_y, smile = 0.36, jnp.tanh(0.9 * (s["Smiling"] - 0.05))
    curve = mouth_y + 0.045 * smile - 2.4 * 0.55 * smile * x**2
    mouth_x = 0.17 + 0.03 * smile

    # Beard: the lower head, with a hole for the mouth; moustache joined to it.
    chin = jnp.minimum(
        _head_shape(x + 0.07 * m["yaw"], y, s) + 0.01, y - 0.23 - 0.5 * x**2
    )
    moustache = _ellipse(x, y, 0.0, 0.275, 0.21, 0.05)
    hole = -_ellipse(x, y, 0.0, mouth_y, 0.20, 0.085)
    beard = jnp.maximum(jnp.minimum(chin, hole), moustache)
    image = _over(image, ink["hair"] * 0.9, _soft(beard) * (1 - has["No_Beard"]) * 0.95)

    for side in (-1, 1):
        fold = _box(x, y, side * (0.20 + 0.25 * jnp.abs(y - 0.20)), 0.24, 0.012, 0.09)
        image = _over(image, ink["shade"], _soft(fold) * old * 0.9)

    nose = 0.062 + 0.032 * jnp.tanh(1.2 * (s["Big_Nose"] - 0.4))
    bridge = _box(x, y, 0.02, 0.08, nose * 0.35, 0.10)
    image = _over(image, ink["shade"], _soft(bridge) * 0.6)
    image = _over(
        image, ink["shade"] * 0.93, _soft(_ellipse(x, y, 0.0, 0.17, nose * 1.25, nose))
    )

    # Mouth: an opening between two lips that follow the same curve.
    gap = 0.085 * jax.nn.sigmoid(2.5 * (s["Mouth_Slightly_Open"] - 0.35))
    taper = jnp.clip(1 - (x / mouth_x) ** 2, 0.0, 1.0)
    lips = jnp.minimum(gap * taper + 0.032 - jnp.abs(y - curve), mouth_x - jnp.abs(x))
    image = _over(image, ink["lip"], _soft(lips))
    inside = jnp.minimum(
        gap * taper - 0.010 - jnp.abs(y - curve), mouth_x - 0.03 - jnp.abs(x)
    )
    tongue = _mix(
        _rgb(0.98, 0.97, 0.95), _rgb(0.35, 0.03, 0.06), _soft(y - curve)[..., None]
    )
    image = _over(image, tongue, _soft(inside))

    height = 0.078 - 0.034 * jax.nn.sigmoid(3 * (s["Narrow_Eyes"] - 0.55))
    for side in (-1, 1):
        eye = _soft(_ellipse(x, y, side * 0.19, 0.0, 0.105, height))
        image = _over(image, _rgb(0.98, 0.98, 0.98), eye)
        image = _over(
            image,
            ink["iris"],
            eye * _soft(_ellipse(x, y, side * 0.19, 0.0, 0.062, 0.062)),
        )
        image = _over(
            image,
            _rgb(0.05, 0.05, 0.06),
            eye * _soft(_ellipse(x, y, side * 0.19, 0.0, 0.03, 0.03)),
        )
        thick = 0.018 + 0.024 * jax.nn.sigmoid(2.5 * (s["Bushy_Eyebrows"] - 0.5))
        brow = _box(
            x, y, side * 0.195, -0.135 + 0.8 * (jnp.abs(x) - 0.19) ** 2, 0.115, thick
        )
        image = _over(image, ink["hair"] * 0.62, _soft(brow))
    return image  # fmt: skip


def _hair(image, x, y, s, has, m, ink):
    width = 0.49 + 0.055 * jnp.tanh(s["Chubby"])
    scalp = _ellipse(x, y, 0.0, -0.06, width, 0.58)
    line = -0.36 + 0.55 * x**2 + 0.20 * has["Bangs"] * jnp.exp(-((x / 0.42) ** 4))
    sides = jnp.minimum(jnp.abs(x) - width + 0.075, 0.10 - y)
    cap = jnp.minimum(scalp + 0.02, jnp.maximum(line - y, sides))
    image = _over(image, ink["hair"], _soft(cap))
    shine = _ellipse(x, y, -0.16, -0.50, 0.16, 0.05)
    return _over(image, jnp.minimum(ink["hair"] * 1.25, 1.0), _soft(shine, 0.04) * 0.6)


def _worn(image, x, y, s, has, m, ink):
    fx, fy = x - 0.07 * m["yaw"], y - 0.04 * m["pitch"]
    frame = jnp.full_like(x, -1.0)
    for side in (-1, 1):
        lens = _ellipse(fx, fy, side * 0.19, 0.005, 0.155, 0.135)
        frame = jnp.maximum(frame, 0.024 - jnp.abs(lens))
    frame = jnp.maximum(frame, _box(fx, fy, 0.0, -0.01, 0.05, 0.018))
    image = _over(image, _rgb(0.07, 0.07, 0.10), _soft(frame) * has["Eyeglasses"])
    crown = jnp.minimum(_ellipse(x, y, 0.0, -0.34, 0.52, 0.52), -0.36 - y)
    brim = _ellipse(x, y, 0.0, -0.36, 0.70, 0.075)
    hat = _soft(jnp.maximum(crown, brim)) * has["Wearing_Hat"]
    image = _over(image, ink["hat"], hat)
    band = jnp.minimum(_box(x, y, 0.0, -0.46, 0.5, 0.035), crown)
    return _over(image, ink["hat"] * 0.45, _soft(band) * has["Wearing_Hat"])
