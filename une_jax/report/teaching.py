"""Directions that a NoiseZoo teaches, and what it costs to leave others alone.

How an attribute's direction is found (``METHODS``):

=========  =====================================================================
probe      the normal of its linear probe's boundary (the paper)
means      the mean of the train rows that have it, less that of those that lack it
ridge      the weights of ridge regression on continuous scores
=========  =====================================================================

How others are left alone (``KEEPINGS``); all take them out of the move together:

===========  ===================================================================
euclidean    their readers' span projected out (the paper's Eq. 4, for any number)
conditional  the likeliest move of those that change none of their scores
             (:func:`une_jax.keeping.conditional`)
erasure      every linear trace of their labels taken out (LEACE,
             :func:`une_jax.keeping.eraser`), within the probes' components
===========  ===================================================================

Erasure is of displacements. A probe's or a regression's normal is none, but a way to
read; what is erased from is its pattern, what the data do when the score rises
(covariance times normal). From the normal itself, which points to where the data hardly
vary, the traces to be taken out would be many times its own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from une_jax import edits, images, keeping, maps, metrics, pca
from une_jax.directions import Directions
from une_jax.errors import UneError
from une_jax.normalise import unit, unit_rows
from une_jax.report import latents, probing
from une_jax.report.alignment import Source
from une_jax.zoo import View, Zoo

Method = Literal["probe", "means", "ridge"]
Keeping = Literal["euclidean", "conditional", "erasure"]
METHODS: tuple[Method, ...] = get_args(Method)
KEEPINGS: tuple[Keeping, ...] = get_args(Keeping)
# Whose move is the normal of what reads the score.
READERS = ("probe", "ridge")

_at = jax.jit(maps.at)
_pca = jax.jit(pca.fit, static_argnames="k")
_evaluate = jax.jit(metrics.evaluate)
_spread = jax.jit(jax.vmap(edits.projection_std, in_axes=(None, 0)))
_unit, _unit_rows = jax.jit(unit), jax.jit(unit_rows)
_euclidean = jax.jit(edits.orthogonalize)
_conditional = jax.jit(keeping.conditional)
_eraser, _erase = jax.jit(keeping.eraser), jax.jit(keeping.erase)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What one view's train rows teach; get one from :func:`teach`.

    Attributes:
        directions: of every attribute that has one, with nothing kept.
        auc: of each reader's scores on the test rows; NaN where those are of one class.
        train: the rows.
        labels: theirs, in the order of ``directions.names``: 0/1, or the scores.
        components: of PCA, within which traces of labels are erased.
    """

    directions: Directions
    auc: dict[str, float]
    train: Float[np.ndarray, "n d"]
    labels: Shaped[np.ndarray, "n m"]
    components: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.directions.names

    def held(
        self,
        names: Sequence[str],
        keep: Sequence[str] = (),
        how: Keeping = "euclidean",
    ) -> Directions:
        """These attributes' directions with ``keep`` left alone, as :func:`hold` does.

        Raises:
            UneError: as there, or an attribute that would be kept from itself.
        """
        for name in names:
            if name in keep:
                raise UneError(f"{name} is to be changed and kept; do one of the two")
        own = self.directions
        return self.hold(_take(own, [own.index(name) for name in names]), keep, how)

    def hold(
        self,
        directions: Directions,
        keep: Sequence[str],
        how: Keeping = "euclidean",
    ) -> Directions:
        """Any directions of this view with the attributes ``keep`` left alone.

        ``method`` then also says ``keep``, ``how`` and, by name, ``cosines`` (of the
        direction and those of the kept, with each other), ``left`` (cosine of the move
        with its own reader: how much of each step still goes its way) and ``leak``
        (cosines with the kept ones' readers: 0 where their scores stay).

        Raises:
            UneError: an unknown name, directions of another view, or nothing left of
                one beside the kept ones.
        """
        own = self.directions
        directions.require(own.view)
        others = [own.index(name) for name in keep]
        if not others:
            return directions
        reads = directions.method.get("name") in READERS
        found = self._without(jnp.asarray(directions.moves), others, how, reads)
        for name, move in zip(directions.names, found, strict=True):
            if not bool(jnp.any(move)):
                raise UneError(
                    f"{name} has no direction of its own in {own.view.name} beside "
                    f"{', '.join(keep)}; keep fewer"
                )
        size = np.linalg.norm(np.asarray(found), axis=1)
        if how == "conditional" or (how == "erasure" and reads):  # lengths of patterns
            size = np.ones_like(size)
        moves = np.asarray(_unit_rows(found))
        readers, kept = (
            np.asarray(_unit_rows(jnp.asarray(rows)))
            for rows in (directions.readers, own.readers[others])
        )
        leak = moves @ kept.T
        cost: dict[str, Any] = {
            "keep": list(keep),
            "how": how,
            "cosines": {},
            "left": {},
            "leak": {},
        }
        for i, name in enumerate(directions.names):
            every = np.concatenate([directions.moves[i : i + 1], own.moves[others]])
            cost["cosines"][name] = _rounded(every @ every.T)
            cost["left"][name] = float(moves[i] @ readers[i])
            cost["leak"][name] = _rounded(leak[i])
        return replace(
            directions,
            moves=moves,
            spread=np.asarray(_spread(jnp.asarray(self.train), jnp.asarray(moves))),
            length=(size * directions.length).astype(np.float32),
            method=directions.method | cost,
        )

    def entangled(self, name: str, most: int = 3) -> tuple[str, ...]:
        """The attributes whose directions are closest to this one's, up to sign: what
        an edit of it carries along."""
        return self.directions.entangled(name, most)

    @jax.default_matmul_precision("float32")
    def _without(
        self, moves: Array, others: list[int], how: Keeping, reads: bool
    ) -> Array:
        x, readers = jnp.asarray(self.train), jnp.asarray(self.directions.readers[others])  # fmt: skip
        if how == "euclidean":
            return jnp.stack([_euclidean(w, readers) for w in moves])
        if how == "conditional":
            return jnp.stack([_conditional(w, readers, x) for w in moves])
        if reads:
            nothing = jnp.zeros_like(readers[:1])
            moves = jnp.stack([_unit(_conditional(w, nothing, x)) for w in moves])
        found = _pca(x, k=self.components)
        rows = (x - found.mean[None]) @ found.basis
        traces = _eraser(rows, jnp.asarray(self.labels[:, others]))
        inside = moves @ found.basis
        erased = jnp.stack([_erase(traces, v) for v in inside])
        # What lies outside the components has no trace that could be told from noise.
        return moves + (erased - inside) @ found.basis.T


