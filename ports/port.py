"""What a port is: a configuration, a dict of arrays and a pure function."""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ports.sites import Sites

Params = dict[str, Any]


class Port(NamedTuple):
    """A model ready to run: ``port.apply(port.params, *inputs)``.

    ``params`` is a plain nested dict of arrays whose paths are the checkpoint's own
    tensor names; pass it as an argument under ``jax.jit``, never through a closure.

    ``apply(params, *inputs, method="__call__", taps=None, deltas=None)`` calls that
    method of the network. With ``taps``, a tuple of site names, the result is a pair:
    the output and ``{site: activation}``. ``deltas`` is ``{site: offset}``: each is
    added at its site, where a tap of the same name sees it. ``method`` and ``taps`` are
    static under ``jax.jit``. SiteError lists the sites where a name is wrong.
    """

    config: Any
    params: Params
    apply: Callable[..., Any]


def define(
    network: Callable[..., nnx.Module], config: Any, dtype: Any = jnp.float32
) -> tuple[Params, Callable[..., Any]]:
    """The network's tree of parameter shapes, and its pure ``apply``.

    Floating inputs of three axes or more (images, latents, text states) are cast to
    ``dtype``, and layers compute in their input's dtype. Smaller ones (timesteps,
    guidance, image sizes) keep their digits until the network has embedded them.
    float32 means float32: TF32 and bfloat16 passes are off on every platform.
    """
    _, shapes = _split(network, config)
    return jax.tree.map(lambda leaf: leaf, shapes), _apply(network, config, dtype)


@ft.lru_cache(maxsize=32)  # so that models of one configuration share what jit compiled
def _apply(
    network: Callable[..., nnx.Module], config: Any, dtype: Any
) -> Callable[..., Any]:
    graphdef, _ = _split(network, config)
    precision = "float32" if dtype == jnp.float32 else None

    def apply(
        params: Params,
        *inputs: Any,
        method: str = "__call__",
        taps: Sequence[str] | None = None,
        deltas: Mapping[str, Any] | None = None,
    ) -> Any:
        run = getattr(nnx.merge(graphdef, params), method)
        with jax.default_matmul_precision(precision):
            if taps is None and deltas is None:
                return run(*_cast(inputs, dtype))
            sites = Sites(taps or (), _cast(deltas or {}, dtype))
            out = run(*_cast(inputs, dtype), site=sites)
        sites.check()
        return out if taps is None else (out, sites.found)

    return apply


@ft.lru_cache(maxsize=32)  # tracing a network of SD's size takes seconds
def _split(network: Callable[..., nnx.Module], config: Any) -> tuple[Any, Params]:
    abstract = nnx.eval_shape(lambda: network(config, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract)
    return graphdef, nnx.to_pure_dict(state)


def init(network: Callable[..., nnx.Module], config: Any, key: jax.Array) -> Port:
    """A randomly initialised port, for training (float32)."""
    _, apply = define(network, config)
    _, state = nnx.split(network(config, rngs=nnx.Rngs(params=key)))
    return Port(config, nnx.to_pure_dict(state), apply)


def _cast(inputs: Any, dtype: Any) -> Any:
    def one(x: Any) -> Any:
        x = jnp.asarray(x)
        floats = jnp.issubdtype(x.dtype, jnp.floating) and x.ndim >= 3
        return x.astype(dtype) if floats else x

    return jax.tree.map(one, inputs)
