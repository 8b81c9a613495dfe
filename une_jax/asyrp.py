"""Asyrp's implicit function: a small network that says how to move h at any timestep.

Kwon et al. 2023, arXiv 2210.10960: for each attribute one f,
shared by all timesteps, gives the move f(h, t) from the bottleneck itself. ``implicit``
is the :data:`une_jax.hspace.Shift` of it; tables of moves, free or global, are
``hspace.add``'s. How f is learnt is in :mod:`une_jax.asyrp_training`.
"""

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Key

from une_jax.hspace import At

Kind = Literal["ddpm", "adm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Params = dict[str, Float[Array, "..."]]
GROUPS = 32  # of the norms, or fewer: each has two channels or more


class Implicit(NamedTuple):
    """How :func:`implicit` moves h.

    ``weight`` (n,) has each step's strength. With (k, n) there are k functions, their
    params stacked on a first axis (``jax.tree.map(lambda *p: jnp.stack(p), *fs)``).
    """

    params: Params
    weight: Float[Array, " n"] | Float[Array, "k n"]


def init(key: Key[Array, ""], channels: int, *, kind: Kind = "ddpm") -> Params:
    """Random weights of f for an h of so many channels, as torch's layers begin.

    ``"ddpm"`` is a 1x1 convolution, plus the embedded timestep, norm, swish and another
    convolution; ``"adm"`` begins with a norm and swish of its own. Neither begins at
    zero: the paper's does not.

    >>> {name: w.shape for name, w in init(jax.random.key(0), 64).items()}["in.weight"]
    (64, 64)
    """
    bound = channels**-0.5
    params: Params = {}
    for name, own in zip(("in", "time", "out"), jax.random.split(key, 3), strict=True):
        uniform = jax.random.uniform(
            own, (channels + 1, channels), minval=-bound, maxval=bound
        )
        params[f"{name}.weight"], params[f"{name}.bias"] = uniform[:-1], uniform[-1]
    for name in ("norm", "norm_in") if kind == "adm" else ("norm",):
        params[f"{name}.weight"] = jnp.ones(channels)
        params[f"{name}.bias"] = jnp.zeros(channels)
    return params


def embed(t: Float[Array, ""] | Int[Array, ""], width: int) -> Float32[Array, " w"]:
    """DDPM's sinusoids of a timestep (arXiv 2006.11239, Appendix B).

    Asyrp's f is told what the UNet's own layers make of them. Those are not at hand
    where only h is given, and f's own layer learns as much from the sinusoids.

    >>> embed(jnp.float32(0.0), 4).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    half = width // 2
    rates = jnp.exp(
        jnp.arange(half, dtype=jnp.float32) * (-math.log(10_000) / max(half - 1, 1))
    )
    angles = t.astype(jnp.float32) * rates
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
    return jnp.pad(waves, (0, width - 2 * half))


@jax.default_matmul_precision("float32")
def move(
    params: Params,
    h: Float[Array, "b i j c"],
    t: Float[Array, ""] | Int[Array, ""],
) -> Float32[Array, "b i j c"]:
    """f(h, t): by how much h is moved at timestep t. Which kind it is, the params say.

    Works under jit, vmap and grad.

    >>> f = init(jax.random.key(0), 8, kind="adm")
    >>> move(f, jnp.ones((2, 4, 4, 8)), jnp.int32(500)).shape
    (2, 4, 4, 8)
    """
    x, adm = h.astype(jnp.float32), "norm_in.weight" in params
    eps = 1e-5 if adm else 1e-6  # as the two families' own norms have it
    told = _linear(params, "time", jax.nn.silu(embed(t, x.shape[-1])[None]))
    if adm:
        x = jax.nn.silu(_norm(params, "norm_in", x, eps))
    x = _linear(params, "in", x) + told[:, None, None]
    return _linear(params, "out", jax.nn.silu(_norm(params, "norm", x, eps)))


def implicit(
    what: Implicit, h: Float32[Array, "b i j c"], at: At
) -> Float32[Array, "b i j c"]:
    """h plus step ``at.i``'s weight times f(h, t); of k functions the sum over root k.

    The sum of several is as ``hspace.compose`` has it. vmap over
    ``what.weight`` for several strengths at once.

    >>> f = init(jax.random.key(0), 8)
    >>> h, at = jnp.ones((2, 4, 4, 8)), At(jnp.int32(0), jnp.int32(900))
    >>> bool((implicit(Implicit(f, jnp.zeros(10)), h, at) == h).all())
    True
    """
    weight = what.weight[..., at.i].astype(jnp.float32)
    if weight.ndim == 0:
        return h + weight * move(what.params, h, at.t)
    each = jax.vmap(move, (0, None, None))(what.params, h, at.t)
    return h + jnp.tensordot(weight, each, 1) / math.sqrt(len(weight))


class Along(NamedTuple):
    """How :func:`along` moves h: m functions, their params stacked on a first axis."""

    params: Params
    amounts: Float[Array, "b m"]


def along(
    what: Along, h: Float32[Array, "b i j c"], at: At
) -> Float32[Array, "b i j c"]:
    """h moved by m functions, by each sample's own amounts; over root m, as in Asyrp.

    >>> f = jax.tree.map(lambda p: p[None], init(jax.random.key(0), 8))
    >>> h, at = jnp.ones((2, 4, 4, 8)), At(jnp.int32(0), jnp.int32(900))
    >>> moved = along(Along(f, jnp.array([[0.0], [1.0]])), h, at)
    >>> (moved == h).all((1, 2, 3)).tolist()
    [True, False]
    """
    each = jax.vmap(move, (0, None, None))(what.params, h, at.t)
    amounts = what.amounts.astype(jnp.float32) / math.sqrt(what.amounts.shape[1])
    return h + jnp.einsum("bm,mb...->b...", amounts, each, precision="float32")


def weights(
    strength: float | Float[Array, ""], n: int, *, trained: int
) -> Float32[Array, " n"]:
    """Each step's weight of f in a walk of n steps, where it learnt in ``trained``.

    Fewer or more steps make the same sum of moves, as in Asyrp.

    >>> weights(1.0, 20, trained=10)[:2].tolist()
    [0.5, 0.5]
    """
    return jnp.full(n, jnp.asarray(strength, jnp.float32) * (trained / n))


def mean_move(moves: Float[Array, "b n i j c"]) -> Float32[Array, "n i j c"]:
    """One table of moves for all images: what f gave, averaged over them.

    In Asyrp nearly as good as f itself, since the same move means
    the same in all images. ``moves`` are ``asyrp_training.moves``'; the table goes into
    ``hspace.add``.

    >>> mean_move(jnp.stack([jnp.zeros((2, 1, 1, 3)), jnp.ones((2, 1, 1, 3))])).max()
    Array(0.5, dtype=float32)
    """
    return moves.astype(jnp.float32).mean(0)


def global_move(
    moves: Float[Array, "b n i j c"], edit: Bool[Array, " n"]
) -> Float32[Array, "n i j c"]:
    """One move for all images and all editing steps, as a table: zero at other steps.

    Asyrp's: :func:`mean_move` averaged over the steps that ``edit``.

    >>> moves = jnp.arange(3.0).reshape(1, 3, 1, 1, 1)
    >>> global_move(moves, jnp.array([True, True, False])).ravel().tolist()
    [0.5, 0.5, 0.0]
    """
    counts = edit.astype(jnp.float32)[:, None, None, None]
    total = jnp.sum(counts * mean_move(moves), 0, keepdims=True)
    return counts * total / jnp.maximum(jnp.sum(counts), 1.0)


def _linear(params: Params, name: str, x: Array) -> Array:
    """A 1x1 convolution, in the last axis."""
    weight, bias = (params[f"{name}.{part}"] for part in ("weight", "bias"))
    return x @ weight + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _norm(params: Params, name: str, x: Array, eps: float) -> Array:
    """GroupNorm, its variance in two passes."""
    b, i, j, c = x.shape
    # A group of one channel would forget what is added to all of it, the timestep.
    groups = x.reshape(b, i, j, math.gcd(GROUPS, c, c // 2), -1)
    groups = groups - groups.mean((1, 2, 4), keepdims=True)
    groups = groups * jax.lax.rsqrt(jnp.mean(groups**2, (1, 2, 4), keepdims=True) + eps)
    scale, shift = (params[f"{name}.{part}"] for part in ("weight", "bias"))
    return groups.reshape(x.shape) * scale[None, None, None] + shift[None, None, None]
