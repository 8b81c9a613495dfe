"""``une-jax hspace fit``: directions of what the UNet's bottleneck holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Float32

from une_jax import directions as files
from une_jax import zoo
from une_jax.attributes import resolve
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.errors import UneError
from une_jax.report import tables
from une_jax.zoo import Zoo

if TYPE_CHECKING:
    from une_jax.cli.inside import Sampled
    from une_jax.directions import Directions

Weights = Float32[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Sample a NoiseZoo's images and find directions in what the UNet's bottleneck holds."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """the file to write, e.g. smile.safetensors; another model refuses it"""
    method: Literal["means", "pca"] = "means"
    """means: of the images that have an attribute, less that of those that lack it; pca:
    the largest directions at each step, without labels"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """with means: whose directions (default: all that have one)"""
    keep: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """with means: attributes whose directions are projected out"""
    balance: Annotated[str | None, OWN_DEFAULT] = None
    """with means: an attribute; differences are taken with it and without it, and
    averaged"""
    components: int = 10
    """with pca: how many directions"""
    limit: int = 500
    """most train images to sample, and most test images; the train images' h is kept in
    memory, 8 MB each for Stable Diffusion at 50 steps"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which view of the zoo, a latent generator's or a pixel diffusion model's (default:
    its only one, or --generator's)"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the zoo's generator (default: found by its name)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        if self.method == "pca" and (self.attribute or self.keep or self.balance):
            raise UneError(
                "--method pca knows no labels: leave out --attribute, --keep, --balance"
            )
        for name, least in (("components", 1), ("limit", 2)):
            if (value := getattr(self, name)) < least:
                raise UneError(f"--{name} is {value}; use {least} or more")
        if self.out.is_dir():
            raise UneError(f"{self.out} is a folder; choose a file for --out")
        opened = zoo.open(self.zoo)
        view = pictures.diffusion_view(opened, self.view, self.generator)
        train, test = (opened.split(part)[: self.limit] for part in ("train", "test"))
        if len(train) < 2:
            raise UneError(
                f"{opened.path} has {len(train)} train images; directions need 2 or more"
            )
        weights = {} if self.method == "pca" else self._weights(opened, train)

        from une_jax.cli import inside
        from une_jax.cli.diffusion import diffusion_of_view

        generator = diffusion_of_view(view, self.generator)
        inside.require_plain(generator)
        sampled = inside.Sampled(generator, opened)
        if self.method == "pca":
            found, table = self._principal(sampled, train)
        else:
            found, table = self._means(sampled, weights, train, test)
        files.save(self.out, found)
        return {
            "view": view.name,
            "file": str(self.out),
            "h": list(found.view.shape),
            "images": len(train),
            "method": found.method,
            "table": table,
        }

    def _weights(self, opened: Zoo, rows: np.ndarray) -> dict[str, Weights]:
        """Of each attribute that is asked for or kept, the images' weights.

        Raises:
            UneError: one is unknown, or does not divide the images.
        """
        names = opened.attribute_names
        if not names:
            raise UneError(f"{opened.path} has no attributes: use --method pca")
        for name in (*self.attribute, *self.keep, *filter(None, [self.balance])):
            resolve(names, name)
        for name in self.attribute:
            if name in self.keep:
                raise UneError(f"--keep {name} would undo the direction itself")
        if self.balance in (*self.attribute, *self.keep):
            raise UneError(f"--balance {self.balance}: it is asked for itself as well")
        labels = opened.attributes[rows]
        strata = None if self.balance is None else labels[:, names.index(self.balance)]
        asked = (*self.attribute, *self.keep)
        found = {}
        for name in asked if self.attribute else (*names, *self.keep):
            weights = of_classes(labels[:, names.index(name)], strata)
            if weights is not None:
                found[name] = weights
            elif name in asked:
                among = "" if self.balance is None else f", with and without {self.balance}"  # fmt: skip
                raise UneError(
                    f"{name}: of {len(rows)} images, not some have and some lack it"
                    f"{among}; raise --limit"
                )
        if not set(found) - set(self.keep):
            raise UneError(
                f"no attribute divides the {len(rows)} images; raise --limit"
            )
        return found

    def _means(
        self,
        sampled: "Sampled",
        weights: dict[str, Weights],
        train: np.ndarray,
        test: np.ndarray,
    ) -> "tuple[Directions, list[tables.Row]]":
        import jax
        import jax.numpy as jnp

        from une_jax import hspace_directions, metrics
        from une_jax.cli.inside import CHUNK

        every = np.stack(list(weights.values()), axis=1)
        h = sampled.kept(train)
        differ = jax.jit(jax.vmap(hspace_directions.difference, (None, 1)))
        along = jax.jit(lambda h, v: jnp.einsum("n...,m...->nm", h.astype(v.dtype), v))
        parts = [slice(i, i + CHUNK) for i in range(0, len(train), CHUNK)]
        total = sum(differ(jnp.asarray(h[s]), jnp.asarray(every[s])) for s in parts)
        moves = dict(zip(weights, jnp.asarray(total), strict=True))
        wanted = [name for name in weights if name not in self.keep]
        made = jnp.stack([moves[name] for name in wanted])
        if self.keep:
            kept = jnp.stack([moves[name] for name in self.keep])
            made = jnp.stack([hspace_directions.project(move, kept) for move in made])
        over = np.concatenate([along(jnp.asarray(h[s]), made) for s in parts])
        length = np.linalg.norm(made.reshape(len(made), -1), axis=1)
        about = {"name": "h means", "keep": list(self.keep), "balance": self.balance}
        found = sampled.packed(wanted, made, over.std(0) / length, about, len(train))
        auc = np.full(len(wanted), np.nan)
        if len(test):
            scores = np.concatenate([along(x, made) for x in sampled.chunks(test)])
            names = list(sampled.opened.attribute_names)
            labels = sampled.opened.attributes[test][:, [names.index(n) for n in wanted]]  # fmt: skip
            auc = metrics.evaluate(jnp.asarray(scores), jnp.asarray(labels)).auc
        table: list[tables.Row] = [
            {
                "direction": n,
                "test AUC": float(a),
                "length": float(s),
                "spread": float(d),
            }
            for n, a, s, d in zip(wanted, auc, found.length, found.spread, strict=True)
        ]
        return found, table

    def _principal(
        self, sampled: "Sampled", train: np.ndarray
    ) -> "tuple[Directions, list[tables.Row]]":
        import jax

        from une_jax import hspace_pca

        k = min(self.components, len(train) - 1)
        absorb, stream = jax.jit(hspace_pca.absorb), None
        for h in sampled.chunks(train):
            if stream is None:
                size = int(np.prod(h.shape[2:]))
                stream = hspace_pca.begin(h.shape[1:], min(4 * k, len(train), size))
                k = min(k, size)
            stream = absorb(stream, h)
        assert stream is not None
        out = hspace_pca.finish(stream, k)
        each = np.square(out.deviation)  # of each direction at each step
        total = (each.sum(0) / np.asarray(out.explained)).sum()
        names = [f"pc{i + 1}" for i in range(k)]
        size = np.linalg.norm(np.asarray(out.moves).reshape(k, -1), axis=1)
        about = {"name": "h pca", "explained": float(each.sum() / total)}
        # A standard deviation at every step together is the move itself.
        found = sampled.packed(names, out.moves, size, about, len(train))
        table: list[tables.Row] = [
            {"direction": n, "part of variance": float(part), "spread": float(s)}
            for n, part, s in zip(names, each.sum(1) / total, size, strict=True)
        ]
        return found, table

    def text(self, result: dict[str, Any]) -> str:
        t, c, h, w = result["h"]
        return (
            f"{tables.text(result['table'])}\n\nh of {result['images']} images: {c} channels "
            f"of {h}x{w} at {t} steps\n{result['file']}"
        )


def of_classes(
    has: Bool[np.ndarray, " n"], strata: Bool[np.ndarray, " n"] | None
) -> Weights | None:
    """Weights of the mean of those that have it less that of those that lack it.

    With ``strata`` (two, as booleans) in each of them, averaged. None where a side is
    empty.

    >>> of_classes(np.array([True, False, False]), None).tolist()
    [1.0, -0.5, -0.5]
    """
    groups = [np.ones(len(has), bool)] if strata is None else [strata, ~strata]
    weights = np.zeros(len(has), np.float32)
    for group in groups:
        for side, sign in ((has & group, 1), (~has & group, -1)):
            if not side.any():
                return None
            weights[side] = sign / side.sum() / len(groups)
    return weights
