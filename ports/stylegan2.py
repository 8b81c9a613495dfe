"""StyleGAN2-ADA's unconditional generator, as NVlabs' PyTorch code has it.

z -> mapping -> W -> affine layers -> the style space -> images (Karras et al., arXiv
1912.04958 and 2006.06676; the style space is that of Wu et al., arXiv 2011.12799).
Images are (b, h, w, 3), from -1 to 1 where the training's were, not clipped.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ports.checkpoint import CheckpointError
from ports.load import Port, Rule, conv, keep, linear, load_port, only, read_config
from ports.modulated import EPS, Dense, Layer, ToRGB, doubled, lrelu
from ports.sites import Site, untouched


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of ``config.json``, as ``scripts/convert_stylegan2.py`` writes it.

    Their names are those of the official constructors' arguments; ``mapping_layers``,
    ``mapping_features`` and ``mapping_lr_multiplier`` those of the mapping network.
    ``noise_mode`` is not the checkpoint's: ``load`` sets it.
    """

    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    img_resolution: int = 256
    img_channels: int = 3
    mapping_layers: int = 8
    mapping_features: int | None = None  # None: w_dim
    mapping_lr_multiplier: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512
    architecture: str = "skip"
    activation: str = "lrelu"
    resample_filter: tuple[int, ...] = (1, 3, 3, 1)
    conv_clamp: float | None = None
    use_noise: bool = True
    noise_mode: str = "none"

    def __post_init__(self):
        only("c_dim", (self.c_dim,), (0,))
        only("architecture", (self.architecture,), ("skip",))
        only("activation", (self.activation,), ("lrelu",))
        only("resample_filter", (self.resample_filter,), ((1, 3, 3, 1),))
        only("noise_mode", (self.noise_mode,), ("none", "const"))
        size = self.img_resolution
        if size < 4 or size & (size - 1):
            raise CheckpointError(
                f"config.json: img_resolution = {size} is not a power of two from 4 on"
            )
        if self.noise_mode == "const" and not self.use_noise:
            raise CheckpointError(
                "config.json: use_noise is false: there is no constant noise to add"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Edges of the blocks' outputs: 4, 8, ... ``img_resolution``."""
        return tuple(2**i for i in range(2, int(log2(self.img_resolution)) + 1))

    @property
    def num_ws(self) -> int:
        """How many layers have a w of their own in W+."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Of the block of that resolution."""
        return min(self.channel_base // resolution, self.channel_max)


class Mapping(nnx.Module):
    """z (b, z_dim) -> w (b, w_dim)."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.n = config.mapping_layers
        inner = config.mapping_features or config.w_dim
        widths = [config.z_dim, *[inner] * (self.n - 1), config.w_dim]
        for i in range(self.n):
            layer = Dense(
                *widths[i : i + 2],
                lr_multiplier=config.mapping_lr_multiplier,
                rngs=rngs,
            )
            setattr(self, f"fc{i}", layer)
        self.w_avg = nnx.Param(jnp.zeros(config.w_dim))

    def __call__(
        self,
        z: Float[Array, "b z"],
        psi: Float[Array, ""] | None = None,
        site: Site = untouched,
    ) -> Float[Array, "b w"]:
        """``psi`` below one draws w towards the average w of the training."""
        x = z.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPS)
        for i in range(self.n):
            x = lrelu(getattr(self, f"fc{i}")(x))
        if psi is not None:
            mean = self.w_avg[...].astype(x.dtype)[None]
            x = mean + psi * (x - mean)
        return site("mapping", x)


class Block(nnx.Module):
    """One resolution: two layers (at 4x4 a constant and one), and its colours."""

    def __init__(self, config: Config, resolution: int, *, rngs: nnx.Rngs):
        n, d, clamp = config.channels(resolution), config.w_dim, config.conv_clamp
        layer = ft.partial(
            Layer,
            noise=resolution if config.use_noise else None,
            noisy=config.noise_mode == "const",
            clamp=clamp,
            rngs=rngs,
        )
        if resolution == 4:
            self.const = nnx.Param(jax.random.normal(rngs.params(), (4, 4, n)))
        else:
            self.conv0 = layer(config.channels(resolution // 2), n, d, up=True)
        self.conv1 = layer(n, n, d, up=False)
        self.torgb = ToRGB(n, config.img_channels, d, clamp=clamp, rngs=rngs)

    @property
    def layers(self) -> tuple[Layer | ToRGB, ...]:
        """In the order of their styles."""
        first = (self.conv0,) if hasattr(self, "conv0") else ()
        return (*first, self.conv1, self.torgb)


class Synthesis(nnx.Module):
    """w (b, w_dim), or one for each layer (b, num_ws, w_dim) -> images."""

    def __init__(self, config: Config, *, dtype: Any, rngs: nnx.Rngs):
        self.config, self.dtype = config, dtype
        for resolution in config.resolutions:
            setattr(self, f"b{resolution}", Block(config, resolution, rngs=rngs))

    def __call__(
        self,
        ws: Float[Array, "b d"] | Float[Array, "b n d"],
        site: Site = untouched,
    ) -> Float[Array, "b h w c"]:
        return self.from_styles(self.styles(ws), site)

    def styles(
        self, ws: Float[Array, "b d"] | Float[Array, "b n d"]
    ) -> Float[Array, "b s"]:
        """What the affine layers make of w, side by side in the layers' order."""
        n, d = self.config.num_ws, self.config.w_dim
        ws = ws.astype(jnp.float32)
        if ws.ndim == 2:
            ws = jnp.broadcast_to(ws[:, None], (len(ws), n, ws.shape[-1]))
        if ws.shape[1:] != (n, d):
            raise ValueError(
                f"w of shape {ws.shape}: this generator takes (b, {d}) or (b, {n}, {d})"
            )
        found = []
        for i, (_, block) in enumerate(self._blocks):
            # A block's colours and the next block's first layer share a w.
            first = max(2 * i - 1, 0)
            found += [
                layer.affine(ws[:, first + j]) for j, layer in enumerate(block.layers)
            ]
        return jnp.concatenate(found, -1)

    def from_styles(
        self, styles: Float[Array, "b s"], site: Site = untouched
    ) -> Float[Array, "b h w c"]:
        """Images of what ``styles`` gives."""
        sizes = [layer.affine.n_out for _, b in self._blocks for layer in b.layers]
        if styles.shape[1] != sum(sizes):
            raise ValueError(
                f"styles of shape {styles.shape}: this generator takes (b, {sum(sizes)})"
            )
        styles = styles.astype(jnp.float32)
        parts = iter(jnp.split(styles, np.cumsum(sizes)[:-1].tolist(), axis=-1))
        const = self._blocks[0][1].const[...].astype(self.dtype)
        x = jnp.broadcast_to(const[None], (len(styles), *const.shape))
        image = jnp.zeros((len(styles), 2, 2, self.config.img_channels))
        for resolution, block in self._blocks:
            *layers, torgb = block.layers
            for layer in layers:
                x = layer(x, next(parts))
            x = site(f"block.{resolution}", x)
            image = doubled(image) + torgb(x, next(parts)).astype(jnp.float32)
        return image.astype(self.dtype)

    @property
    def _blocks(self) -> list[tuple[int, Block]]:
        return [(r, getattr(self, f"b{r}")) for r in self.config.resolutions]


class StyleGAN2(nnx.Module):
    """z to images, by way of ``mapping`` and ``synthesis``, which are methods too.

    ``dtype`` is that of the convolutions: mapping and styles are float32.
    """

    def __init__(self, config: Config, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.mapping = Mapping(config, rngs=rngs)
        self.synthesis = Synthesis(config, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        z: Float[Array, "b z"],
        psi: Float[Array, ""] | None = None,
        site: Site = untouched,
    ) -> Float[Array, "b h w c"]:
        """Images of latents; ``psi`` as in ``mapping``."""
        return self.synthesis(self.mapping(z, psi, site), site)

    def styles(
        self,
        ws: Float[Array, "b d"] | Float[Array, "b n d"],
        site: Site = untouched,
    ) -> Float[Array, "b s"]:
        """The style space of w or W+: every layer's style, flat."""
        del site
        return self.synthesis.styles(ws)

    def synthesis_from_styles(
        self, styles: Float[Array, "b s"], site: Site = untouched
    ) -> Float[Array, "b h w c"]:
        """Images of styles."""
        return self.synthesis.from_styles(styles, site)


@ft.cache  # one network a dtype, as ``define`` keeps what jit compiled by network
def network(dtype: Any) -> Callable[..., nnx.Module]:
    """``StyleGAN2`` with its convolutions in that dtype."""
    return ft.partial(StyleGAN2, dtype=dtype)


def _chw(x: np.ndarray) -> np.ndarray:
    """(c, h, w) -> (h, w, c)."""
    return x.transpose(1, 2, 0) if x.ndim == 3 else x


_LAYER = r"synthesis\.b\d+\.(?:conv0|conv1|torgb)"
_DENSE = rf"(?:mapping\.fc\d+|{_LAYER}\.affine)"
RULES = (
    Rule(rf"({_DENSE})\.weight", r"\1.weight", linear),
    Rule(rf"({_LAYER})\.weight", r"\1.weight", conv),
    Rule(rf"((?:{_DENSE}|{_LAYER})\.bias)", r"\1", keep),
    Rule(r"synthesis\.b4\.const", "synthesis.b4.const", _chw),
    Rule(rf"({_LAYER}\.noise_(?:const|strength))", r"\1", keep),
    Rule(r"mapping\.w_avg", "mapping.w_avg", keep),
    # The filter, which the config names, in every block and layer.
    Rule(r"synthesis\.b\d+\.(?:conv[01]\.)?resample_filter", None),
)

CLASS_NAMES = ("StyleGAN2",)


def load(
    path_or_id: str,
    *,
    subfolder: str = "",
    variant: str | None = None,
    revision: str | None = None,
    noise_mode: str = "none",
    dtype: Any = jnp.float32,
    param_dtype: Any = None,
) -> Port:
    """Load a folder that ``scripts/convert_stylegan2.py`` wrote, or a hub id of one.

    ``port.apply(port.params, z)`` gives images (b, h, w, 3) of z (b, z_dim); a second
    input is the truncation psi. ``method="mapping"`` (z, psi) gives w (b, w_dim),
    ``"synthesis"`` the images of w or of W+ (b, num_ws, w_dim), ``"styles"`` the style
    space (b, S) of either, ``"synthesis_from_styles"`` its images. Sites are
    ``mapping``, which is w, and ``block.4``, ``block.8``, ... before the colours.

    ``noise_mode``: "none", or "const" to add the checkpoint's own constant noise; the
    official code's third mode draws it anew. Its half precision (``num_fp16_res``) is
    ignored: ``dtype`` is that of all convolutions. ValueError where w or styles have
    another shape than this generator's.

    >>> gan = load("path/to/stylegan2-ffhq")                       # doctest: +SKIP
    >>> w = gan.apply(gan.params, z, 0.7, method="mapping")        # doctest: +SKIP
    >>> gan.apply(gan.params, w, method="synthesis")               # doctest: +SKIP
    """

    def config(raw: dict[str, Any]) -> Config:
        return replace(read_config(Config, raw), noise_mode=noise_mode)

    return load_port(
        path_or_id,
        network(dtype),
        config,
        RULES,
        class_names=CLASS_NAMES,
        subfolder=subfolder,
        variant=variant,
        revision=revision,
        dtype=dtype,
        param_dtype=param_dtype,
    )
