"""StyleGAN2-ADA's generator in plain torch, with the official code's tensor names.

What ``ports/stylegan2.py`` is held against, written from the papers (arXiv 1912.04958,
2006.06676): each image's own kernel in a grouped convolution, and resampling by zeros
and a depthwise filter, which the port has in other forms. The port and NVlabs'
stylegan2-ada-pytorch, on random weights at 32, 64 and 256 pixels, with and without
clamps, agreed to 5e-6 of the largest value: w, truncated w, images of z, of W+ and with
constant noise.
"""

from collections.abc import Sequence
from math import log2, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-8


class Affine(nn.Module):
    """A linear layer with its scale outside its weights."""

    def __init__(self, n_in: int, n_out: int, *, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias))
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.rate / sqrt(x.shape[1])
        return F.linear(x, self.weight * scale, self.bias * self.rate)


def activated(x: torch.Tensor, clamp: float | None) -> torch.Tensor:
    """The leaky ReLU with its gain, within the clamp."""
    x = F.leaky_relu(x, 0.2) * sqrt(2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def low_pass(n: int) -> torch.Tensor:
    """A depthwise kernel for n channels, of sum 4: three of four pixels are zeros."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(row, row)
    return (kernel / kernel.sum() * 4).expand(n, 1, 4, 4)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Zeros between the pixels, then the low-pass filter."""
    b, c, h, w = x.shape
    wide = x.new_zeros(b, c, 2 * h, 2 * w)
    wide[:, :, ::2, ::2] = x
    return F.conv2d(F.pad(wide, (2, 1, 2, 1)), low_pass(c), groups=c)


class Modulated(nn.Module):
    """A convolution whose kernel is every image's own."""

    resample_filter: torch.Tensor

    def __init__(self, n_in: int, n_out: int, d: int, edge: int, *, up: bool, o: Any):
        super().__init__()
        self.affine = Affine(d, n_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(n_out))
        if o["use_noise"]:
            self.register_buffer("noise_const", torch.randn(edge, edge))
            self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("resample_filter", low_pass(1)[0, 0] / 4)
        self.up, self.clamp = up, o["conv_clamp"]

    def forward(self, x: torch.Tensor, w: torch.Tensor, noisy: bool) -> torch.Tensor:
        b, n_in, h, wide = x.shape
        kernel = self.weight[None] * self.affine(w)[:, None, :, None, None]
        kernel = kernel / (kernel.square().sum((2, 3, 4), keepdim=True) + EPS).sqrt()
        n_out = kernel.shape[1]
        x = x.reshape(1, b * n_in, h, wide)
        if self.up:
            turned = kernel.transpose(1, 2).reshape(b * n_in, n_out, 3, 3)
            x = F.conv_transpose2d(x, turned, stride=2, groups=b)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1)), low_pass(b * n_out), groups=b * n_out)
        else:
            kernel = kernel.reshape(b * n_out, n_in, 3, 3)
            x = F.conv2d(x, kernel, padding=1, groups=b)
        x = x.reshape(b, n_out, *x.shape[2:])
        if noisy:
            x = x + self.get_buffer("noise_const") * self.noise_strength
        return activated(x + self.bias[:, None, None], self.clamp)


class Colours(nn.Module):
    """A 1x1 convolution to RGB, modulated and not normalised."""

    def __init__(self, n_in: int, n_out: int, d: int, *, o: Any):
        super().__init__()
        self.affine = Affine(d, n_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.clamp = o["conv_clamp"]

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        style = self.affine(w) / sqrt(x.shape[1])
        x = F.conv2d(x * style[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class StyleGAN2(nn.Module):
    """z (b, z_dim) -> images (b, c, h, w). Options are the keys of the port's config."""

    def __init__(self, **options: Any):
        super().__init__()
        o = {"use_noise": True, "conv_clamp": None, "mapping_lr_multiplier": 0.01}
        self.options = o = o | {"img_channels": 3} | options
        self.edges = [2**i for i in range(2, int(log2(o["img_resolution"])) + 1)]
        self.mapping = nn.Module()
        n_in = o["z_dim"]
        for i in range(o["mapping_layers"]):
            layer = Affine(n_in, o["w_dim"], rate=o["mapping_lr_multiplier"])
            self.mapping.add_module(f"fc{i}", layer)
            n_in = o["w_dim"]
        self.mapping.register_buffer("w_avg", torch.zeros(o["w_dim"]))
        self.synthesis = nn.Module()
        n_in = 0
        for edge in self.edges:
            n = min(o["channel_base"] // edge, o["channel_max"])
            self.synthesis.add_module(f"b{edge}", self.block(n_in, n, edge))
            n_in = n

    def block(self, n_in: int, n: int, edge: int) -> nn.Module:
        """One resolution."""
        o, d = self.options, self.options["w_dim"]
        block = nn.Module()
        block.register_buffer("resample_filter", low_pass(1)[0, 0] / 4)
        if n_in:
            block.conv0 = Modulated(n_in, n, d, edge, up=True, o=o)
        else:
            block.const = nn.Parameter(torch.randn(n, 4, 4))
        block.conv1 = Modulated(n, n, d, edge, up=False, o=o)
        block.torgb = Colours(n, o["img_channels"], d, o=o)
        return block

    def spread(self, seed: int = 0) -> "StyleGAN2":
        """No bias, average or strength of noise at its first value, where it is idle."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, p in [*self.named_parameters(), *self.named_buffers()]:
                if name.endswith(("bias", "w_avg", "noise_strength")):
                    p += 0.3 * torch.randn(p.shape, generator=generator)
        return self

    def config(self) -> dict[str, Any]:
        """The port's config.json."""
        return {"_class_name": "StyleGAN2", **self.options}

    def w(self, z: torch.Tensor, psi: float = 1.0) -> torch.Tensor:
        """(b, w_dim)."""
        x = z / (z.square().mean(1, keepdim=True) + EPS).sqrt()
        for i in range(self.options["mapping_layers"]):
            x = activated(getattr(self.mapping, f"fc{i}")(x), None)
        return torch.lerp(self.mapping.get_buffer("w_avg"), x, psi)

    def images(self, ws: torch.Tensor, noisy: bool = False) -> torch.Tensor:
        """Of W+ (b, num_ws, w_dim)."""
        image: Any = None
        x: Any = None
        layer = 0
        for edge in self.edges:
            block: Any = getattr(self.synthesis, f"b{edge}")
            if edge == 4:
                x = block.const.expand(len(ws), -1, -1, -1)
            else:
                x = block.conv0(x, ws[:, layer], noisy)
                layer += 1
            x = block.conv1(x, ws[:, layer], noisy)
            layer += 1
            colours = block.torgb(x, ws[:, layer])  # the next block's first w
            image = colours if image is None else doubled(image) + colours
        return image

    def forward(self, z: torch.Tensor, noisy: bool = False) -> torch.Tensor:
        w = self.w(z)
        n = 2 * len(self.edges)
        return self.images(w[:, None].expand(-1, n, -1), noisy)

    def styles(self, ws: torch.Tensor) -> torch.Tensor:
        """Every layer's style, side by side."""
        found: list[torch.Tensor] = []
        for i, edge in enumerate(self.edges):
            block: Any = getattr(self.synthesis, f"b{edge}")
            names: Sequence[str] = ("conv0", "conv1", "torgb")[edge == 4 :]
            first = max(2 * i - 1, 0)
            for j, name in enumerate(names):
                found.append(getattr(block, name).affine(ws[:, first + j]))
        return torch.cat(found, 1)
