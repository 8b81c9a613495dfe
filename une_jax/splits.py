"""Which rows to fit on and which to test on."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, Shaped

from une_jax.errors import UneError
from une_jax.metrics import positive


def by_group(
    key: PRNGKeyArray, groups: Int[Array, " n"], *, fraction: float = 0.8
) -> Bool[Array, " n"]:
    """True for the train rows: whole groups (identities), together ``fraction`` of rows.

    A random split of CelebA has the same people on both sides. Here each group draws a
    number, and those of small numbers are taken until the part of the rows is reached,
    as nearly as whole groups allow. Works under jit and vmap (``fraction`` static).

    Raises:
        UneError: ``fraction`` is not between 0 and 1.

    >>> train = by_group(jax.random.key(0), jnp.array([7, 7, 9, 9, 9, 4, 4]))
    >>> bool(train[0] == train[1]), bool(train[2] == train[3])
    (True, True)
    """
    if not 0 < fraction < 1:
        raise UneError(f"fraction is {fraction}; use more than 0 and less than 1")
    keys = jax.vmap(lambda group: jax.random.fold_in(key, group))(groups)
    drawn = jax.vmap(jax.random.bits)(keys)
    ordered = jnp.sort(drawn)
    first = jnp.searchsorted(ordered, drawn, side="left")
    stop = jnp.searchsorted(ordered, drawn, side="right")
    # In, where the group's middle row is.
    return (first + stop).astype(jnp.float32) <= 2 * fraction * len(groups)


def balanced(
    y: Shaped[Array, "n a"], *, fraction: float = 0.8
) -> tuple[Bool[Array, "n a"], Bool[Array, "n a"]]:
    """Train and test rows of each attribute, as many positives as negatives in each.

    With m the number of the rarer class: the first ``int(fraction m)`` rows of each
    class train, its last ``m - int(fraction m)`` test (Badrinath et al., "All Roads
    Lead to Rome?", their code's probe). Of one class there are none. Works under jit
    and vmap (``fraction`` static).

    >>> y = jnp.array([1, 0, 0, 1, 0, 0])[:, None]
    >>> [part[:, 0].astype(int).tolist() for part in balanced(y, fraction=0.5)]
    [[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 1]]
    """
    y = positive(y)
    train, test = jnp.zeros(y.shape, bool), jnp.zeros(y.shape, bool)
    rarer = jnp.minimum(y.sum(axis=0), (~y).sum(axis=0))
    first = (fraction * rarer.astype(jnp.float32) + 1e-4).astype(jnp.int32)[
        None
    ]  # 0.8 * 5 is 4
    for of in (y, ~y):
        place = jnp.cumsum(of, axis=0)  # 1 for the class' first row
        train |= of & (place <= first)
        test |= of & (place > of.sum(axis=0)[None] - (rarer[None] - first))
    return train, test
