"""Stitching: one model's latents, mapped linearly into another's, for it to decode.

The arithmetic of Badrinath et al., "All Roads Lead to Rome?": which map, with which
penalty, on which images. :class:`Source` decomposes the rows mapped from once for all
targets; the maps themselves are :mod:`une_jax.factored`'s.
"""

import functools as ft
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from une_jax import factored, least_squares, maps
from une_jax.errors import UneError
from une_jax.factored import Map as Map
from une_jax.pairing import Rows
from une_jax.pairing import check_rows as check_rows
from une_jax.pairing import disjoint as disjoint

KINDS = ("ridge", "ols", "procrustes", "reduced_rank")

# Table 1: (from, to) -> the penalty on the summed squared error. They belong to the
# paper's latents, in whose units they are, and to its 9,000 images.
PAPER_ALPHAS: dict[tuple[str, str], float] = {
    ("dm", "gan"): 2000.0,
    ("dm", "vae"): 100.0,
    ("dm", "vqvae"): 5000.0,
    ("dm", "nf"): 5000.0,
    ("nf", "gan"): 50000.0,
    ("nf", "vae"): 5000.0,
    ("nf", "vqvae"): 50000.0,
    ("nf", "dm"): 50000.0,
}
PAPER_PROBE_ALPHAS: dict[str, float] = {"vae": 0.005, "vqvae": 0.005, "dm": 0.02, "nf": 0.1}  # fmt: skip

# To choose from, in units of the mean eigenvalue of the rows' Gram matrix.
ALPHAS = tuple(10.0 ** (k / 2) for k in range(-8, 9))

# Compiled: to be called on their own, as well as within programs.
carry, predict = jax.jit(factored.carry), jax.jit(factored.predict)
compose, weight = jax.jit(factored.compose), jax.jit(factored.weight)
linear = jax.jit(factored.linear)
map_rank = jax.jit(factored.map_rank, static_argnames="part")
_gram, _factor = jax.jit(factored.gram), jax.jit(maps.factor)
_inside = jax.jit(factored.inside)
_least_squares = jax.jit(factored.least_squares_solver)
_rotation = jax.jit(maps.rotation, static_argnames="scale")


# What comes out of a program as it went in is copied: rows and factors are left out.
@jax.jit
def _penalised(of: factored.Gram, alpha: Array) -> factored.Solver:
    found = factored.solver(of, alpha)
    return found if found.dual is None else found._replace(rows=jnp.zeros((0, 0)))


@jax.jit
def _ridge(of: factored.Solver, y: Array) -> Map:
    return factored.ridge(of, y)._replace(rows=None, dual=None)


@jax.jit
def _best(factor: maps.Factor, y: Array, alphas: Array) -> Map:
    path = maps.path(factor, y, alphas)
    return factored.on_path(path, path.best)._replace(rows=None)


@jax.jit
@jax.default_matmul_precision("float32")
def _outside(inside: Array, core: Array, bias: Array) -> Array:
    return inside @ core + bias[None]


@ft.partial(jax.jit, static_argnames="rank")
def _best_of_rank(factor: maps.Factor, y: Array, alphas: Array, rank: int) -> Map:
    path = maps.path(factor, y, alphas)
    left, right = maps.low_rank(path, path.best, rank)
    return Map(factor.mean, left.T, None, right, path.mean, path.best)


class Scores(NamedTuple):
    """How near mapped latents come, on rows that the map was not fitted to."""

    mse: Float32[Array, ""]  # mean over rows and dimensions, in the target's own units
    r2: Float32[Array, ""]  # 1 - squared error / that about the rows' mean, all summed
    r2_each: Float32[Array, " e"]  # by dimension; NaN where one does not vary
    mean_mse: Float32[Array, ""]  # of saying the train rows' mean instead
    skill: Float32[Array, ""]  # 1 - mse / mean_mse: above 0, the source told something


