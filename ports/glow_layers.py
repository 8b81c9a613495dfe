"""Glow's steps, each with its inverse: ActNorm, invertible 1x1 convolution, coupling.

Forward and backward in float32. ``forward`` gives the log-determinant beside its value.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.linalg import lu, solve_triangular
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.layers import Conv


class ActNorm(nnx.Module):
    """A shift and a scale for each channel."""

    def __init__(self, n: int):
        self.loc = nnx.Param(jnp.zeros(n))
        self.scale = nnx.Param(jnp.ones(n))

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """y and the log-determinant a pixel."""
        loc, scale = _rows(self.loc), _rows(self.scale)
        return scale * (x + loc), jnp.log(jnp.abs(scale)).sum()

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return y / _rows(self.scale) - _rows(self.loc)


class InvConv(nnx.Module):
    """An invertible matrix over the channels: a 1x1 convolution."""

    def __init__(self, n: int, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(_orthogonal(rngs.params(), n))

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        weight = self.weight[...].astype(x.dtype)
        return x @ weight.T, jnp.linalg.slogdet(weight)[1]

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return y @ jnp.linalg.inv(self.weight[...].astype(y.dtype)).T


class InvConvLU(nnx.Module):
    """The same matrix as P L (U + diag(sign * exp(s))), whose determinant is cheap.

    Only what lies below L's diagonal and above U's counts.
    """

    def __init__(self, n: int, *, rngs: nnx.Rngs):
        p, low, up = lu(_orthogonal(rngs.params(), n))
        s = jnp.diag(up)
        self.w_p = nnx.Variable(p)  # fixed, and so is s_sign
        self.w_l = nnx.Param(low)
        self.w_u = nnx.Param(jnp.triu(up, 1))
        self.w_s = nnx.Param(jnp.log(jnp.abs(s)))
        self.s_sign = nnx.Variable(jnp.sign(s))

    def factors(self) -> tuple[Array, Array, Array]:
        """P, L and U with its diagonal, (c, c) each."""
        p, low, up, s, sign = (
            v[...].astype(jnp.float32)
            for v in (self.w_p, self.w_l, self.w_u, self.w_s, self.s_sign)
        )
        eye = jnp.eye(len(s), dtype=jnp.float32)
        up = jnp.triu(up, 1) + jnp.diag(sign * jnp.exp(s))
        return p, jnp.tril(low, -1) + eye, up

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        p, low, up = self.factors()
        return x @ (p @ low @ up).T, self.w_s[...].astype(x.dtype).sum()

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        p, low, up = self.factors()
        inner = solve_triangular(low, p.T, lower=True, unit_diagonal=True)
        return y @ solve_triangular(up, inner).T


class ZeroConv(nnx.Module):
    """A 3x3 convolution that starts at zero, over an image framed with ones."""

    def __init__(self, n_in: int, n_out: int, *, rngs: nnx.Rngs):
        self.conv = Conv(n_in, n_out, padding=((0, 0), (0, 0)), rngs=rngs)
        self.conv.weight.set_value(jnp.zeros((3, 3, n_in, n_out)))
        assert self.conv.bias is not None
        self.conv.bias.set_value(jnp.zeros(n_out))
        self.scale = nnx.Param(jnp.zeros(n_out))

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
        return self.conv(framed) * jnp.exp(3 * _rows(self.scale))


class Coupling(nnx.Module):
    """Half of the channels, moved (and with ``affine`` scaled) by the other half."""

    def __init__(self, n: int, hidden: int, affine: bool, *, rngs: nnx.Rngs):
        if n % 2:
            raise CheckpointError(f"config.json: {n} channels have no halves")
        n_out = n if affine else n // 2
        first = Conv(n // 2, hidden, rngs=rngs)
        second = Conv(hidden, hidden, 1, rngs=rngs)
        for layer in (first, second):
            noise = jax.random.normal(rngs.params(), layer.weight.shape)
            layer.weight.set_value(0.05 * noise)
            assert layer.bias is not None
            layer.bias.set_value(jnp.zeros(hidden))
        third = ZeroConv(hidden, n_out, rngs=rngs)
        self.net = nnx.Dict({"0": first, "2": second, "4": third})
        self.affine = affine

    def _told(self, a: Array) -> tuple[Array | None, Array]:
        """What the still half says: the logit of a scale, and a shift."""
        x = jax.nn.relu(self.net["0"](a))
        x = self.net["4"](jax.nn.relu(self.net["2"](x)))
        if not self.affine:
            return None, x
        logit, shift = jnp.split(x, 2, axis=-1)
        return logit + 2, shift

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """y and the log-determinant of each image, (b,)."""
        a, b = jnp.split(x, 2, axis=-1)
        logit, shift = self._told(a)
        if logit is None:
            return jnp.concatenate([a, b + shift], -1), jnp.zeros(len(x), x.dtype)
        b = (b + shift) * jax.nn.sigmoid(logit)
        return jnp.concatenate([a, b], -1), jax.nn.log_sigmoid(logit).sum((1, 2, 3))

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        a, b = jnp.split(y, 2, axis=-1)
        logit, shift = self._told(a)
        b = b if logit is None else b / jax.nn.sigmoid(logit)
        return jnp.concatenate([a, b - shift], -1)


class Flow(nnx.Module):
    """One step: ActNorm, 1x1 convolution, coupling."""

    def __init__(
        self, n: int, hidden: int, *, affine: bool, conv_lu: bool, rngs: nnx.Rngs
    ):
        self.actnorm = ActNorm(n)
        self.invconv = (InvConvLU if conv_lu else InvConv)(n, rngs=rngs)
        self.coupling = Coupling(n, hidden, affine, rngs=rngs)

    def forward(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """y and the log-determinant of each image, (b,)."""
        x, scaled = self.actnorm.forward(x)
        x, turned = self.invconv.forward(x)
        x, coupled = self.coupling.forward(x)
        return x, coupled + x.shape[1] * x.shape[2] * (scaled + turned)

    def reverse(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return self.actnorm.reverse(self.invconv.reverse(self.coupling.reverse(y)))


def _rows(param: nnx.Param) -> Array:
    return param[...].astype(jnp.float32).reshape(1, 1, 1, -1)


def _orthogonal(key: Array, n: int) -> Array:
    return jnp.linalg.qr(jax.random.normal(key, (n, n)))[0]
