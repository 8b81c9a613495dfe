"""Who says what an edit did: networks that had no part in making it.

What was edited along a probe cannot be scored by that probe. A judge reads decoded
pixels: of miniature faces the shipped regressor, which was trained on faces of
independent attributes; of photographs an encoder with probes of its own.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from une_jax import normalise, probes
from une_jax.effect import Reading
from une_jax.errors import UneError
from une_jax.miniature import factors, regressor, render
from une_jax.report import latents, probing
from une_jax.report.parts import in_parts
from une_jax.zoo import Zoo

Embed = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]
BATCH = 512  # images that the regressor reads at once

_read = jax.jit(lambda params, x: regressor.apply(params, x.astype(jnp.float32) / 255))
_unit_rows = jax.jit(normalise.unit_rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """Call it with (n, h, w, 3) uint8 images; a float32 Reading of n rows comes back.

    Attributes:
        name: what reads them.
        names: of its a scores.
        own: (a, k) what of the identity each attribute's edit is to change; zeros where
            that is nothing.
        size: the edge of the images that it reads, or None for any.
        reads: images of that size to what it sees in them.
    """

    name: str
    names: tuple[str, ...]
    own: Float[np.ndarray, "a k"] = field(repr=False)
    size: int | None
    reads: Callable[[UInt8[np.ndarray, "n h w 3"]], Reading] = field(repr=False)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Reading:
        """What it sees in them; nothing is compiled anew for another n.

        Raises:
            UneError: the images are of another size than it reads.
        """
        edge = images.shape[1]
        if self.size not in (None, edge):
            raise UneError(
                f"{self.name} reads images of {self.size} pixels, and these have {edge}: "
                "choose another judge with --judge"
            )
        return self.reads(images)


def miniature_judge() -> Judge:
    """The regressor's scores; who it is are the nuisances, which no attribute changes.

    >>> miniature_judge()(np.zeros((2, 64, 64, 3), np.uint8)).scores.shape
    (2, 20)
    """
    params = regressor.load()

    def reads(images: np.ndarray) -> Reading:
        seen = in_parts(ft.partial(_read, params), images, size=BATCH)
        return Reading(*map(jnp.asarray, seen))

    none = np.zeros((len(factors.NAMES), len(factors.NUISANCES)), np.float32)
    return Judge(
        name="regressor", names=factors.NAMES, own=none, size=render.SIZE, reads=reads
    )


def encoder_judge(zoo: Zoo, view: str, embed: Embed) -> Judge:
    """Probes of an encoder's embeddings, fitted on the zoo's train rows.

    A score is the probe's log odds in standard deviations over those rows; who it is
    says the embedding, less their mean and at length 1. There an edit is to change the
    difference of the attribute's class means, which is ``own``. Attributes that the
    train rows have in one class only are left out.

    Its probes learn from the same labels as the edit's: what goes together in all
    photographs they cannot tell apart either, and collateral that follows such a
    correlation shows larger than it is.

    Args:
        zoo: with attributes.
        view: one of its encoder views.
        embed: that encoder: (n, h, w, 3) uint8 -> (n, d).

    Raises:
        UneError: the view is no encoder's, or no attribute has two classes.
    """
    kind = zoo[view].view.kind
    if kind != "encoder":
        raise UneError(
            f"view {view!r} is no encoder's ({kind}): it cannot judge images"
        )
    probed = probing.probe_view(zoo, view)
    y = zoo.attributes[zoo.split("train")]
    known = np.flatnonzero(y.any(0) & ~y.all(0))
    if len(known) < 2:
        raise UneError(f"{zoo.path} has too few attributes of both classes to judge by")
    spread = np.asarray(probes.scores(probed.probe, jnp.asarray(probed.train))).std(0)
    mean = probed.train.mean(0)
    rows = np.asarray(_unit_rows(jnp.asarray(probed.train - mean)))
    own = np.stack([rows[y[:, a]].mean(0) - rows[~y[:, a]].mean(0) for a in known])

    def reads(images: np.ndarray) -> Reading:
        x = latents.flat(embed(images))
        scores = probes.scores(probed.probe, jnp.asarray(x)) / spread[None]
        return Reading(scores[:, known], _unit_rows(jnp.asarray(x - mean)))

    names = tuple(zoo.attribute_names[a] for a in known)
    return Judge(name=view, names=names, own=own, size=None, reads=reads)
