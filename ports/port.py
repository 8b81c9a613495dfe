"""What a port is: a configuration, a dict of arrays and a pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]


class Port(NamedTuple):
    """A model ready to run: ``port.apply(port.params, *inputs)``.

    ``params`` is a plain nested dict of arrays whose paths are the checkpoint's own
    tensor names; pass it as an argument under ``jax.jit``, never through a closure.
    ``apply(params, *inputs, method="__call__")`` calls that method of the network.
    """

    config: Any
    params: Params
    apply: Callable[..., Any]


def define(
    network: Callable[..., nnx.Module], config: Any, dtype: Any = jnp.float32
) -> tuple[Params, Callable[..., Any]]:
    """The network's tree of parameter shapes, and its pure ``apply``.

    Floating inputs are cast to ``dtype``, and layers compute in their input's dtype.
    """
    graphdef, abstract = nnx.split(
        nnx.eval_shape(lambda: network(config, rngs=nnx.Rngs(0)))
    )

    def apply(params: Params, *inputs: Any, method: str = "__call__") -> Any:
        module = nnx.merge(graphdef, params)
        return getattr(module, method)(*_cast(inputs, dtype))

    return nnx.to_pure_dict(abstract), apply


def init(network: Callable[..., nnx.Module], config: Any, key: jax.Array) -> Port:
    """A randomly initialised port, for training (float32)."""
    _, apply = define(network, config)
    _, state = nnx.split(network(config, rngs=nnx.Rngs(params=key)))
    return Port(config, nnx.to_pure_dict(state), apply)


def _cast(inputs: Any, dtype: Any) -> Any:
    def one(x: Any) -> Any:
        x = jnp.asarray(x)
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(one, inputs)