def teach(
    zoo: Zoo,
    view: str,
    *,
    method: Method = "probe",
    scores: Float[np.ndarray, "n a"] | None = None,
) -> Teacher:
    """Directions of all attributes in one view, from the train rows.

    Args:
        method: see ``METHODS``.
        scores: for ``"ridge"``: continuous scores of the n ok rows, in the attributes'
            order; without, the attributes as 0 and 1.

    Raises:
        UneError: no such view, too few rows, values that are not finite, or no
            attribute of which the train rows have both classes.
    """
    if method not in METHODS:
        raise UneError(f"method is {method!r}; use one of {', '.join(METHODS)}")
    described = zoo[view].view
    train, test = probing.rows_of(zoo)
    settings: dict[str, Any] = {"name": method, "train_rows": len(train)}
    components = latents.COMPONENTS[described.kind]
    labels = zoo.attributes[train]
    if method == "probe":
        probed = probing.probe_view(zoo, view)
        x, auc = probed.train, np.asarray(probed.metrics.auc)
        readers, bias = np.asarray(probed.probe.weight), np.asarray(probed.probe.bias)
        settings |= {"components": components, "l2": 1.0}
    else:
        x = latents.read(zoo, view, train)
        if method == "means":
            readers, bias = _mean_differences(x, labels)
        else:
            wanted = zoo.attributes if scores is None else np.asarray(scores)
            if wanted.shape != zoo.attributes.shape or not np.isfinite(wanted).all():
                raise UneError(
                    f"scores have shape {wanted.shape} or hold NaN; give finite ones of "
                    f"{zoo.attributes.shape}: the ok rows' attributes"
                )
            labels = wanted[train].astype(np.float32)
            path, alpha = Source(x).ridge(labels)
            fitted = _at(path, jnp.float32(alpha))
            readers, bias = np.asarray(fitted.weight).T, np.asarray(fitted.bias)
            settings |= {"scores": "0/1" if scores is None else "given", "alpha": alpha}
        said = latents.read(zoo, view, test) @ readers.T + bias
        auc = np.asarray(_evaluate(jnp.asarray(said), jnp.asarray(zoo.attributes[test])).auc)  # fmt: skip
    # Of an attribute that all rows have, or none, there is nothing to learn.
    there = np.flatnonzero(zoo.attributes[train].any(0) & ~zoo.attributes[train].all(0) & readers.any(1))  # fmt: skip
    if not len(there):
        raise UneError(f"{view}: no attribute has train rows with and without it")
    names = tuple(zoo.attribute_names[i] for i in there)
    directions = _directions(zoo, described, names, x, readers[there], readers[there], bias[there], settings)  # fmt: skip
    return Teacher(
        directions=directions,
        auc={name: float(auc[i]) for name, i in zip(names, there, strict=True)},
        train=x,
        labels=labels[:, there],
        components=components,
    )


