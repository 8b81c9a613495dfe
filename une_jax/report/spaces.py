"""The paper's shared spaces of a zoo: views brought to components, then GCCA.

Each view is centred, brought to its principal components and standardised on the train
rows, as for the paper's probes. A set of views gives one GCCA; its codes of the first k
dimensions are those of a GCCA with that k, so one fit serves all k.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from une_jax import gcca, grams
from une_jax.errors import UneError
from une_jax.report import latents
from une_jax.report.published import model_of
from une_jax.zoo import Zoo

# The paper's sets of views (its section 4.4), by its models.
SETS = {
    "X1": ("sd21", "lcm7", "clip-b16", "dinov3-l16"),
    "X2": ("sd15", "lcm7", "openclip-b16", "dinov3-l16"),
    "X3": ("sd15", "sd21", "clip-l14", "openclip-b16"),
    "X4": ("sd15", "sd21", "clip-l14", "dinov3-l16"),
    "X5": ("sd15", "sd21", "lcm7", "clip-l14", "openclip-b16", "dinov3-l16"),
}
SINGLES = ("clip-b16", "sd15")  # whose PCA the paper draws beside
KS = (16, 32, 64, 128, 256, 512)
RHO = 1e-2  # ridge, in units of the mean eigenvalue of a view's Gram matrix
CONTROL = " unpaired (control)"

_fit = jax.jit(gcca.fit, static_argnames="k")
_hybrid = jax.jit(gcca.hybrid)
_transform = jax.jit(gcca.transform)
_of = jax.jit(grams.of)
_principal = jax.jit(grams.principal, static_argnames=("components", "view"))


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space that holds every image: a shared one, or one view's components."""

    name: str
    views: tuple[str, ...]
    train: Float[np.ndarray, "n k"]  # the first dimension matters most
    test: Float[np.ndarray, "m k"]
    fitted: gcca.Gcca | None = None


@dataclass(frozen=True, kw_only=True)
class Views:
    """Views of a zoo, brought to standardised components."""

    zoo: Zoo
    train: Mapping[str, Float[np.ndarray, "n _"]]
    test: Mapping[str, Float[np.ndarray, "m _"]]


def sets(views: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Those of the paper's sets whose models, or their miniatures, are all among these
    views; if there is none, one set of all.

    >>> sets(["mini-sd15", "mini-sd21", "mini-clip-p8", "mini-openclip-p16"])
    {'X3': ('mini-sd15', 'mini-sd21', 'mini-clip-p8', 'mini-openclip-p16')}
    """
    at = {model_of(view): view for view in views}
    found = {
        name: tuple(at[m] for m in models)
        for name, models in SETS.items()
        if all(m in at for m in models)
    }
    return found or {"all": tuple(views)}


def prepare(
    zoo: Zoo,
    views: Sequence[str],
    *,
    components: int | None = None,
    limit: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Views:
    """Standardised principal components (the paper's 500 or 310 at most) of each view.

    Raises:
        UneError: too few rows; a value that is not finite, named by its view.
    """
    rows = {"train": zoo.split("train")[:limit], "test": zoo.split("test")}
    if len(rows["train"]) < 3 or len(rows["test"]) < 3:
        raise UneError(f"{zoo.path} has too few train or test rows: 3 of each at least")
    train, test = {}, {}
    for view in views:
        x, new = (latents.read(zoo, view, r) for r in rows.values())
        most = (
            latents.COMPONENTS[zoo[view].view.kind]
            if components is None
            else components
        )
        train[view], test[view] = standardised(x, new, most)
        done()
    return Views(zoo=zoo, train=train, test=test)


def share(
    prepared: Views,
    views: Sequence[str],
    k: int,
    *,
    name: str,
    rho: float = RHO,
    hybrid: bool = False,
    unpaired: bool = False,
) -> Space:
    """The space of a set of views; ``unpaired``: their train rows shuffled apart."""
    x = [prepared.train[v] for v in views]
    if unpaired:
        rng = np.random.default_rng(0)
        x = [rng.permutation(rows) for rows in x]
    x = [jnp.asarray(rows) for rows in x]
    fitted = _fit(x, k, ridge(x, rho))
    if hybrid:
        fitted = _hybrid(fitted, x)
    # Codes with a standard deviation of 1.
    scale = np.sqrt(np.float32(len(x[0])))
    codes = [
        np.asarray(_transform(fitted, [jnp.asarray(part[v]) for v in views])) * scale
        for part in (prepared.train, prepared.test)
    ]
    return Space(
        name=name, views=tuple(views), train=codes[0], test=codes[1], fitted=fitted
    )


def single(prepared: Views, view: str) -> Space:
    """The principal components of one view."""
    return Space(
        name=f"{view} PCA",
        views=(view,),
        train=prepared.train[view],
        test=prepared.test[view],
    )


def spaces(
    prepared: Views,
    *,
    k: int = max(KS),
    rho: float = RHO,
    hybrid: bool = False,
    done: Callable[[], None] = lambda: None,
) -> list[Space]:
    """The paper's X1..X5 as far as the views go, the largest with its pairing undone,
    and the components of single views."""
    named = sets(list(prepared.train))
    found = []
    for name, views in named.items():
        found.append(
            share(
                prepared,
                views,
                _most(prepared, views, k),
                name=name,
                rho=rho,
                hybrid=hybrid,
            )  # fmt: skip
        )
        done()
    name, views = max(named.items(), key=lambda item: len(item[1]))
    found.append(
        share(
            prepared,
            views,
            _most(prepared, views, k),
            name=name + CONTROL,
            rho=rho,
            hybrid=hybrid,
            unpaired=True,
        )
    )
    done()
    alone = [v for v in prepared.train if model_of(v) in SINGLES]
    return found + [single(prepared, v) for v in alone or list(prepared.train)[:2]]


def ridge(x: Sequence[jax.Array], rho: float) -> jax.Array:
    """r_i of the paper: rho times the mean eigenvalue of each view's Gram matrix."""
    sizes = [jnp.sum(rows**2) / rows.shape[1] for rows in x]
    return rho * jnp.stack(sizes)


def _most(prepared: Views, views: Sequence[str], k: int) -> int:
    columns = sum(prepared.train[v].shape[1] for v in views)
    return min(k, columns, len(prepared.train[views[0]]) - 1)


def standardised(
    x: Float[np.ndarray, "n d"], new: Float[np.ndarray, "m d"], most: int
) -> tuple[Float[np.ndarray, "n _"], Float[np.ndarray, "m _"]]:
    """Standardised principal components, the largest first; null ones left out.

    ``most`` of them at most, of the rows ``x``; ``new`` ones in the same units.
    """
    moments = _of([jnp.asarray(x)])
    c = min(most, x.shape[1], len(x) - 1)
    basis = np.asarray(_principal(moments, c, view=0))
    basis, mean = basis[:, basis.any(axis=0)], np.asarray(moments.means[0])
    z = (x - mean) @ basis
    # To rounding: a Gram matrix knows small components less well than the rows do.
    shift, scale = z.mean(axis=0), z.std(axis=0)
    return (z - shift) / scale, ((new - mean) @ basis - shift) / scale
