"""The embedded default: cartoon faces with a known latent, and small trained models.

``factors`` draws the true latent of a face, ``render`` paints it, ``captions`` puts it
into words, ``truth`` keeps it beside image files. ``regressor`` reads it off pixels, so
that ``une_jax.effect`` can measure an edit. ``models/`` holds the trained members in the
published on-disk layouts.
"""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
GENERATORS = ("mini-sd15", "mini-sd21", "mini-lcm")
# Generators that are no latent diffusion.
FAMILIES = ("mini-vae", "mini-vq", "mini-glow", "mini-ddpm", "mini-gan")
ENCODERS = (
    "mini-clip-p8",
    "mini-clip-p16",
    "mini-openclip-p8",
    "mini-openclip-p16",
    "mini-dinov3",
)


def path(name: str) -> Path:
    """The checkpoint folder of a member, e.g. ``"mini-sd15"``.

    >>> path("mini-sd15").name
    'mini-sd15'
    """
    if name not in GENERATORS + FAMILIES + ENCODERS:
        raise KeyError(name)
    return MODELS / name
