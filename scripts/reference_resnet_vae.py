"""DiffuseVAE's ResNet VAE in plain torch, with its names and without its code.

What ``ports/resnet_vae.py`` is held against, as the repository needs Lightning. Beside
kpandey008/DiffuseVAE (commit 8e6d251, its CelebA-64 and CIFAR-10 networks with random
weights) the port's means, log-variances and images agreed to 4e-6 of the largest value;
and so did this file's.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Four convolutions, each after a GELU."""

    def __init__(self, n: int, level: int, pool: int):
        super().__init__()
        inner, edge = n // 2, 3 if level > 1 else 1
        for i, (a, b, k) in enumerate(
            ((n, inner, 1), (inner, inner, edge), (inner, inner, edge), (inner, n, 1)),
            1,
        ):
            self.add_module(f"c{i}", nn.Conv2d(a, b, k, padding=k // 2))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.children():
            y = layer(F.gelu(y))
        return F.avg_pool2d(x + y, self.pool)


def trunk(blocks: str, channels: dict[int, int]) -> nn.Sequential:
    """The modules of a block string, as many and in the order of the reference."""
    layers: list[nn.Module] = []
    for entry in blocks.split(","):
        level, kind, value = re.fullmatch(r"(\d+)(?:([xdut])(\d+))?", entry).groups()  # pyright: ignore
        n, number = channels[int(level)], int(value or 1)
        if kind == "t":
            layers.append(nn.Conv2d(n, channels[number], 1, bias=False))
        elif kind == "u":
            layers.append(nn.Upsample(scale_factor=number))
        elif kind == "d":
            layers.append(Residual(n, int(level), number))
        else:
            layers += [Residual(n, int(level), 1) for _ in range(number)]
    return nn.Sequential(*layers)


class ResNetVAE(nn.Module):
    """Images (b, 3, h, w) in [0, 1] and latents (b, d, 1, 1)."""

    def __init__(
        self, size: int, enc: str, dec: str, enc_channels: str, dec_channels: str
    ):
        super().__init__()
        self.strings = (size, enc, dec, enc_channels, dec_channels)
        widths = [
            {int(k): int(v) for k, v in (pair.split(":") for pair in s.split(","))}
            for s in (enc_channels, dec_channels)
        ]
        n = widths[0][1]
        self.enc, self.dec = nn.Module(), nn.Module()
        self.enc.in_conv = nn.Conv2d(3, widths[0][size], 3, padding=1, bias=False)
        self.enc.block_mod = trunk(enc, widths[0])
        self.enc.mu = nn.Conv2d(n, n, 1, bias=False)
        self.enc.logvar = nn.Conv2d(n, n, 1, bias=False)
        self.dec.block_mod = trunk(dec, widths[1])
        self.dec.last_conv = nn.Conv2d(widths[1][size], 3, 3, padding=1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (b, d, 1, 1)."""
        enc: Any = self.enc
        x = enc.block_mod(enc.in_conv(images))
        return enc.mu(x), enc.logvar(x)

    def decode(self, z: Tensor) -> Tensor:
        """Images in [0, 1]."""
        dec: Any = self.dec
        return torch.sigmoid(dec.last_conv(dec.block_mod(z)))

    def hyper_parameters(self) -> dict[str, Any]:
        """As Lightning keeps them in a checkpoint."""
        names = ("input_res", "enc_block_str", "dec_block_str")
        names += ("enc_channel_str", "dec_channel_str")
        return dict(zip(names, self.strings, strict=True))

    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {"_class_name": "ResNetVAE", **self.hyper_parameters()}