class Source:
    """The rows (n, d) to map from; what they are decomposed into is kept for all targets.

    A penalty that is given takes a Gram matrix, once, and a Cholesky factor (or QR) for
    each value; the choice by leave-one-out and reduced rank take an eigendecomposition,
    several times dearer from some 3,000 rows and dimensions up.

    Raises:
        UneError: as :func:`check_rows`.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = Source(x).fit(2 * x + 1, alpha=1e-4)
    >>> predict(m, jnp.ones((1, 3))).round(2).tolist()
    [[3.0, 3.0, 3.0]]
    """

    def __init__(self, x: Rows):
        check_rows(x)
        self.x = jnp.asarray(x, jnp.float32)
        # The mean eigenvalue of the Gram matrix, of those that can differ from 0.
        rows = min(len(x) - 1, x.shape[1])
        self.scale = float(jnp.var(self.x, axis=0).sum() * len(x) / rows)
        self._gram: factored.Gram | None = None
        self._solvers: dict[float | None, factored.Solver] = {}
        self._factor: maps.Factor | None = None
        self._basis: Array | None = None  # of the factor, turned

    def fit(
        self,
        y: Rows,
        *,
        kind: str = "ridge",
        alpha: float | str = "loo",
        relative: bool = False,
        rank: int | None = None,
        scale: bool = True,
    ) -> Map:
        """The map from these rows to paired targets (n, e).

        Args:
            kind: "ridge"; "ols", least squares of minimal norm; "procrustes", a
                rotation; "reduced_rank", ridge of a rank given.
            alpha: of ridge and reduced rank: the penalty on the summed squared error,
                or "loo": of :data:`ALPHAS` the one with the least leave-one-out error.
                At 0 or below, ridge is "ols".
            relative: ``alpha`` is in units of :attr:`scale`, so that it does not
                depend on the latents' units.
            rank: of reduced rank.
            scale: of Procrustes: whether with the factor that fits best.

        Raises:
            UneError: as :func:`check_rows`; for an unknown kind, or a rank that is
                missing, not asked for, or more than rows and dimensions allow.
        """
        check_rows(y, names=("y", ""))
        targets = jnp.asarray(y, jnp.float32)
        least_squares.check_pairs(self.x, targets)
        if kind not in KINDS:
            raise UneError(f"no kind of map is {kind!r}; use one of {', '.join(KINDS)}")
        if (rank is not None) != (kind == "reduced_rank"):
            raise UneError(
                f"rank is {rank}: reduced_rank takes one, {kind} is the kind"
            )
        if isinstance(alpha, str) and alpha != "loo":
            raise UneError(f'alpha is {alpha!r}; use a number of 0 or more, or "loo"')
        if not isinstance(alpha, str) and not 0 <= alpha < np.inf:
            raise UneError(f'alpha is {alpha}; use a number of 0 or more, or "loo"')
        if kind == "procrustes":
            left, right, mean, bias = _rotation(self.x, targets, scale=scale)
            rows = None if left is None else left.T
            return Map(mean, rows, None, right, bias, jnp.float32(jnp.nan))
        unit = max(self.scale, 1e-30)
        absolute = None if isinstance(alpha, str) else alpha * (unit if relative else 1)
        if kind != "reduced_rank" and absolute is not None or kind == "ols":
            of = self._solver(None if kind == "ols" or absolute == 0 else absolute)
            rows = None if of.dual is None else of.rows
            return _ridge(of, targets)._replace(rows=rows, dual=of.dual)
        factor = self._factor = self._factor or _factor(self.x)
        tried = ALPHAS if absolute is None else (absolute / unit,)
        alphas = jnp.asarray(tried, jnp.float32) * unit
        if rank is not None:
            return _best_of_rank(factor, targets, alphas, rank=rank)
        found = _best(factor, targets, alphas)
        if len(found.core) == self.x.shape[1]:
            return found
        if self._basis is None:
            self._basis = factor.basis.T
        return found._replace(rows=self._basis)

    def _solver(self, alpha: float | None) -> factored.Solver:
        """Of this penalty; None is without, by least squares."""
        self._gram = self._gram or _gram(self.x)
        if alpha not in self._solvers:
            wide = self._gram.lower is not None
            if alpha is None and not wide:
                found = _least_squares(self._gram)
            else:
                found = _penalised(self._gram, jnp.float32(alpha or 0))
            rows = self._gram.rows if wide else found.rows
            self._solvers[alpha] = found._replace(rows=rows)
        return self._solvers[alpha]


