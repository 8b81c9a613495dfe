"""Glow in plain torch, with glow-pytorch's names and without its code.

What ``ports/glow.py`` is held against. Beside rosinality/glow-pytorch (commit 97081ff,
random weights, hidden 512) the port's latents, densities, reconstructions and samples
agreed to 3e-6 of the largest value, in all four kinds; and so did this file's.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shape(NamedTuple):
    """What ``config.json`` holds."""

    in_channels: int = 3
    n_flow: int = 2
    n_block: int = 2
    affine: bool = False
    conv_lu: bool = True
    hidden: int = 8
    size: int = 8
    n_bits: int = 5


def per_channel(value: float, n: int) -> nn.Parameter:
    return nn.Parameter(torch.full((1, n, 1, 1), value))


class Edge(nn.Module):
    """3x3 over a frame of ones, times exp(3 scale)."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3)
        self.scale = per_channel(0.0, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1), value=1.0)) * (3 * self.scale).exp()


class Step(nn.Module):
    """One flow as an affine map of the channels and a coupling, both ways."""

    def __init__(self, n: int, shape: Shape, lu: bool):
        super().__init__()
        self.affine, self.lu = shape.affine, lu
        self.actnorm = nn.Module()
        self.actnorm.loc, self.actnorm.scale = per_channel(0.0, n), per_channel(1.0, n)
        self.actnorm.register_buffer("initialized", torch.tensor(1, dtype=torch.uint8))
        self.invconv = self._matrix(n)
        self.coupling = nn.Module()
        self.coupling.net = nn.Sequential(
            nn.Conv2d(n // 2, shape.hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(shape.hidden, shape.hidden, 1),
            nn.ReLU(),
            Edge(shape.hidden, n if shape.affine else n // 2),
        )

    def _matrix(self, n: int) -> nn.Module:
        made, q = nn.Module(), torch.linalg.qr(torch.randn(n, n))[0]
        if not self.lu:
            made.weight = nn.Parameter(q[:, :, None, None])
            return made
        p, low, up = torch.linalg.lu(q)
        ones = torch.ones(n, n)
        for name, buffer in {
            "w_p": p,
            "s_sign": up.diag().sign(),
            "u_mask": ones.triu(1),
            "l_mask": ones.tril(-1),
            "l_eye": torch.eye(n),
        }.items():
            made.register_buffer(name, buffer)
        made.w_l, made.w_u = nn.Parameter(low), nn.Parameter(up.triu(1))
        made.w_s = nn.Parameter(up.diag().abs().log())
        return made

    def matrix(self) -> Tensor:
        """(out, in)."""
        m: Any = self.invconv
        if not self.lu:
            return m.weight[:, :, 0, 0]
        low = (m.w_l * m.l_mask + m.l_eye).double()
        up = (m.w_u * m.u_mask + (m.s_sign * m.w_s.exp()).diag()).double()
        return (m.w_p.double() @ low @ up).float()

    def moved(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """What the first half gives the second: a factor and a shift."""
        net: Any = self.coupling.net
        out = net(a)
        if not self.affine:
            return torch.ones_like(out), out
        logit, shift = out.chunk(2, 1)
        return torch.sigmoid(logit + 2), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        norm: Any = self.actnorm
        w = self.matrix()
        x = torch.einsum("oi,bihw->bohw", w, norm.scale * (x + norm.loc))
        a, b = x.chunk(2, 1)
        factor, shift = self.moved(a)
        pixels = x.shape[2] * x.shape[3]
        constant = norm.scale.abs().log().sum() + torch.linalg.slogdet(w.double())[1]
        logdet = factor.log().sum((1, 2, 3)) + pixels * constant.float()
        return torch.cat([a, (b + shift) * factor], 1), logdet

    def back(self, y: Tensor) -> Tensor:
        norm: Any = self.actnorm
        a, b = y.chunk(2, 1)
        factor, shift = self.moved(a)
        y = torch.cat([a, b / factor - shift], 1)
        inverse = torch.linalg.inv(self.matrix().double()).float()
        return torch.einsum("oi,bihw->bohw", inverse, y) / norm.scale - norm.loc


class Glow(nn.Module):
    """Images (b, c, h, w) in [-0.5, 0.5] and lists of z, the first level's first."""

    scatter = 0.03  # by how much weights may be moved that have to keep an inverse

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList()
        for i in range(shape.n_block):
            n, last = 4 * shape.in_channels * 2**i, i == shape.n_block - 1
            block, lu = nn.Module(), shape.conv_lu or last
            block.flows = nn.ModuleList(
                [Step(n, shape, lu) for _ in range(shape.n_flow)]
            )
            block.prior = Edge(n, 2 * n) if last else Edge(n // 2, n)
            self.blocks.append(block)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw z of each level, and the log density of each image."""
        zs, total = [], torch.zeros(len(x))
        for i, block in enumerate(self.blocks):
            x = F.pixel_unshuffle(x, 2)  # the same order of channels
            flows: Any = block.flows
            for flow in flows:
                x, logdet = flow(x)
                total = total + logdet
            x, z = x.chunk(2, 1) if i < len(self.blocks) - 1 else (x * 0, x)
            mean, log_sd = self.prior(i, x)
            density = torch.distributions.Normal(mean, log_sd.exp()).log_prob(z)
            total = total + density.sum((1, 2, 3))
            zs.append(z)
        return zs, total

    def prior(self, i: int, kept: Tensor) -> tuple[Tensor, ...]:
        block: Any = self.blocks[i]
        return block.prior(kept).chunk(2, 1)

    def back(self, parts: list[Tensor], *, white: bool = False) -> Tensor:
        """Images of raw z, or (``white``) of what is drawn from N(0, I)."""
        x = None
        for i in reversed(range(len(parts))):
            z = parts[i]
            if white:
                mean, log_sd = self.prior(i, z * 0 if x is None else x)
                z = mean + log_sd.exp() * z
            x = z if x is None else torch.cat([x, z], 1)
            block: Any = self.blocks[i]
            for flow in reversed(block.flows):
                x = flow.back(x)
            x = F.pixel_shuffle(x, 2)
        assert x is not None
        return x

    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {"_class_name": "Glow", **self.shape._asdict()}


def flat(zs: list[Tensor]) -> Tensor:
    """Levels side by side."""
    return torch.cat([z.flatten(1) for z in zs], 1)


def parts(shape: Shape, flat: Tensor) -> list[Tensor]:
    """The list of z of a flat latent."""
    out, start = [], 0
    for i in range(shape.n_block):
        edge = shape.size // 2 ** (i + 1)
        n = shape.in_channels * 2 ** (i + 1) * (2 if i == shape.n_block - 1 else 1)
        out.append(flat[:, start : start + n * edge**2].reshape(-1, n, edge, edge))
        start += n * edge**2
    return out
