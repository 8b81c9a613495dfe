"""Every ordered pair of views: the map, what it says of the test images, and how the
target's own probes read that."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from une_jax import agreement, lasso, probes, splits, stitching
from une_jax.report.latents import COMPONENTS
from une_jax.report.probing import interval, known_mean
from une_jax.report.roads.places import (
    BASELINES,
    ITSELF,
    MEAN,
    RANDOM,
    Latents,
    Place,
    where,
)
from une_jax.report.tables import Row

USUAL_LASSO = 0.02  # penalty of the probes for families that the paper has not
# A family as `Ways.kind` names it -> as the paper does.
WORDS = {"pixel diffusion": "dm", "flow": "nf", "VAE": "vae", "VQVAE": "vqvae", "GAN": "gan"}  # fmt: skip
REPLICATES = 1000
RANKED = 3000  # rows and dimensions

_fit_probe = jax.jit(probes.fit, static_argnames="components")
_fit_lasso = jax.jit(lasso.fit)
_bootstrap = jax.jit(agreement.bootstrap, static_argnames="replicates")
_score = jax.jit(stitching.score)
Answers = Callable[[Float[np.ndarray, "n d"]], Bool[np.ndarray, "n a"]]


@dataclass(frozen=True, kw_only=True)
class How:
    """How maps and probes are fitted.

    Attributes:
        kind: of map.
        paper: the paper's own penalties: those of its table for maps, lasso on balanced
            rows for probes. They fit the scales of its latents. Otherwise the penalty
            of a map has the least leave-one-out error, and probes are logistic.
        rank: of reduced-rank maps.
        families: the family of each view, as ``Ways.kind`` names it.
        models: the weights of each view's model: what one model says in two views is no
            road between models.
    """

    kind: str = "ridge"  # one of stitching.KINDS
    paper: bool = False
    rank: int | None = None
    families: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict)

    def same(self, source: str, target: str) -> bool:
        """Whether two views are of one model."""
        model = self.models.get(source)
        return model is not None and model == self.models.get(target)


class Stitched(NamedTuple):
    """One pair: its numbers, those of each attribute, and what the map makes of latents."""

    source: str
    target: str
    place: Place
    row: Row
    attributes: list[Row]
    guess: Float[np.ndarray, "k d"]  # of the first test images
    moves: dict[str, Float[np.ndarray, " d"]]  # the source's directions, by attribute


def stitch(
    places: tuple[Place, ...],
    sources: Sequence[str],
    targets: Sequence[str],
    how: How,
    *,
    keep: int,
    attributes: Sequence[str] = (),
    step: Callable[[str], None] = lambda pair: None,
) -> Iterator[Stitched]:
    """Every pair that some place has both views of, and there the baselines.

    The rows of a source are decomposed once for all targets. ``keep`` is of how many
    test images the mapped latents are given back; of ``attributes`` the source's
    directions are carried along; ``step`` is told of each pair.
    """
    answers: dict[tuple[str, str], Answers] = {}
    reached: dict[str, list[str]] = {place.name: [] for place in places}
    for target in targets:
        for at in (where(source, target, places) for source in sources if source != target):  # fmt: skip
            if at is not None and target not in reached[at.name]:
                reached[at.name].append(target)
    for source in (*sources, *BASELINES):
        for place in places:
            here = [
                target
                for target in reached[place.name]
                if source in BASELINES
                or (target != source and where(source, target, places) is place)
            ]
            road = y = found = None  # before the next source is in memory
            road = _road(place, source, attributes, how) if here else None
            for target in here:
                assert road is not None
                y = place.latents(target)
                if (place.name, target) not in answers and place.zoo.attribute_names:
                    answers[place.name, target] = _probe(place, y, target, how)
                found = road(target, y)
                said, each = {}, []
                if ask := answers.get((place.name, target)):
                    said, each = _agree(place, source, target, how, ask, found.tests, y)
                named: Row = {"source": source, "target": target, "images": place.name}
                named["same model"] = how.same(source, target)
                apart = _latents_apart(found.tests, y)
                yield Stitched(
                    source,
                    target,
                    place,
                    {**named, **found.row, **apart, **said},
                    each,
                    found.tests[:keep].copy(),  # not a view of all
                    found.moves,
                )
                step(f"{source} -> {target}")


class _Mapped(NamedTuple):
    tests: Float[np.ndarray, "m e"]
    row: Row
    moves: dict[str, Float[np.ndarray, " e"]]


def _road(
    place: Place, source: str, attributes: Sequence[str], how: How
) -> Callable[[str, Latents], _Mapped]:
    """From the rows of a source: a target, with its latents -> what is mapped there."""
    nothing: Row = {"map rows": len(place.rows.maps), "alpha": None, "rank": None}
    if source == ITSELF:
        return lambda target, y: _Mapped(y.tests, nothing, _moves(place, y, attributes))
    if source == MEAN:
        return lambda target, y: _Mapped(_mean_of(y), nothing, {})
    x = place.latents(source)
    rows = stitching.Source(x.maps)
    moves = {} if source == RANDOM else _moves(place, x, attributes)

    def road(target: str, y: Latents) -> _Mapped:
        alpha: float | Literal["loo"] = "loo"
        if how.paper:
            alpha = stitching.paper_alpha(_word(how, source), _word(how, target))
        fitted = rows.fit(y.maps, kind=how.kind, alpha=alpha, rank=how.rank)
        row: Row = {
            "map rows": len(x.maps),
            "alpha": float(fitted.alpha),
            "rank": _rank(fitted, x.maps.shape, y.maps.shape),
        }
        carried = {
            name: np.asarray(stitching.carry(jnp.asarray(move), fitted))
            for name, move in moves.items()
        }
        mapped = np.asarray(stitching.predict(fitted, jnp.asarray(x.tests)))
        return _Mapped(mapped, row, carried)

    return road


def _rank(fitted: stitching.Map, x: tuple[int, ...], y: tuple[int, ...]) -> int | None:
    """None where it would take minutes: singular values of ``RANKED`` and more."""
    return int(stitching.map_rank(fitted)) if min(*x, *y) <= RANKED else None


def _moves(
    place: Place, x: Latents, attributes: Sequence[str]
) -> dict[str, Float[np.ndarray, " d"]]:
    """The difference of each attribute's class means over the probes' images; without
    those of one class only."""
    found = {}
    for name in attributes:
        if name in place.zoo.attribute_names:
            column = place.zoo.attribute_names.index(name)
            has = place.zoo.attributes[place.rows.probes][:, column]
            if has.any() and not has.all():
                found[name] = x.probes[has].mean(0) - x.probes[~has].mean(0)
    return found


def _mean_of(y: Latents) -> Float[np.ndarray, "m e"]:
    mean = y.maps.mean(0, dtype=np.float64).astype(np.float32)
    return np.broadcast_to(mean, y.tests.shape)


def _latents_apart(mapped: Float[np.ndarray, "m e"], y: Latents) -> Row:
    """In the target's own units, and as a part of what the mean leaves unexplained."""
    mean = jnp.asarray(y.maps.mean(0, dtype=np.float64), jnp.float32)
    found = _score(jnp.asarray(mapped), jnp.asarray(y.tests), mean)
    return {
        "latent MSE": float(found.mse),
        "mean's MSE": float(found.mean_mse),
        "latent R²": float(found.r2),
    }


