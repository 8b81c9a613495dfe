"""One-dimensional views of high-dimensional rows, for tests of normality.

Each is the dot product of one direction with a subset of the rows, drawn anew for every
direction without replacement, as in the paper's protocol (its Table 1; 250 rows, 5,000
random directions). A direction and its subset depend on the key and on the direction's
number only, not on how many there are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from une_jax.errors import UneError

# Numbers that a block of projections may hold at once (256 MB as float32).
BLOCK_NUMBERS = 2**26
# Multiplying all rows is quicker than fetching a subset of up to 1 / FETCH of them:
# the product runs from cache, the fetched rows are read once and used once.
FETCH = 16


@jax.default_matmul_precision("float32")
def random(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    *,
    projections: int = 5000,
    rows: int = 250,
) -> Float32[Array, "rows projections"]:
    """Projections on directions that are uniform on the sphere.

    Memory is bounded by blocks, whatever ``projections``; ``x`` itself is held once, in
    float32. Works under jit (``projections`` and ``rows`` static) and vmap.

    Raises:
        UneError: there are fewer than ``rows`` rows, or no projections.

    >>> x = jnp.ones((300, 4))
    >>> random(jax.random.key(0), x, projections=7).shape
    (250, 7)
    """
    n, d = x.shape
    _check(n, rows, projections)
    x = x.astype(jnp.float32)
    whole = n <= FETCH * rows
    block = max(1, min(projections, BLOCK_NUMBERS // (d + n if whole else d * rows)))

    def some(first: Array) -> Float32[Array, "block rows"]:
        index = first + jnp.arange(block)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
        directions = jax.vmap(lambda k: _direction(k, d))(keys)
        chosen = jax.vmap(lambda k: _subset(k, n, rows))(keys)
        if whole:
            return jnp.take_along_axis(directions @ x.T, chosen, axis=1)
        return jnp.einsum("brd,bd->br", x[chosen], directions)

    starts = jnp.arange(0, projections, block)
    return jax.lax.map(some, starts).reshape(-1, rows)[:projections].T


@jax.default_matmul_precision("float32")
def along(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    directions: Float[Array, "d p"],
    *,
    rows: int = 250,
) -> Float32[Array, "rows p"]:
    """Projections on given directions, such as those of ``pca.fit``.

    Raises:
        UneError: there are fewer than ``rows`` rows.

    >>> x = jnp.ones((300, 2))
    >>> along(jax.random.key(0), x, jnp.array([[1.0], [1.0]]))[0].tolist()
    [2.0]
    """
    n, p = len(x), directions.shape[1]
    _check(n, rows, p)
    seen = x.astype(jnp.float32) @ directions.astype(jnp.float32)
    return _subsets(key, seen, rows)


def coordinates(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    *,
    projections: int = 5000,
    rows: int = 250,
) -> Float32[Array, "rows p"]:
    """Single coordinates: all, or ``projections`` of them at random.

    Raises:
        UneError: there are fewer than ``rows`` rows, or no projections.

    >>> coordinates(jax.random.key(0), jnp.ones((300, 4))).shape
    (250, 4)
    """
    n, d = x.shape
    _check(n, rows, projections)
    if d > projections:
        x = x[:, _subset(jax.random.fold_in(key, d), d, projections)]
    return _subsets(key, x.astype(jnp.float32), rows)


def _check(n: int, rows: int, projections: int) -> None:
    if not 1 <= rows <= n:
        raise UneError(f"subsets of {rows} rows, of {n}; use 1 to {n}")
    if projections < 1:
        raise UneError(f"{projections} projections; use 1 or more")


def _direction(key: PRNGKeyArray, d: int) -> Float32[Array, " d"]:
    v = jax.random.normal(jax.random.fold_in(key, 0), (d,), jnp.float32)
    return v / jnp.linalg.norm(v)


def _subsets(key: PRNGKeyArray, seen: Array, rows: int) -> Float32[Array, "rows p"]:
    n, p = seen.shape
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(p))
    chosen = jax.vmap(lambda k: _subset(k, n, rows))(keys)
    return jnp.take_along_axis(seen, chosen.T, axis=0)


def _subset(key: PRNGKeyArray, n: int, rows: int) -> Int32[Array, " rows"]:
    """Without replacement, every set as likely as another; in no order worth a name.

    Floyd's algorithm (Bentley 1987, "A sample of brilliance"): a permutation of all n
    rows for each of 5,000 projections would take more time than all tests together.
    """
    if rows == n:
        return jnp.arange(n, dtype=jnp.int32)
    last = jnp.arange(n - rows, n, dtype=jnp.int32)
    drawn = jax.random.randint(jax.random.fold_in(key, 1), (rows,), 0, last + 1)

    def step(chosen: Array, i: Array) -> tuple[Array, None]:
        taken = (chosen == drawn[i]).any()
        return chosen.at[i].set(jnp.where(taken, last[i], drawn[i])), None

    empty = jnp.full(rows, -1, jnp.int32)
    return jax.lax.scan(step, empty, jnp.arange(rows, dtype=jnp.int32))[0]
