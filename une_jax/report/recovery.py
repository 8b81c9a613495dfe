"""How much of the true embedding of miniature faces each view and shared space recovers.

The renderer draws each face from z ~ N(0, I) (``miniature.factors``): what the paper
can only suppose is known here. Recovery is that of a linear (ridge) map from a space's
codes to z, fitted on the train rows and judged on the test rows. R² averaged over an
orthonormal basis of z does not depend on the basis; 32 times it counts dimensions. Some
of z need not be in an image at all: the hue of a hat that is not worn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from une_jax import maps
from une_jax.report import spaces
from une_jax.report.known import of_zoo
from une_jax.report.latents import flat
from une_jax.report.recovered import CONTROL, PCA, SHARED, SIDE_BY_SIDE, K, Recovered
from une_jax.zoo import Zoo

ALPHAS = jnp.logspace(-5, 2, 15)  # in mean eigenvalues of the codes' Gram matrix
KS = (4, 8, 16, 32, 64, 128, 256)
SUBSETS = 3  # of the views, at each number of them


@dataclass(frozen=True, kw_only=True)
class Study:
    """A zoo's views, as components, beside the truth of the same rows."""

    views: spaces.Views
    names: tuple[str, ...]  # of the views that shared spaces are made of
    z: Float[np.ndarray, "n 32"]
    z_new: Float[np.ndarray, "m 32"]


def prepare(
    zoo: Zoo, path: Path, views: Sequence[str], done: Callable[[], None] = lambda: None
) -> Study:
    """Reads the views and the truth of their rows.

    Raises:
        UneError: the file is not the truth of these images.
    """
    found = of_zoo(path, zoo)
    z = np.asarray(found.z)
    kinds = {view.name: view.kind for view in zoo.manifest.views}
    return Study(
        views=spaces.prepare(zoo, views, done=done),
        names=tuple(name for name in views if kinds[name] != "control"),
        z=z[zoo.split("train")],
        z_new=z[zoo.split("test")],
    )


def by_view(study: Study) -> list[Recovered]:
    """Each view alone, all of them together, and together with z unpaired."""
    found = [
        _recovered(study, name, "view", 1, x, study.views.test[name])
        for name, x in study.views.train.items()
    ]
    both, count = _side_by_side(study), len(study.names)
    found.append(_recovered(study, SIDE_BY_SIDE, "view", count, *both))
    apart = replace(study, z=np.random.default_rng(0).permutation(study.z))
    found.append(_recovered(apart, CONTROL, "view", count, *both))
    return found


def by_k(study: Study, ks: Sequence[int] = KS) -> list[Recovered]:
    """The first k dimensions of the shared space, of the PCA of all views and of each
    view's own."""
    count = len(study.names)
    parts = {SHARED: (count, *_shared(study, study.names, max(ks)))}
    parts[PCA] = (count, *spaces.standardised(*_natural(study), max(ks)))
    for name in study.names:
        parts[f"{name} PCA"] = (1, study.views.train[name], study.views.test[name])
    return [
        _recovered(study, name, "k", views, x[:, :k], new[:, :k])
        for name, (views, x, new) in parts.items()
        for k in ks
        if k <= x.shape[1]
    ]


def by_views(
    study: Study, k: int = K, done: Callable[[], None] = lambda: None
) -> list[Recovered]:
    """k shared dimensions of some of the views, ``SUBSETS`` different ones a number."""
    rng, found = np.random.default_rng(0), []
    # Views of one width stand together: sets of the same widths compile once.
    width = {name: x.shape[1] for name, x in study.views.train.items()}
    names = sorted(study.names, key=lambda name: width[name])
    for count in numbers_of(study):
        drawn = {
            tuple(sorted(rng.choice(len(names), count, replace=False)))
            for _ in range(SUBSETS)
        }
        for chosen in sorted(drawn):
            codes = _shared(study, [names[i] for i in chosen], k)
            found.append(_recovered(study, SHARED, "views", count, *codes))
        done()
    return found


def by_n(
    study: Study,
    zoo: Zoo,
    sizes: Sequence[int],
    k: int = K,
    done: Callable[[], None] = lambda: None,
) -> list[Recovered]:
    """k shared dimensions, and all views side by side, of the first n train rows.

    Components, GCCA and the map to z all see only those.
    """
    found = []
    for n in sizes:
        fewer = Study(
            views=spaces.prepare(zoo, study.names, limit=n),
            names=study.names,
            z=study.z[:n],
            z_new=study.z_new,
        )
        count = len(study.names)
        codes = _shared(fewer, fewer.names, k)
        found.append(_recovered(fewer, SHARED, "n", count, *codes))
        natural = spaces.standardised(*_natural(fewer), k)
        found.append(_recovered(fewer, PCA, "n", count, *natural))
        both = _side_by_side(fewer)
        found.append(_recovered(fewer, SIDE_BY_SIDE, "n", count, *both))
        done()
    return found


