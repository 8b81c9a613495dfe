"""``une-jax hspace fit``: directions of what the UNet's bottleneck holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from une_jax import directions as files
from une_jax import images, zoo
from une_jax.attributes import resolve
from une_jax.cli import pictures
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.report import tables

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator
    from une_jax.directions import Directions
    from une_jax.zoo import Zoo

CHUNK = 64  # images whose h is on its way from the device at a time


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Sample a NoiseZoo's images and find directions in what the UNet's bottleneck holds."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    out: Path
    """the file to write, e.g. smile.safetensors; another model refuses it"""
    method: Literal["means", "pca"] = "means"
    """means: of the images that have an attribute, less of those that lack it; pca: the
    largest directions at each step, without labels"""
    attribute: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """with means: whose directions (default: all that have one)"""
    keep: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """with means: attributes whose directions are projected out"""
    balance: Annotated[str | None, OWN_DEFAULT] = None
    """with means: an attribute that both sides are given in equal parts"""
    components: int = 10
    """with pca: how many directions"""
    limit: int = 500
    """most train images to sample, and most test images"""
    view: Annotated[str | None, OWN_DEFAULT] = None
    """which generator view of the zoo (default: its only one, or --generator's)"""
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
        opened = zoo.open(self.zoo)
        view = pictures.generator_view(opened, self.view, self.generator)
        for name in (*self.attribute, *self.keep, self.balance or ""):
            if name:
                resolve(opened.attribute_names, name)
            if name and name == self.balance and name in (*self.attribute, *self.keep):
                raise UneError(f"--balance {name}: it is asked for itself as well")
            if name in self.attribute and name in self.keep:
                raise UneError(f"--keep {name} would undo the direction itself")

        from une_jax.cli import inside
        from une_jax.cli.generator import generator_of_view

        generator = generator_of_view(view, self.generator)
        inside.require_plain(generator)
        train, test = (opened.split(part)[: self.limit] for part in ("train", "test"))
        if self.method == "pca":
            found, table = self._principal(generator, opened, train)
        else:
            found, table = self._means(generator, opened, train, test)
        files.save(self.out, found)
        return {
            "view": view.name,
            "file": str(self.out),
            "h": list(found.view.shape),
            "images": len(train),
            "method": found.method,
            "table": table,
        }

    def _means(
        self, generator: "Generator", opened: "Zoo", train: np.ndarray, test: np.ndarray
    ) -> "tuple[Directions, list[tables.Row]]":
        import jax.numpy as jnp

        from une_jax import hspace_directions, metrics

        names, labels = opened.attribute_names, opened.attributes
        wanted = list(self.attribute) or [n for n in names if n not in (*self.keep, self.balance)]  # fmt: skip
        h = self._sampled(generator, opened, train)
        strata = None
        if self.balance:
            strata = labels[train, names.index(self.balance)]

        def direction(name: str) -> Any:
            """None where one side has no images."""
            has = labels[train, names.index(name)]
            score, count = jnp.asarray(has, jnp.float32), int(min(has.sum(), (~has).sum()))  # fmt: skip
            if strata is None:
                weights = hspace_directions.contrast(score, count) if count else None
            else:
                sides = [min((has & s).sum(), (~has & s).sum()) for s in (strata, ~strata)]  # fmt: skip
                count = 2 * int(min(sides))
                groups = jnp.asarray(strata, jnp.int32)
                weights = hspace_directions.balanced(score, groups, count, levels=2) if count else None  # fmt: skip
            return None if weights is None else hspace_directions.difference(h, weights)

        moves = {name: direction(name) for name in (*wanted, *self.keep)}
        lacking = [name for name, move in moves.items() if move is None]
        if asked := [n for n in lacking if n in (*self.attribute, *self.keep)]:
            raise UneError(
                f"{asked[0]}: the {len(train)} images sampled do not both have and lack "
                "it; raise --limit"
            )
        wanted = [name for name in wanted if name not in lacking]
        if not wanted:
            raise UneError(
                f"no attribute divides the {len(train)} images sampled; raise --limit"
            )
        kept = jnp.stack([moves[n] for n in self.keep]) if self.keep else None
        made = [
            moves[n] if kept is None else hspace_directions.project(moves[n], kept)
            for n in wanted
        ]
        spread = [hspace_directions.spread(h, move) for move in made]
        about = {"name": "h means", "keep": list(self.keep), "balance": self.balance}
        found = self._packed(generator, opened, wanted, np.stack(made), np.array(spread), about, train)  # fmt: skip
        held = np.asarray(self._sampled(generator, opened, test))
        unit = np.moveaxis(found.moves.reshape(-1, *found.view.shape), 2, -1)
        scores = np.einsum("n...,m...->nm", held, unit, optimize=True)
        at = [names.index(n) for n in wanted]
        auc = metrics.evaluate(
            jnp.asarray(scores), jnp.asarray(labels[test][:, at])
        ).auc
        table: list[tables.Row] = [
            {
                "direction": n,
                "test AUC": float(a),
                "length": float(size),
                "spread": float(s),
            }  # fmt: skip
            for n, a, size, s in zip(
                wanted, auc, found.length, found.spread, strict=True
            )
        ]
        return found, table

    def _principal(
        self, generator: "Generator", opened: "Zoo", train: np.ndarray
    ) -> "tuple[Directions, list[tables.Row]]":
        from une_jax import hspace_pca

        k = min(self.components, len(train) - 1)
        stream = None
        for h in self._chunks(generator, opened, train):
            if stream is None:
                stream = hspace_pca.begin(h.shape[1:], min(4 * k, len(train)))
            stream = hspace_pca.absorb(stream, h)
        assert stream is not None
        out = hspace_pca.finish(stream, k)
        moves = np.asarray(out.moves)
        size = np.linalg.norm(moves.reshape(k, -1), axis=1)
        # One standard deviation at every step together is the move itself.
        names = [f"pc{i + 1}" for i in range(k)]
        about = {"name": "h pca", "explained": float(np.mean(out.explained))}
        found = self._packed(generator, opened, names, moves, size, about, train)
        whole = np.square(out.deviation).sum(1)
        total = whole.sum() / about["explained"] if about["explained"] else np.nan
        table: list[tables.Row] = [
            {"direction": n, "part of variance": float(w / total), "spread": float(s)}
            for n, w, s in zip(names, whole, found.spread, strict=True)
        ]
        return found, table

    def _packed(
        self,
        generator: "Generator",
        opened: "Zoo",
        names: list[str],
        moves: np.ndarray,
        spread: np.ndarray,
        about: dict[str, Any],
        train: np.ndarray,
    ) -> "Directions":
        from une_jax import hspace_files

        return hspace_files.pack(
            names,
            moves,
            generator.views[0],
            np.asarray(generator.walk_params["steps"].sampling.t),
            spread=spread,
            method={**about, "images": len(train)},
            zoo=images.sha256(opened.path / "manifest.json"),
        )

    def _sampled(self, generator: "Generator", opened: "Zoo", rows: np.ndarray) -> Any:
        """h of all these images, (n, t, i, j, c)."""
        import jax.numpy as jnp

        return jnp.concatenate(list(self._chunks(generator, opened, rows)))

    def _chunks(self, generator: "Generator", opened: "Zoo", rows: np.ndarray) -> Any:
        import jax.numpy as jnp

        from une_jax.cli import inside

        with Progress(len(rows), "sampling") as bar:
            for start in range(0, len(rows), CHUNK):
                some = rows[start : start + CHUNK]
                noise = np.asarray(opened[generator.name][some], np.float32)
                said = pictures.prompts_of(generator, opened, some)
                yield jnp.asarray(inside.middles(generator, noise, said))
                bar.add(len(some))

    def text(self, result: dict[str, Any]) -> str:
        t, c, h, w = result["h"]
        return (
            f"{tables.text(result['table'])}\n\nh of {result['images']} images: {c} channels "
            f"of {h}x{w} at {t} steps\n{result['file']}"
        )
