"""Named sites: activations read out of a network and offsets added into it.

Every network calls ``x = site(name, x)`` at its named places. With nothing asked that
is the identity; ``Sites`` adds the caller's deltas there and keeps what is tapped. It
lives for one trace of one ``apply``: no hooks, and no state on a module.
"""

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Array

Site = Callable[[str, Array], Array]


class SiteError(ValueError):
    """A site that this forward pass does not have, or a delta that does not fit it."""


def untouched(name: str, x: Array) -> Array:
    """The site of a plain forward pass."""
    del name
    return x


class Sites:
    """Adds ``deltas`` at their sites, then keeps the values at the ``taps``."""

    def __init__(self, taps: Sequence[str], deltas: Mapping[str, Array]):
        self.taps, self.deltas = tuple(taps), deltas
        self.names: list[str] = []
        self.found: dict[str, Array] = {}

    def __call__(self, name: str, x: Array) -> Array:
        self.names.append(name)
        if name in self.deltas:
            x = x + _fitted(name, self.deltas[name], x)
        if name in self.taps:
            self.found[name] = x
        return x

    def check(self) -> None:
        """SiteError where a name was asked that the forward pass never met."""
        asked = (*self.taps, *self.deltas)
        if unknown := [name for name in asked if name not in self.names]:
            raise SiteError(
                f"no site {', '.join(map(repr, unknown))} in this forward pass; it has "
                f"{', '.join(self.names) or 'none'}"
            )


def _fitted(name: str, delta: Array, x: Array) -> Array:
    """The delta with leading axes of one where it has fewer, in x's dtype."""
    shape = (1,) * (x.ndim - delta.ndim) + delta.shape
    fits = len(shape) == x.ndim and all(
        a in (1, b) for a, b in zip(shape, x.shape, strict=True)
    )
    if not fits:
        raise SiteError(
            f"delta at {name!r} has shape {delta.shape}, which does not broadcast to "
            f"the site's {x.shape}"
        )
    return delta.reshape(shape).astype(x.dtype)