def numbers_of(study: Study) -> list[int]:
    """Numbers of views: 2, 3, 4, 6, 8, 12, ... and all."""
    most = len(study.names)
    steps = [2, 3, *(m * 2**i for i in range(1, 9) for m in (2, 3))]
    return [n for n in steps if n < most] + [most]


def sizes_of(study: Study) -> list[int]:
    """Numbers of train rows, each twice the last, up to all."""
    n, sizes = len(study.z), []
    while n >= 200 and len(sizes) < 4:
        sizes.append(n)
        n //= 2
    return sizes[::-1] or [len(study.z)]


def _shared(
    study: Study, names: Sequence[str], k: int
) -> tuple[np.ndarray, np.ndarray]:
    widths = [study.views.train[name].shape[1] for name in names]
    k = min(k, sum(widths), len(study.z) - 1)
    space = spaces.share(study.views, names, k, name=SHARED)
    return space.train, space.test


def _side_by_side(study: Study) -> tuple[np.ndarray, np.ndarray]:
    train, test = (
        np.concatenate([part[name] for name in study.names], axis=1)
        for part in (study.views.train, study.views.test)
    )
    return train, test


def _natural(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """All views side by side with their own spectra, each of total variance 1.

    The rival of GCCA, which is the PCA of the same views whitened (Kettenring 1971).
    """
    zoo = study.views.zoo
    old, new = zoo.split("train")[: len(study.z)], zoo.split("test")
    train, test = [], []
    for name in study.names:
        x, x_new = flat(zoo[name][old]), flat(zoo[name][new])
        mean = x.mean(axis=0)
        size = max(float(np.sqrt(np.square(x - mean).sum(axis=1).mean())), 1e-30)
        train.append((x - mean) / size)
        test.append((x_new - mean) / size)
    return np.concatenate(train, axis=1), np.concatenate(test, axis=1)


def _recovered(
    study: Study, space: str, by: str, views: int, x: np.ndarray, new: np.ndarray
) -> Recovered:
    x, new = (np.asarray(a, np.float32) for a in (x, new))
    guess, guess_new = (np.asarray(g) for g in _read(x, study.z, new))
    wrong = np.square(study.z_new - guess_new).sum(axis=0)
    spread = np.square(study.z_new - study.z_new.mean(axis=0)).sum(axis=0)
    return Recovered(
        space=space,
        by=by,
        views=views,
        k=x.shape[1],
        n=len(x),
        r2=1 - wrong / spread,
        correlations=held_out(guess, study.z, guess_new, study.z_new),
    )


@jax.jit
def _read(
    x: Float[Array, "n k"], z: Float[Array, "n c"], new: Float[Array, "m k"]
) -> tuple[Float32[Array, "n c"], Float32[Array, "m c"]]:
    """z of the rows and of new ones by ridge, its penalty by leave-one-out."""
    factor = maps.factor(x)
    path = maps.path(factor, z, ALPHAS * factor.values.mean())
    return maps.predict(path, path.best, x), maps.predict(path, path.best, new)


def held_out(
    x: Float[np.ndarray, "n p"],
    y: Float[np.ndarray, "n q"],
    x_new: Float[np.ndarray, "m p"],
    y_new: Float[np.ndarray, "m q"],
) -> Float[np.ndarray, " q"]:
    """Correlations over new rows of the canonical pairs of the old ones, descending.

    Their arc cosines are angles between the spans of x and y that chance does not
    flatter. 0 for the pairs that x has not the rank for. Float64 inside.

    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> np.round(held_out(x[:99], x[:99, :2], x[99:], x[99:, :2]), 6).tolist()
    [1.0, 1.0]
    """
    (a, a_new), (b, b_new) = _white(x, x_new), _white(y, y_new)
    u, _, vt = np.linalg.svd(a.T @ b, full_matrices=False)
    a_new, b_new = a_new @ u, b_new @ vt.T
    a_new, b_new = a_new - a_new.mean(axis=0), b_new - b_new.mean(axis=0)
    size = np.sqrt((a_new**2).sum(axis=0) * (b_new**2).sum(axis=0))
    found = np.zeros(y.shape[1])
    found[: len(size)] = (a_new * b_new).sum(axis=0) / np.where(size > 0, size, 1)
    return np.sort(found)[::-1]


def _white(x: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = x.mean(axis=0, dtype=np.float64)
    x, new = x - mean, new - mean
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    keep = s > 1e-6 * max(s[0], np.finfo(float).tiny)
    whiten = vt[keep].T / s[keep]
    return x @ whiten, new @ whiten
