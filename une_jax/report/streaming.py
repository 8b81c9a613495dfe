"""Shared spaces of a zoo that is larger than memory."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from une_jax import gcca, grams
from une_jax.errors import UneError
from une_jax.report import latents
from une_jax.report.spaces import RHO
from une_jax.zoo import Zoo

_of = jax.jit(grams.of)
_add = jax.jit(grams.add, donate_argnums=0)
_principal = jax.jit(grams.principal, static_argnames=("components", "view"))


def fit(
    zoo: Zoo,
    views: Sequence[str],
    k: int,
    *,
    rho: float = RHO,
    components: int | None = None,
    block: int = 4096,
    done: Callable[[int], None] = lambda rows: None,
) -> gcca.Gcca:
    """The same fit on the train rows of a zoo that is larger than memory, in one pass.

    Memory is that of a block, and of the Gram matrix of all columns beside each other,
    four times. The result takes the views as they are in the zoo, flattened.

    Raises:
        UneError: a value that is not finite, named by its view.
    """
    rows = zoo.split("train")
    total = None
    for start in range(0, len(rows), block):
        some = rows[start : start + block]
        part = _of([jnp.asarray(latents.read(zoo, v, some)) for v in views])
        total = part if total is None else _add(total, part)
        done(len(some))
    if total is None:
        raise UneError(f"{zoo.path} has no train rows")
    bases = [
        _principal(total, min(_columns(zoo, v, components), len(rows) - 1), view=i)
        for i, v in enumerate(views)
    ]
    small = grams.project(total, bases)
    fitted = grams.fit(small, k, rho * float(total.count))
    maps = tuple(b @ a for b, a in zip(bases, fitted.maps, strict=True))
    return fitted._replace(maps=maps, means=total.means)


def _columns(zoo: Zoo, view: str, components: int | None) -> int:
    return latents.COMPONENTS[zoo[view].view.kind] if components is None else components
