"""The generative truth of the miniature faces: z ~ N(0, I) -> scores -> attributes.

``z`` is the true universal embedding. Its first ``len(NAMES)`` coordinates are mixed
by ``MIXING`` into correlated unit-variance scores; an attribute is present where its
score exceeds its threshold. The other coordinates are nuisance that no attribute
depends on:

===========================================  ==========================================
``NAMES``, ``BASE_RATES``                    the attributes, and how often each is there
``CORRELATIONS``                             what was planted between their scores
``MIXING``                                   scores = MIXING @ z[:attributes]; the scores'
                                             true correlations are MIXING @ MIXING.T
``THRESHOLDS``                               above it, the attribute is there
yaw, pitch, roll, scale                      where the face looks, how it is tilted, its size
light                                        which side is lit
background_hue, background_light             the wall
clothes_hue, hat_hue, skin_hue, iris_hue     colours
hair_length                                  how far the hair falls
===========================================  ==========================================

>>> score = from_z(jnp.zeros((1, DIM))).scores  # the average face
>>> float(jnp.abs(score).max())
0.0
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.stats import norm

# The shipped models were trained on faces of this seed; evaluate on any other.
TRAINING_SEED = 1_000_003

BASE_RATES = {
    "Bangs": 0.30,
    "Big_Nose": 0.30,
    "Black_Hair": 0.28,
    "Blond_Hair": 0.22,
    "Bushy_Eyebrows": 0.30,
    "Chubby": 0.22,
    "Eyeglasses": 0.25,
    "Gray_Hair": 0.15,
    "Male": 0.42,
    "Mouth_Slightly_Open": 0.45,
    "Narrow_Eyes": 0.25,
    "No_Beard": 0.72,
    "Pale_Skin": 0.25,
    "Rosy_Cheeks": 0.25,
    "Smiling": 0.48,
    "Wearing_Earrings": 0.30,
    "Wearing_Hat": 0.20,
    "Wearing_Lipstick": 0.42,
    "Wearing_Necktie": 0.22,
    "Young": 0.65,
}
NAMES = tuple(BASE_RATES)  # CelebA's spelling and order

NUISANCES = (
    "yaw",
    "pitch",
    "roll",
    "scale",
    "light",
    "background_hue",
    "background_light",
    "clothes_hue",
    "hat_hue",
    "hair_length",
    "skin_hue",
    "iris_hue",
)
DIM = len(NAMES) + len(NUISANCES)

CORRELATIONS = {
    ("Male", "No_Beard"): -0.6,
    ("Male", "Wearing_Lipstick"): -0.6,
    ("Male", "Wearing_Earrings"): -0.45,
    ("Male", "Wearing_Necktie"): 0.45,
    ("Male", "Bushy_Eyebrows"): 0.45,
    ("Male", "Big_Nose"): 0.35,
    ("Male", "Bangs"): -0.25,
    ("Male", "Wearing_Hat"): 0.2,
    ("Young", "Gray_Hair"): -0.6,
    ("Young", "Eyeglasses"): -0.4,
    ("Young", "Chubby"): -0.3,
    ("Young", "Wearing_Necktie"): -0.3,
    ("Young", "Big_Nose"): -0.25,
    ("Smiling", "Mouth_Slightly_Open"): 0.5,
    ("Smiling", "Narrow_Eyes"): 0.3,
    ("Smiling", "Rosy_Cheeks"): 0.3,
    ("Chubby", "Big_Nose"): 0.25,
    ("Wearing_Lipstick", "Rosy_Cheeks"): 0.35,
    ("Wearing_Lipstick", "Wearing_Earrings"): 0.4,
    ("Wearing_Lipstick", "No_Beard"): 0.4,
    ("Black_Hair", "Blond_Hair"): -0.6,
    ("Black_Hair", "Gray_Hair"): -0.4,
    ("Black_Hair", "Pale_Skin"): -0.3,
    ("Blond_Hair", "Pale_Skin"): 0.3,
    ("Bangs", "Wearing_Hat"): -0.2,
}


def _mixing() -> np.ndarray:
    """Cholesky factor of the planted correlations, lifted to be positive definite."""
    corr = np.eye(len(NAMES))
    for (a, b), rho in CORRELATIONS.items():
        i, j = NAMES.index(a), NAMES.index(b)
        corr[i, j] = corr[j, i] = rho
    values, vectors = np.linalg.eigh(corr)
    corr = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diag(corr))
    return np.linalg.cholesky(corr / np.outer(scale, scale)).astype(np.float32)


MIXING = _mixing()  # (attributes, attributes): scores = MIXING @ z[:attributes]
THRESHOLDS = norm.isf(np.array(list(BASE_RATES.values()))).astype(np.float32)


class Truth(NamedTuple):
    """What is true of n faces.

    z: (n, DIM) the universal embedding; scores: (n, attributes) unit-variance
    liabilities; attributes: (n, attributes) scores above threshold;
    nuisance: (n, len(NUISANCES)).
    """

    z: Float[Array, "n d"]
    scores: Float[Array, "n a"]
    attributes: Bool[Array, "n a"]
    nuisance: Float[Array, "n m"]


def draw(key: PRNGKeyArray, n: int, start: int = 0) -> Truth:
    """Faces ``start .. start + n`` of the stream that ``key`` names.

    Face i is the same whatever n and start are.

    >>> draw(jax.random.key(0), 3).z.shape
    (3, 32)
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(n))
    return from_z(jax.vmap(lambda k: jax.random.normal(k, (DIM,)))(keys))


def from_z(z: Float[Array, "n d"]) -> Truth:
    """Scores, attributes and nuisance of given embeddings (n, DIM)."""
    with jax.default_matmul_precision("float32"):
        scores = z[:, : len(NAMES)] @ jnp.asarray(MIXING).T
    return Truth(z, scores, scores > jnp.asarray(THRESHOLDS)[None], z[:, len(NAMES) :])
