"""The directional CLIP loss: does an edit go where the text goes?

StyleGAN-NADA's loss (Gal et al. 2021, arXiv 2108.00946) as Asyrp has it: in its paper
(Kwon et al. 2023, arXiv 2210.10960) and, differently, in its code. Here
are both by name, and S_dir, the metric that is the same cosine. Pure functions of
embeddings; whose they are, CLIP's or another judge's, is the caller's choice.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from une_jax.errors import UneError

Form = Literal["paper", "code"]
FORMS: tuple[Form, ...] = get_args(Form)
# Below this a difference has no direction; its cosine is 0 and its gradient finite.
NOTHING = 1e-6
# The code's logarithm ends here, near a cosine of -1.
LEAST = 1e-6


class Weights(NamedTuple):
    """Of the loss's two terms. The script of Asyrp's authors: 1 and 3."""

    clip: float = 1.0
    recon: float = 3.0


USUAL = Weights()


class Losses(NamedTuple):
    """What :func:`loss` gives, of each of b images."""

    total: Float32[Array, " b"]
    clip: Float32[Array, " b"]  # before its weight, as is recon
    recon: Float32[Array, " b"]
    cosine: Float32[Array, " b"]  # S_dir


def unit(x: Float[Array, "*b e"]) -> Float32[Array, "*b e"]:
    """Embeddings at length 1, in float32; of length 0 they stay, with a gradient.

    >>> [round(v, 4) for v in unit(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.sum(x**2, -1, keepdims=True) + NOTHING**2)


def said(embeddings: Float[Array, "k e"]) -> Float32[Array, " e"]:
    """One text of k ways to say it (templates): the mean of unit embeddings, at length 1.

    CLIP's prompt ensemble (arXiv 2103.00020, Sec. 3.1.4).

    >>> [round(v, 3) for v in said(jnp.array([[2.0, 0.0], [0.0, 1.0]])).tolist()]
    [0.707, 0.707]
    """
    return unit(unit(embeddings).mean(0))


def s_dir(
    source: Float[Array, "b e"],
    edited: Float[Array, "b e"],
    text: Float[Array, " e"],
) -> Float32[Array, " b"]:
    """Cosine between how each image's embedding moved and where the text moved.

    S_dir, the directional similarity of Asyrp; the paper's loss is 1 less it.
    Image embeddings are brought to length 1 before they are subtracted. An image that
    did not move has 0.

    Args:
        source, edited: the images' embeddings, before and after.
        text: ``said(target) - said(source)``.

    Works under jit, vmap and grad.

    >>> before, after = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])
    >>> round(s_dir(before, after, jnp.array([-1.0, 1.0])).item(), 4)
    1.0
    """
    moved = unit(edited) - unit(source)
    return jnp.sum(unit(moved) * unit(text)[None], -1)


def clip_loss(cosine: Float[Array, "*b"], *, form: Form = "paper") -> Float32[Array, "*b"]:  # fmt: skip
    """Of cosines: the paper's 1 - cos, or the code's -log((1 + cos) / 2).

    The code's falls steeply where an edit goes the wrong way, and ends at about 14.

    Raises:
        UneError: an unknown form.

    >>> at = jnp.array([1.0, 0.0])
    >>> clip_loss(at).tolist()
    [0.0, 1.0]
    >>> [round(abs(v), 4) for v in clip_loss(at, form="code").tolist()]
    [0.0, 0.6931]
    """
    require(form)
    cosine = cosine.astype(jnp.float32)
    if form == "paper":
        return 1 - cosine
    return -jnp.log(jnp.maximum((1 + cosine) / 2, LEAST))


def reconstruction(
    source: Float[Array, "b h w c"], edited: Float[Array, "b h w c"]
) -> Float32[Array, " b"]:
    """Mean absolute difference of the predicted images (Asyrp).

    >>> reconstruction(jnp.zeros((1, 2, 2, 3)), jnp.full((1, 2, 2, 3), -0.5)).item()
    0.5
    """
    apart = edited.astype(jnp.float32) - source.astype(jnp.float32)
    return jnp.mean(jnp.abs(apart), (1, 2, 3))


def text_cosine(
    source: Float[Array, " e"], target: Float[Array, " e"]
) -> Float32[Array, ""]:
    """Between two texts: how small a change is asked (Asyrp).

    It weighs the code's reconstruction and sets t_edit.

    >>> text_cosine(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])).round(4).item()
    1.0
    """
    return jnp.sum(unit(source) * unit(target))


def loss(
    edited: Float[Array, "b h w c"],
    source: Float[Array, "b h w c"],
    edited_embedding: Float[Array, "b e"],
    source_embedding: Float[Array, "b e"],
    source_text: Float[Array, " e"],
    target_text: Float[Array, " e"],
    *,
    form: Form = "paper",
    weights: Weights = USUAL,
) -> Losses:
    """Asyrp's training loss of b predicted images, each image's own.

    ``"paper"``: ``clip * (1 - cos) + recon * mean |P_edit - P_source|``.
    ``"code"``: ``clip * -log((1 + cos) / 2)``, and the other term is multiplied by the
    cosine of the two texts, so that a larger change of meaning may change more.

    Args:
        edited, source: predicted images with and without the edit.
        edited_embedding: of ``edited``.
        source_embedding: of ``source`` in the paper; in the code, of the clean image.
        source_text, target_text: of :func:`said`.

    Works under jit (form static), vmap and grad.

    Raises:
        UneError: an unknown form.

    >>> image, e = jnp.ones((1, 2, 2, 3)), jnp.eye(2)
    >>> out = loss(image, 0.5 * image, e[1:], e[:1], e[0], e[1])
    >>> round(out.total.item(), 4), round(out.cosine.item(), 4)  # 3 * 0.5, and no more
    (1.5, 1.0)
    """
    require(form)
    text = unit(target_text) - unit(source_text)
    cosine = s_dir(source_embedding, edited_embedding, text)
    clip = clip_loss(cosine, form=form)
    recon = reconstruction(source, edited)
    small = text_cosine(source_text, target_text) if form == "code" else 1.0
    return Losses(weights.clip * clip + weights.recon * small * recon, clip, recon, cosine)  # fmt: skip


def require(form: str) -> None:
    """Refuses a form that is not one of ``FORMS``.

    Raises:
        UneError: it lists them.
    """
    if form not in FORMS:
        raise UneError(f"form is {form!r}; use one of {', '.join(FORMS)}")
