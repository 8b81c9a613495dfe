"""Floating-point operations of a function, counted before anything runs.

Matrix products and convolutions only, a multiplication and an addition each: what
benchmarks call a model's FLOPs. The count is of the mathematics: where a function has a
form for each platform, the largest counts, so that a faster algorithm (Winograd's
convolutions) shows as a higher rate and not as less work.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count(fn: Callable[..., Any], *args: Any) -> int:
    """FLOPs of ``fn(*args)``; arguments are arrays or ``jax.ShapeDtypeStruct``s.

    Nothing is computed. A scan counts its body as often as it runs; a while loop once,
    since how often is data.

    >>> import jax.numpy as jnp
    >>> count(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5)))  # 2 * 2 * 3 * 5
    60
    """
    return _of(jax.make_jaxpr(fn)(*args).jaxpr)


def _of(jaxpr: Jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: JaxprEqn) -> int:
    name = equation.primitive.name
    shapes: list[Any] = [getattr(var.aval, "shape", ()) for var in equation.invars]
    out: Any = equation.outvars[0].aval if equation.outvars else None
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * prod(out.shape) * prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        n_out = equation.params["dimension_numbers"].rhs_spec[0]
        each = prod(n for axis, n in enumerate(shapes[1]) if axis != n_out)
        return 2 * prod(out.shape) * each
    inner = [_of(jaxpr) for jaxpr in _jaxprs(equation.params)]
    if name == "cond":  # what lax.platform_dependent becomes, too
        return max(inner)
    if name == "shard_map":  # the body sees one device's part
        return equation.params["mesh"].size * sum(inner)
    return equation.params.get("length", 1) * sum(inner)


def _jaxprs(params: Any) -> list[Jaxpr]:
    """The programs inside an equation, wherever its parameters keep them."""
    if isinstance(params, ClosedJaxpr):
        return [params.jaxpr]
    if isinstance(params, Jaxpr):
        return [params]
    if isinstance(params, dict):
        params = list(params.values())
    if isinstance(params, list | tuple):
        return [jaxpr for value in params for jaxpr in _jaxprs(value)]
    return []
