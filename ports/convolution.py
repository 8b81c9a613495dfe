"""2-D convolution of NHWC images, in the form that the platform runs best.

XLA's own convolution everywhere but on CPU, where three of its cases fall far behind
its matrix product: patches without overlap, small images with many channels, and 3x3
kernels, for which Winograd's minimal filtering needs 2.25 times fewer products
(Lavin & Gray, arXiv 1509.09308, F(2x2, 3x3)).
"""

import functools as ft
import operator as op
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

Form = Callable[[Array, Array], Array]
Padding = tuple[tuple[int, int], tuple[int, int]]
SAME = ((1, 1), (1, 1))

# Up to so many pixels, and from so many channels, patches go as one matrix product.
_GATHER_PIXELS, _GATHER_CHANNELS = 256, 256
# Winograd needs enough tiles to pay for transforming the kernel, enough channels for
# its 16 products, and transformed images that stay near the cache.
_MIN_PIXELS, _MIN_CHANNELS, _MAX_SIZE = 1024, 64, 2**24


def conv2d(
    x: Float[Array, "b h w i"],
    weight: Float[Array, "kh kw i o"],
    *,
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 o"]:
    """torch's ``conv2d``; the form is chosen by shape and platform alone."""
    b, h, w, n_in = x.shape
    kh, kw, _, n_out = weight.shape
    if padding == ((0, 0), (0, 0)) and (kh, kw) == (stride, stride):
        return _patches(x, stride) @ weight.reshape(-1, n_out)

    def direct(x, weight):
        return _direct(x, weight, stride, padding)

    def gathered(x, weight):
        return _gathered(x, weight, stride, padding)

    plain = (kh, kw, stride) == (3, 3, 1) and padding == SAME
    roomy = b * h * w >= _MIN_PIXELS and min(n_in, n_out) >= _MIN_CHANNELS
    near = b * h * w * max(n_in, n_out) <= _MAX_SIZE
    if plain and roomy and near and x.dtype == jnp.float32:
        return _by_platform(winograd, direct, x, weight)
    if h * w <= _GATHER_PIXELS and n_in >= _GATHER_CHANNELS:
        return _by_platform(gathered, direct, x, weight)
    return direct(x, weight)


def _by_platform(cpu: Form, default: Form, x: Array, weight: Array) -> Array:
    """A derivative keeps x and the weight, and not what each of the forms made of them."""
    chosen = ft.partial(lax.platform_dependent, cpu=cpu, default=default)
    return jax.checkpoint(chosen)(x, weight)


def _direct(x: Array, weight: Array, stride: int, padding: Padding) -> Array:
    return lax.conv_general_dilated(
        x,
        weight,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _patches(x: Array, p: int) -> Array:
    """(b, h, w, c) -> (b, h/p, w/p, p*p*c): what a patch embedding multiplies."""
    b, h, w, c = x.shape
    h, w = h // p, w // p
    x = x[:, : h * p, : w * p].reshape(b, h, p, w, p, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, p * p * c)


def _gathered(x: Array, weight: Array, stride: int, padding: Padding) -> Array:
    """Every output pixel's patch side by side, then one matrix product."""
    kh, kw, _, n_out = weight.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    h = (x.shape[1] - kh) // stride + 1
    w = (x.shape[2] - kw) // stride + 1
    patches = [
        x[:, i : i + stride * h : stride, j : j + stride * w : stride]
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.concatenate(patches, -1) @ weight.reshape(-1, n_out)


@jax.custom_jvp
def winograd(
    x: Float[Array, "b h w i"], weight: Float[Array, "3 3 i o"]
) -> Float[Array, "b h w o"]:
    """A 3x3 convolution that keeps the size, by F(2x2, 3x3).

    Each 4x4 tile d of the image (tiles overlap by two pixels) and the kernel g give a
    2x2 tile of the output, A' [(G g G') * (B' d B)] A, where ``*`` is a matrix product
    over the channels. Its derivatives are those of the plain convolution.
    """
    b, h, w, n_in = x.shape
    rows, cols = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (1, 2 * rows - h + 1), (1, 2 * cols - w + 1), (0, 0)))
    tiles = [
        [x[:, i : i + 2 * rows : 2, j : j + 2 * cols : 2] for j in range(4)]
        for i in range(4)
    ]
    kernel = [[weight[i, j] for j in range(3)] for i in range(3)]
    d, g = _both_sides(_B, tiles), _both_sides(_G, kernel)
    products = [
        [d[i][j].reshape(-1, n_in) @ g[i][j] for j in range(4)] for i in range(4)
    ]
    y = [
        [z.reshape(b, rows, cols, -1) for z in row] for row in _both_sides(_A, products)
    ]
    y = jnp.stack([jnp.stack(row, axis=3) for row in y], axis=2)
    return y.reshape(b, 2 * rows, 2 * cols, -1)[:, :h, :w]


@ft.partial(winograd.defjvp, symbolic_zeros=True)
def _winograd_jvp(primals, tangents):
    (x, weight), (dx, dweight) = primals, tangents
    pairs = ((dx, weight), (x, dweight))
    # Of a weight that is not learnt there is no part, rather than one of zeros.
    some = [p for p in pairs if not any(isinstance(a, SymbolicZero) for a in p)]
    out = winograd(x, weight)
    parts = [_direct(*pair, 1, SAME) for pair in some] or [jnp.zeros_like(out)]
    return out, ft.reduce(op.add, parts)


# The transforms of F(2x2, 3x3): B', G and A' of the paper, equation 7.
_B = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_A = ((1, 1, 1, 0), (0, 1, -1, -1))

Matrix = Sequence[Sequence[int | float]]


def _both_sides(m: Matrix, x: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """m x m', where the entries of x are whole arrays."""
    columns = [_combine(m, column) for column in zip(*x, strict=True)]
    return [_combine(m, row) for row in zip(*columns, strict=True)]


def _combine(m: Matrix, x: Sequence[Array]) -> list[Array]:
    """m x for a vector of arrays; written out, since most entries are 0 or 1."""
    return [
        ft.reduce(
            op.add, [c * y if c != 1 else y for c, y in zip(row, x, strict=True) if c]
        )
        for row in m
    ]