def fit(
    source: Source,
    y: Rows,
    *,
    kind: str = "ridge",
    alpha: float | str = "loo",
    relative: bool = False,
    rank: int | None = None,
    scale: bool = True,
) -> Map:
    """:meth:`Source.fit`.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> m = fit(Source(x), x @ x[:3], kind="ols")
    >>> bool(jnp.allclose(weight(m), x[:3], atol=1e-4))
    True
    """
    return source.fit(
        y, kind=kind, alpha=alpha, relative=relative, rank=rank, scale=scale
    )


def predict_all(
    many: Sequence[Map], x: Float[Array, "n d"]
) -> list[Float32[Array, "n _"]]:
    """:func:`predict` of several maps from one :class:`Source`.

    What maps of one penalty have in common, nearly all of the work where there are
    more dimensions than rows, is done once.

    >>> x = jax.random.normal(jax.random.key(0), (5, 9))
    >>> source = Source(x)
    >>> [y.shape for y in predict_all([source.fit(x[:, :k], alpha=1.0) for k in (1, 4)], x)]
    [(5, 1), (5, 4)]
    """
    known: dict[tuple[int, int], Array] = {}
    found = []
    for m in many:
        if m.dual is None:
            found.append(predict(m, x))
            continue
        solver = id(m.rows), id(m.dual)
        if solver not in known:
            known[solver] = _inside(m, x)
        found.append(_outside(known[solver], m.core, m.bias))
    return found


def paper_alpha(source: str, target: str) -> float:
    """Of :data:`PAPER_ALPHAS`; 0, unregularised, for every other pair of families.

    >>> paper_alpha("nf", "dm"), paper_alpha("vae", "dm")
    (50000.0, 0.0)
    """
    return PAPER_ALPHAS.get((source, target), 0.0)


def score(
    guess: Float[Array, "n e"], truth: Float[Array, "m e"], mean: Float[Array, " e"]
) -> Scores:
    """How near ``guess`` is to ``truth``, beside saying the mean every time.

    Works under jit, vmap and grad.

    Args:
        guess, truth: paired held-out rows (m = n).
        mean: of the train rows; of a :class:`Map` that is its ``bias``.

    Raises:
        UneError: for rows that are not paired.

    >>> truth = jnp.array([[0.0, 1.0], [2.0, 1.0]])
    >>> found = score(truth * 0.5, truth, jnp.ones(2))
    >>> found.mse.item(), found.mean_mse.item(), found.r2.item(), found.skill.item()
    (0.375, 0.5, 0.25, 0.25)
    """
    if guess.shape != truth.shape:
        raise UneError(f"guesses are {guess.shape}, the truth is {truth.shape}")
    guess, truth = guess.astype(jnp.float32), truth.astype(jnp.float32)
    error = jnp.sum((guess - truth) ** 2, axis=0)
    spread = jnp.sum((truth - truth.mean(axis=0)[None]) ** 2, axis=0)
    from_mean = jnp.sum((truth - mean.astype(jnp.float32)[None]) ** 2)
    return Scores(
        mse=error.sum() / truth.size,
        r2=1 - _over(error.sum(), spread.sum()),
        r2_each=1 - _over(error, spread),
        mean_mse=from_mean / truth.size,
        skill=1 - _over(error.sum(), from_mean),
    )


def random_encoder(
    key: PRNGKeyArray, ids: Int[Array, " n"], dimensions: int = 512
) -> Float32[Array, "n dimensions"]:
    """The encoder that knows nothing: standard normal rows that depend on the id alone.

    The same image has the same row in every set. Works under jit (``dimensions``
    static) and vmap.

    >>> rows = random_encoder(jax.random.key(0), jnp.array([7, 3, 7]), 4)
    >>> bool((rows[0] == rows[2]).all()), bool((rows[0] == rows[1]).any())
    (True, False)
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
    return jax.vmap(lambda k: jax.random.normal(k, (dimensions,), jnp.float32))(keys)


def _over(a: Array, b: Array) -> Array:
    """a / b; NaN where b is 0, without a derivative that spoils the others'."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), jnp.nan)