def carried(
    zoo: Zoo,
    source: str,
    target: str,
    names: Sequence[str],
    vectors: Float[np.ndarray, "m e"],
) -> Directions:
    """Directions of one view as another view has them: text, carried into noise.

    A difference of two CLIP text embeddings is a direction among CLIP's image
    embeddings. Ridge maps between the views, fitted on the train rows with penalties of
    the least leave-one-out error, take it over: the move is where the map from
    ``source`` sends it, the reader what the map to ``source`` finds of it.

    Args:
        source, target: the views from and to which.
        names: what each one changes.
        vectors: one in ``source`` for each name, at any length.

    Raises:
        UneError: no such view, vectors that do not fit, too few rows, or a direction of
            which nothing arrives.
    """
    described = zoo[target].view
    vectors = np.asarray(vectors, np.float32)
    width = int(np.prod(zoo[source].view.shape))
    if vectors.shape != (len(names), width):
        raise UneError(
            f"vectors have shape {vectors.shape}; {source} needs {(len(names), width)}"
        )
    train, _ = probing.rows_of(zoo)
    here, there = (latents.read(zoo, view, train) for view in (source, target))
    onto, back = (
        _at(path, jnp.float32(alpha))
        for path, alpha in (Source(here).ridge(there), Source(there).ridge(here))
    )
    unit = np.asarray(_unit_rows(jnp.asarray(vectors)))
    moves = unit @ np.asarray(onto.weight)
    readers = unit @ np.asarray(back.weight).T
    bias = unit @ (np.asarray(back.bias) - here.mean(0))
    for name, move in zip(names, moves, strict=True):
        if not move.any():
            raise UneError(f"nothing of {name!r} arrives in {target}")
    settings = {"name": "carried", "source": source, "train_rows": len(train)}
    return _directions(zoo, described, tuple(names), there, moves, readers, bias, settings)  # fmt: skip


def random_like(directions: Directions, key: PRNGKeyArray) -> Directions:
    """The control: as many random moves that go as far, under the same names."""
    shape = directions.moves.shape
    moves = _unit_rows(jax.random.normal(key, shape))
    method = {"name": "random", "like": directions.method}
    return replace(directions, moves=np.asarray(moves), method=method)


def _mean_differences(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The classes' difference of means as the reader, 0 half-way between them."""
    y = labels.astype(np.float64)
    count = np.maximum(y.sum(0), 1)[:, None], np.maximum((1 - y).sum(0), 1)[:, None]
    have, lack = y.T @ x / count[0], (1 - y).T @ x / count[1]
    w = have - lack
    return w.astype(np.float32), (-(w * (have + lack)).sum(1) / 2).astype(np.float32)


def _directions(
    zoo: Zoo,
    view: View,
    names: tuple[str, ...],
    x: np.ndarray,
    found: np.ndarray,
    readers: np.ndarray,
    bias: np.ndarray,
    method: dict[str, Any],
) -> Directions:
    moves = _unit_rows(jnp.asarray(found, jnp.float32))
    return Directions(
        names=names,
        moves=np.asarray(moves),
        spread=np.asarray(_spread(jnp.asarray(x), moves)),
        length=np.linalg.norm(found, axis=1).astype(np.float32),
        readers=readers.astype(np.float32),
        bias=bias.astype(np.float32),
        view=view,
        zoo=images.sha256(zoo.path / "manifest.json"),
        method=method,
    )


def _take(directions: Directions, at: list[int]) -> Directions:
    arrays = ("moves", "spread", "length", "readers", "bias")
    return replace(
        directions,
        names=tuple(directions.names[i] for i in at),
        **{name: getattr(directions, name)[at] for name in arrays},
    )


def _rounded(cosines: np.ndarray) -> list[Any]:
    return np.round(cosines.astype(np.float64), 6).tolist()