def _word(how: How, view: str) -> str:
    """The paper's word for a view's family; "" where it has none."""
    return WORDS.get(how.families.get(view, ""), "")


def _probe(place: Place, y: Latents, target: str, how: How) -> Answers:
    """The target's probes of all attributes, fitted on its own latents."""
    labels = place.zoo.attributes[place.rows.probes]
    if how.paper:
        alpha = stitching.PAPER_PROBE_ALPHAS.get(_word(how, target), USUAL_LASSO)
        train, _ = splits.balanced(jnp.asarray(labels), fraction=1.0)
        found = _fit_lasso(
            jnp.asarray(y.probes), jnp.asarray(labels), alpha, rows=train
        )
        weight, bias = np.asarray(found.weight), np.asarray(found.bias)
        return lambda x: x @ weight.T + bias >= 0.5
    components = min(COMPONENTS[place.zoo[target].view.kind], len(labels) - 1, y.probes.shape[1])  # fmt: skip
    probe = _fit_probe(
        jnp.asarray(y.probes), jnp.asarray(labels), components=components
    )
    weight, bias = np.asarray(probe.weight), np.asarray(probe.bias)
    return lambda x: x @ weight.T + bias > 0


def _agree(
    place: Place,
    source: str,
    target: str,
    how: How,
    ask: Answers,
    mapped: Float[np.ndarray, "m e"],
    y: Latents,
) -> tuple[Row, list[Row]]:
    """What the target's probes say of mapped latents, beside what they say of its own."""
    labels = jnp.asarray(place.zoo.attributes[place.rows.tests])
    own, said = (jnp.asarray(ask(x)) for x in (y.tests, mapped))
    found = agreement.compare(own, said)
    drawn = _bootstrap(jax.random.key(0), own, said, replicates=REPLICATES)
    columns = {
        "match": found.match,
        "chance": found.chance,
        "kappa": found.kappa,
        "own accuracy": (own == labels).mean(axis=0),
        "mapped accuracy": (said == labels).mean(axis=0),
        "accuracy change, %": 100 * agreement.accuracy_change(own, said, labels),
    }
    values = {name: np.asarray(column) for name, column in columns.items()}
    row: Row = {name: _mean(column) for name, column in values.items()}
    for name in ("match", "kappa"):
        low, high = interval(known_mean(np.asarray(getattr(drawn, name))))
        row |= {f"{name} low": low, f"{name} high": high}
    each: list[Row] = [
        {
            "source": source,
            "target": target,
            "images": place.name,
            "attribute": attribute,
            "same model": how.same(source, target),
            **{name: float(column[a]) for name, column in values.items()},
        }
        for a, attribute in enumerate(place.zoo.attribute_names)
    ]
    return row, each


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
