"""Edit-friendly DDPM inversion: a code whose samples are drawn independently.

arXiv 2304.06140, Sec. 3 (Alg. 1): every x_t is ``x0`` under noise of its own, with no
regard to the others, and z_t is the noise that would have led the sampler from one to
the next. Neighbours then differ by more than a sampler's would: the z_t are larger than
standard normal and correlated from step to step, and hold the image's layout more
firmly when another prompt decodes them.

Two things differ from the authors' code. Its ``eta`` multiplies the variance; here, as in
DDIM (Eq. 16), it multiplies the standard deviation: their eta is ours squared, and at 1,
their default, both are one. And its z_1 is set to 0, so that an image does not come back
quite (inbarhub/DDPM_inversion #13); here the last step has its noise as all others, and
reconstruction is exact up to rounding.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Key

from une_jax import codes
from une_jax.codes import ETA, Encoding, Skip, encode_along
from une_jax.codes import Code as Code
from une_jax.ddim import EpsFn
from une_jax.schedule import Schedule
from une_jax.stochastic import Noisy, draw


def encode(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = ETA["edit-friendly"],
    skip: Skip = 0,
) -> Code:
    """A code of ``x0``; ``decode``, of any model, takes it with the same eta and skip.

    Args:
        keys: (b,), one for each sample, so that a code does not depend on its
            neighbours.
        eta: of the sampler's noise, above 0 up to 1 (DDPM, the paper's, and what is
            taken without); static under jit.
        skip: leave out so many of the first steps (the paper's T_skip: 36 of 100);
            data.

    Transformations and errors as of :func:`une_jax.dpm_encoder.encode`.

    >>> import jax
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> eps_fn = lambda params, x, t, cond: jnp.sin(x)
    >>> x0, keys = jnp.ones((1, 2, 2, 4)), jax.random.split(jax.random.key(0), 1)
    >>> code = encode(eps_fn, None, x0, schedule, keys=keys, skip=4)
    >>> again = decode(eps_fn, None, code, schedule, skip=4)
    >>> bool(jnp.abs(again - x0).max() < 1e-4)
    True
    """
    how = {"keys": keys, "eta": eta, "skip": skip}
    return encode_with_residual(eps_fn, params, x0, schedule, cond, **how).code


def encode_with_residual(
    eps_fn: EpsFn,
    params: Any,
    x0: Float[Array, "b h w c"],
    schedule: Schedule,
    cond: Any = None,
    *,
    keys: Key[Array, " b"],
    eta: float = ETA["edit-friendly"],
    skip: Skip = 0,
) -> Encoding:
    """:func:`encode`, and for each sample how badly its worst step would be decoded:
    rounding alone, as of :func:`une_jax.dpm_encoder.encode_with_residual`.

    >>> import jax
    >>> schedule = Schedule.from_config({}, steps=10)
    >>> x0, keys = jnp.ones((1, 8, 8, 4)), jax.random.split(jax.random.key(0), 1)
    >>> model = (lambda params, x, t, cond: jnp.sin(x), None)
    >>> out = encode_with_residual(*model, x0, schedule, keys=keys)
    >>> bool(0 < out.residual[0] < 1e-6)
    True
    """
    how = {"keys": keys, "eta": eta, "skip": skip}
    return encode_along(path, eps_fn, params, x0, schedule, cond, **how)


def decode(
    eps_fn: EpsFn,
    params: Any,
    code: Code,
    schedule: Schedule,
    cond: Any = None,
    *,
    eta: float = ETA["edit-friendly"],
    skip: Skip = 0,
) -> Float32[Array, "b h w c"]:
    """:func:`une_jax.codes.decode` with this code's ``eta``; an example is in
    :func:`encode`."""
    how = {"eta": eta, "skip": skip}
    return codes.decode(eps_fn, params, code, schedule, cond, **how)


def path(
    keys: Key[Array, " b"],
    i: int | Int[Array, ""],
    x: Float32[Array, "b h w c"],
    row: Noisy,
    x0: Float32[Array, "b h w c"],
) -> Float32[Array, "b h w c"]:
    """``x0`` under noise of its own at the level to which step i leads, wherever from.

    >>> import jax
    >>> from une_jax.codes import table
    >>> rows = table(Schedule.from_config({}, steps=10), 1.0)
    >>> row, x = jax.tree.map(lambda a: a[0], rows), jnp.ones((1, 2, 2, 4))
    >>> path(jax.random.key(0)[None], 0, x, row, x).shape
    (1, 2, 2, 4)
    """
    a_to = row.rows.alpha_to
    noise = draw(keys, i + 1, x0.shape[1:])
    return jnp.sqrt(a_to) * x0 + jnp.sqrt(1 - a_to) * noise
